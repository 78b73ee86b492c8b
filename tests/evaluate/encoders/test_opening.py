import numpy as np
import pytest
import timm
import torch
from sharding import blobs

from vice.data_specs.errors import InputError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.encoders.opening import Opened, _trained_from, open_encoder
from vice.evaluate.encoders.protocol import Encoder
from vice.train.config import ModelConfig, TrainConfig
from vice.train.export import export_run
from vice.train.network.packaged_weights import packaged_file

CPU = torch.device("cpu")
PICTURE = blobs(75, 50, seed=4)[None]


def named(opened: Opened, name: str) -> Encoder:
    return next(one.encoder for one in opened.compared if one.name == name)


def test_a_checkpoint_its_run_and_its_export_are_one_encoder(checkpoints, tmp_path):
    run = checkpoints["first"].parent.parent
    export_run(checkpoints["first"], tmp_path / "exported")
    ways = [open_encoder(str(way), device=CPU) for way in (checkpoints["first"], run, tmp_path / "exported")]
    maps = [(way.encoder.embed(PICTURE), named(way, "untrained").embed(PICTURE), way.concepts) for way in ways]
    for trained, untrained, concepts in maps:
        assert trained.shape == (1, 8, 13, 19)
        np.testing.assert_array_equal(trained, maps[0][0])
        np.testing.assert_array_equal(untrained, maps[0][1])
        np.testing.assert_array_equal(concepts, maps[0][2])
        assert (trained != untrained).any()
    assert [way.ref.kind for way in ways] == ["checkpoint", "checkpoint", "export"]
    assert ways[0].ref == ways[1].ref
    assert ways[0].ref.model_copy(update={"kind": "export", "sha256": ways[2].ref.sha256}) == ways[2].ref
    assert ways[0].run_dir == run and ways[2].run_dir is None
    names = ["trained", "random encoder", "random encoder, 8 values", "untrained", "colour + position", "colour"]
    assert [one.name for one in ways[2].compared] == names
    assert [one.dim for one in ways[2].compared] == [8, 960, 8, 8, 5, 3]
    assert ways[2].missing == {}


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (32, 32)])
def test_pictures_of_a_few_pixels_have_maps(checkpoints, size):
    """Their deepest map would be one cell, of which normalising layers have no mean."""
    encoder = open_encoder(str(checkpoints["first"]), device=CPU).encoder
    found = encoder.embed(blobs(*size, seed=1)[None])
    assert found.shape == (1, 8, -(-size[1] // 4), -(-size[0] // 4)) and np.isfinite(found).all()


@pytest.mark.parametrize(
    ("source", "output_stride", "dim", "stride"),
    [
        ("timm/resnet18", 32, 512, 32),
        ("timm/resnet50", 8, 2048, 8),
        ("torchvision/resnet50", 16, 2048, 16),
        ("timm/vit_tiny_patch16_224", 32, 192, 16),
    ],
)
def test_networks_of_timm_and_torchvision_give_their_last_map(source, output_stride, dim, stride):
    state = torch.random.get_rng_state()
    opened = open_encoder(source, device=CPU, output_stride=output_stride, levels="last")
    assert torch.equal(state, torch.random.get_rng_state())
    assert (opened.ref.dim, opened.ref.stride, opened.encoder.stride) == (dim, stride, stride)
    assert opened.encoder.embed(PICTURE).shape == (1, dim, -(-50 // stride), -(-75 // stride))
    # without weights there is nothing that was trained
    assert [one.name for one in opened.compared] == ["untrained", "colour + position", "colour"]
    assert not any(one.standardise for one in opened.compared)
    again = open_encoder(source, device=CPU, output_stride=output_stride, levels="last")
    np.testing.assert_array_equal(opened.encoder.embed(PICTURE), again.encoder.embed(PICTURE))
    assert opened.ref == again.ref


def test_weights_from_a_file_stand_beside_random_ones(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model("resnet18")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    opened = open_encoder("timm/resnet18", device=CPU, weights=str(tmp_path / "weights.pth"), levels="last")
    names = [one.name for one in opened.compared]
    assert names == ["trained", "untrained", "colour + position", "colour"]
    picture = blobs(96, 64, seed=4)[None]
    images = torch.from_numpy((picture / 255 - IMAGE_MEAN) / IMAGE_STD).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = network.eval().forward_features(images).numpy()
    np.testing.assert_allclose(opened.encoder.embed(picture), expected, atol=1e-4)
    random = open_encoder("timm/resnet18", device=CPU, levels="last")
    np.testing.assert_array_equal(named(opened, "untrained").embed(PICTURE), random.encoder.embed(PICTURE))
    assert opened.ref.sha256 != random.ref.sha256


def test_packaged_weights_are_identified_by_their_file_and_said_to_be_trained_with_labels():
    opened, random = (
        open_encoder("timm/tf_efficientnet_lite0", device=CPU, weights=weights, levels="last")
        for weights in ("packaged", "none")
    )
    assert opened.ref.weights == "packaged (ImageNet labels)" and opened.ref.sha256 != random.ref.sha256
    path = packaged_file("tf_efficientnet_lite0")
    from_file = open_encoder("timm/tf_efficientnet_lite0", device=CPU, weights=str(path), levels="last")
    assert opened.ref.sha256 == from_file.ref.sha256
    whole = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(path, weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), tensors.values(), strict=True)))
    # normalised as the weights were trained, not as the loader normalises
    picture = blobs(96, 64, seed=4)[None]
    images = torch.from_numpy(picture / 127.5 - 1).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = whole.eval().forward_intermediates(images, intermediates_only=True)[-1].numpy()
    np.testing.assert_allclose(opened.encoder.embed(picture), expected, atol=1e-3)


def test_a_checkpoint_says_what_it_was_trained_from(checkpoints):
    assert open_encoder(str(checkpoints["first"]), device=CPU).ref.weights == "trained from random weights"
    config = TrainConfig(name="x", model=ModelConfig(encoder="tf_efficientnet_lite0", weights="packaged"))
    assert _trained_from(config) == "trained from the encoder's packaged weights (ImageNet, trained with labels)"


OWN = """
import numpy as np

class Brightness:
    stride = 8

    def embed(self, pictures):
        n, h, w, _ = pictures.shape
        rows, columns = -(-h // 8), -(-w // 8)
        padded = np.pad(pictures, ((0, 0), (0, rows * 8 - h), (0, columns * 8 - w), (0, 0)), mode="edge")
        cells = padded.reshape(n, rows, 8, columns, 8, 3)
        return cells.mean(axis=(2, 4, 5), dtype=np.float32)[:, None]

class Wrong(Brightness):
    def embed(self, pictures):
        return super().embed(pictures)[:, :, 1:]

class Raises(Brightness):
    def embed(self, pictures):
        raise KeyError("gone")

class Needs(Brightness):
    def __init__(self, weights):
        pass

class Untold(Brightness):
    fingerprint = 3

made = Brightness()
nothing = 3
"""


@pytest.mark.parametrize("name", ["Brightness", "made"])
def test_a_user_s_own_object(tmp_path, name):
    (tmp_path / "own.py").write_text(OWN)
    opened = open_encoder(f"{tmp_path / 'own.py'}:{name}", device=CPU)
    assert isinstance(opened.encoder, Encoder)
    assert (opened.ref.kind, opened.ref.dim, opened.ref.stride) == ("python", 1, 8)
    assert opened.encoder.embed(PICTURE).shape == (1, 1, 7, 10)
    (tmp_path / "own.py").write_text(OWN + "# changed\n")
    assert open_encoder(f"{tmp_path / 'own.py'}:{name}", device=CPU).ref.sha256 != opened.ref.sha256


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{own}:Wrong", r"embed\(\) gave ndarray float32 \(2, 1, 4, 7\): .*\[2, d, 5, 7\]"),
        ("{own}:nothing", "no encoder"),
        ("{own}:absent", "has no object 'absent'"),
        ("no_such_module_here:x", "cannot be imported"),
        ("{own}:Raises", "embed.. raised KeyError: 'gone'"),
        ("{own}:Needs", "raised TypeError: .*weights"),
        ("{own}:Untold", "its fingerprint is int"),
        ("{folder}/exits.py:x", "cannot be imported .SystemExit"),
        ("{folder}/wrong.py:x", "cannot be imported .SyntaxError"),
        ("{folder}/absent.py:x", "no such file"),
        ("{folder}", "no such checkpoint"),
        ("timm/resnet81", "timm has no such network"),
    ],
)
def test_what_is_no_encoder_is_told_in_one_line(tmp_path, source, message):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "wrong.py").write_text("def (")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)")
    with pytest.raises(InputError, match=message) as caught:
        open_encoder(source.format(own=tmp_path / "own.py", folder=tmp_path), device=CPU)
    assert "\n" not in caught.value.line()


def test_weights_are_for_other_peoples_networks_only(checkpoints):
    with pytest.raises(InputError, match="only networks of timm and torchvision take weights"):
        open_encoder(str(checkpoints["first"]), device=CPU, weights="default")
    with pytest.raises(InputError, match="no such stride"):
        open_encoder("timm/resnet18", device=CPU, output_stride=7)
