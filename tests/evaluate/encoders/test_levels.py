import numpy as np
import pytest
import timm
import torch
from sharding import blobs

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.encoders.backbones import build_backbone
from vice.evaluate.encoders.levels import BackboneMaps, FittedLevels, LevelsEncoder
from vice.train.config import ModelConfig

CPU = torch.device("cpu")
PICTURES = np.stack([blobs(75, 50, seed=seed) for seed in (4, 5)])
CELLS = (13, 19)
CHANNELS = {"resnet18": (64, 128, 256, 512), "regnetx_002": (24, 56, 152, 368)}


def maps_of(name: str, **options) -> BackboneMaps:
    return BackboneMaps(build_backbone(ModelConfig(encoder=name), levels="all", seed=0, **options), device=CPU)


def timm_maps(name: str) -> list[np.ndarray]:
    """The network's maps of the pictures, padded by hand to 96 × 64, by timm alone."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1)).eval()
    padded = np.pad(PICTURES, ((0, 0), (0, 14), (0, 21), (0, 0)), mode="reflect")
    images = torch.from_numpy((padded / 255 - IMAGE_MEAN) / IMAGE_STD).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        return [one.numpy() for one in network(images)]


def upsampled(one: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear upsampling by a whole factor, pixel centres aligned, as plain matrices."""

    def matrix(cells: int) -> np.ndarray:
        centres = np.clip((np.arange(cells * factor) + 0.5) / factor - 0.5, 0, cells - 1)
        return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(cells)))

    rows, columns = one.shape[2:]
    return np.einsum("ir,ndrc,jc->ndij", matrix(rows), one.astype(np.float64), matrix(columns))


@pytest.mark.parametrize("name", CHANNELS)
def test_maps_are_upsampled_and_concatenated_as_a_plain_reference_does(name):
    encoder = LevelsEncoder("all", maps_of(name))
    found = encoder.embed(PICTURES)
    dim = sum(CHANNELS[name])
    assert (encoder.dim, encoder.stride, found.shape, found.dtype) == (dim, 4, (2, dim, *CELLS), np.float32)
    whole = np.concatenate([upsampled(one, 2**level) for level, one in enumerate(timm_maps(name))], axis=1)
    expected = whole[:, :, : CELLS[0], : CELLS[1]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", CHANNELS)
def test_standardised_and_reduced_before_upsampling_or_after_it(name):
    """The reference standardises and projects the upsampled, concatenated map."""
    maps = maps_of(name)
    raw = LevelsEncoder("raw", maps).embed(PICTURES).astype(np.float64)
    draws = np.random.Generator(np.random.Philox(key=1))
    mean, deviation = raw.mean(axis=(0, 2, 3)), raw.std(axis=(0, 2, 3)) + 0.1
    components = draws.standard_normal((7, raw.shape[1]))
    expected = (raw - mean[:, None, None]) / deviation[:, None, None]
    standardised = FittedLevels("standardised", maps, mean=mean, deviation=deviation)
    np.testing.assert_allclose(standardised.embed(PICTURES), expected, rtol=0, atol=1e-4)
    reduced = FittedLevels("reduced", maps, mean=mean, deviation=deviation, components=components)
    assert (standardised.dim, reduced.dim, reduced.stride) == (raw.shape[1], 7, 4)
    projected = np.einsum("dc,nchw->ndhw", components, expected)
    np.testing.assert_allclose(reduced.embed(PICTURES), projected, rtol=0, atol=1e-4 * np.abs(projected).max())


def test_encoders_of_the_same_maps_share_a_forward_pass():
    maps = maps_of("regnetx_002")
    calls = []
    maps._backbone.register_forward_hook(lambda *_: calls.append(1))
    first, second = LevelsEncoder("first", maps), LevelsEncoder("second", maps)
    np.testing.assert_array_equal(first.embed(PICTURES), second.embed(PICTURES.copy()))
    assert len(calls) == 1
    changed = PICTURES.copy()
    before = first.embed(changed)
    changed[0, 0, 0, 0] ^= 255  # the same array with other content is another batch
    assert (second.embed(changed) != before).any()
    assert len(calls) == 2


def test_a_plain_transformer_has_one_map():
    encoder = LevelsEncoder("all", maps_of("vit_tiny_patch16_224"))
    assert (encoder.dim, encoder.stride) == (192, 16)
    assert encoder.embed(PICTURES).shape == (2, 192, 4, 5)


def test_pictures_are_normalised_as_the_weights_want_them(tmp_path):
    """Lite0's weights were made with pictures from -1 to 1, not with ImageNet's mean and deviation."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = timm.create_model("tf_efficientnet_lite0").eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    config = ModelConfig(encoder="tf_efficientnet_lite0", weights=str(tmp_path / "weights.pth"))
    encoder = LevelsEncoder("last", BackboneMaps(build_backbone(config, levels="last", seed=0), device=CPU))
    picture = blobs(96, 64, seed=4)[None]
    taps = []
    network.blocks.register_forward_hook(lambda _module, _input, output: taps.append(output))
    with torch.inference_mode():
        network(torch.from_numpy(picture / 127.5 - 1).permute(0, 3, 1, 2).float())
    expected = taps[0].numpy()
    np.testing.assert_allclose(encoder.embed(picture), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_seed_decides_random_weights_and_nothing_else_is_drawn():
    state = torch.random.get_rng_state()
    config = ModelConfig(encoder="regnetx_002")
    weights = [build_backbone(config, levels="all", seed=seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(state, torch.random.get_rng_state())
    same, other = (all(torch.equal(a, b[key]) for key, a in weights[0].items()) for b in weights[1:])
    assert same and not other
