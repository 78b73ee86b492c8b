"""Step 0: the embedding is the fitted linear map of the frozen encoder's maps, by a plain reference; fits are exact."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from region_vectors import make_vectors
from tiny_run import tiny

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.pipeline.shards import Shards
from vice.train import export
from vice.train.distributed import Process
from vice.train.export import export_run, export_start, load_export
from vice.train.network.encoders import build_encoder
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, initial_model, load_region_model, read_checkpoint
from vice.train.start import PictureRegions, fit_start
from vice.train.state import begin, new_state, save_state

ONE = Process(0, 1, torch.device("cpu"))
DIM = 4


@pytest.fixture(scope="module")
def shards(scene_shards):
    return Shards(scene_shards["train"])


@pytest.fixture(scope="module")
def teacher(shards, tmp_path_factory):
    return make_vectors(shards, "slic:12", tmp_path_factory.mktemp("teacher") / "out")


def config(teacher=None, decoder="fpn", **changes):
    model = {"encoder": "regnetx_002", "decoder": decoder, "decoder_channels": 64}
    fields = {"model": {**model, "embedding_dim": DIM, "start": "encoder"}, "reader": "plain"}
    return tiny(**{**fields, "teacher": None if teacher is None else str(teacher.address), **changes})


def begun(shards, settings):
    run = new_state(settings, shards, ONE)
    begin(run, shards)
    return run


def upsampled_maps(model, images):
    """The frozen encoder's four maps, each upsampled to the first one's size; [v, c, h, w]."""
    with torch.no_grad():
        maps = model.encoder(images)
        size = maps[0].shape[-2:]
        return torch.cat([F.interpolate(one, size, mode="bilinear", align_corners=False) for one in maps], 1)


@pytest.mark.parametrize("with_teacher", [False, True], ids=["pca", "ridge"])
@pytest.mark.parametrize("decoder", ["fpn", "deeplabv3plus"])
def test_at_step_0_the_embedding_is_the_fitted_map_of_the_frozen_standardised_maps(
    shards, teacher, decoder, with_teacher
):
    run = begun(shards, config(teacher if with_teacher else None, decoder))
    dense, start = run.model.dense.eval(), run.start
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    maps = upsampled_maps(dense, images)
    standardised = (maps - start.mean[:, None, None]) / start.deviation[:, None, None]
    expected = torch.einsum("dc,vchw->vdhw", start.weight, standardised) + start.bias[:, None, None]
    with torch.no_grad():
        raw, found = dense.raw(images), dense(images)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(raw, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, F.normalize(expected, dim=1), atol=1e-4, rtol=0)
    torch.testing.assert_close(run.model.concepts.detach(), start.concepts)
    torch.testing.assert_close(start.concepts.norm(dim=1), torch.ones(8))


def region_vectors(shards, settings):
    """Region means of the upsampled maps at the picture's own resolution, of every picture, the plain way."""
    encoder = build_encoder(settings.model).eval()
    encoder.load_state_dict(begun(shards, settings).model.dense.encoder.state_dict())
    rows = []
    for number in range(len(shards)):
        sample = shards.sample(number, layers=["slic12"])
        ids = torch.from_numpy(sample.regions["slic12"].astype(np.int64))
        height, width = ids.shape
        padded = np.pad(sample.picture, ((0, -height % 32), (0, -width % 32), (0, 0)), mode="symmetric")
        image = (padded.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
        with torch.no_grad():
            maps = encoder(torch.from_numpy(image).float().permute(2, 0, 1)[None])
        full = [F.interpolate(one, padded.shape[:2], mode="bilinear", align_corners=False)[0] for one in maps]
        pixels = torch.cat(full).double()[:, :height, :width].flatten(1)
        sums = torch.zeros(int(ids.max()) + 1, len(pixels), dtype=torch.float64).index_add_(0, ids.flatten(), pixels.T)
        rows.append(sums / torch.bincount(ids.flatten())[:, None])
    return torch.cat(rows).numpy()


def test_without_a_teacher_it_is_the_subspace_of_numpys_svd(shards):
    """Of the region means of all ten pictures, computed at the pictures' own resolution."""
    settings = config()
    start, vectors = begun(shards, settings).start, region_vectors(shards, settings)
    assert vectors.shape[1] == len(start.mean)
    # some of a random network's channels are zero everywhere
    deviation = np.where(vectors.std(0) > 1e-6, vectors.std(0), 1)
    np.testing.assert_allclose(start.mean, vectors.mean(0), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(start.deviation, deviation, atol=1e-4, rtol=1e-3)
    _, _, directions = np.linalg.svd((vectors - vectors.mean(0)) / deviation, full_matrices=False)
    cosines = np.abs((directions[:DIM] * start.weight.numpy()).sum(1))
    assert cosines.min() > 1 - 1e-4 and not start.bias.any()
    # the sign is fixed by the largest part
    assert (np.take_along_axis(start.weight.numpy(), np.abs(start.weight.numpy()).argmax(1)[:, None], 1) > 0).all()


def made_up(num_pictures=20, channels=12, dim=6, noise=0.0):
    """Regions whose teacher's vectors are a linear map of the encoder's, with some noise."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels, dim, generator=generator)
    scale = torch.logspace(-1, 1, channels)
    for _ in range(num_pictures):
        own = torch.randn(30, channels, generator=generator) * scale + 5
        yield PictureRegions(own, own @ mixing + 3 + noise * torch.randn(30, dim, generator=generator))


def test_with_a_teacher_it_is_the_ridge_regression_onto_its_reduced_vectors():
    settings = config().model_copy(update={"teacher": "vectors"})
    start = fit_start(made_up(noise=0.5), settings)
    own, theirs = (torch.cat(part).double().numpy() for part in zip(*made_up(noise=0.5), strict=True))
    standard = (theirs - theirs.mean(0)) / theirs.std(0)
    _, _, directions = np.linalg.svd(standard, full_matrices=False)
    signs = np.sign((directions[:DIM] * start.teacher.components.numpy()).sum(1))
    reduced = standard @ (signs[:, None] * directions[:DIM]).T
    targets = reduced / np.linalg.norm(reduced, axis=1, keepdims=True)
    torch.testing.assert_close(
        start.teacher.apply(torch.from_numpy(theirs)), torch.from_numpy(targets).float(), atol=1e-4, rtol=0
    )
    # ridge regression as least squares with rows of penalty
    inputs = (own - own.mean(0)) / own.std(0)
    penalty = np.sqrt(1e-3 * len(inputs)) * np.eye(inputs.shape[1])
    rows = np.concatenate([targets - targets.mean(0), np.zeros((len(penalty), DIM))])
    weight, *_ = np.linalg.lstsq(np.concatenate([inputs, penalty]), rows, rcond=None)
    np.testing.assert_allclose(start.weight, weight.T, atol=1e-5)
    np.testing.assert_allclose(start.bias, targets.mean(0), atol=1e-5)


def flat(start):
    return {f"{name}": value for name, value in export._flat(start.state_dict()).items()}


def assert_equal(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("with_teacher", [False, True])
def test_two_fits_are_equal_to_the_bit(shards, teacher, with_teacher):
    settings = config(teacher if with_teacher else None)
    assert_equal(*(begun(shards, settings).start for _ in range(2)))


def test_the_start_is_kept_in_checkpoints_and_exports_and_gives_the_network_of_step_0(
    shards, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "_write_onnx", lambda path, model: path.touch())
    settings = config(teacher)
    run = begun(shards, settings)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = run.model.dense.eval()(images)
        for parameter in run.model.parameters():
            parameter.mul_(1.1)
    run.step = 3
    save_state(run, tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / CHECKPOINT_FOLDER / LAST)
    assert_equal(checkpoint.start, run.start)
    export_run(tmp_path / "run", tmp_path / "out")
    assert_equal(export_start(tmp_path / "out"), run.start)
    with torch.no_grad():
        assert torch.equal(initial_model(settings, checkpoint.start)(images), before)
        trained = load_region_model(checkpoint).eval()
        assert torch.equal(load_export(tmp_path / "out").dense(images), trained.dense(images))
        assert not torch.equal(trained.dense(images), before)


def test_an_export_of_a_random_start_has_none(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_write_onnx", lambda path, model: path.touch())
    run = new_state(tiny(reader="plain"), shards, ONE)
    save_state(run, tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out")
    assert export_start(tmp_path / "out") is None
    assert read_checkpoint(tmp_path / "run" / CHECKPOINT_FOLDER / LAST).start is None


def with_model(**changes):
    settings = config()
    return settings.model_copy(update={"model": settings.model.model_copy(update=changes)})


def test_what_cannot_be_fitted_is_one_line():
    with pytest.raises(InputError, match=r"teacher's vectors have 6 dimensions, fewer than 9: model.embedding_dim; "):
        fit_start(made_up(), with_model(embedding_dim=9))
    own = (PictureRegions(picture.own, None) for picture in made_up())
    with pytest.raises(InputError, match=r"encoder's maps together have 12 dimensions, fewer than 13"):
        fit_start(own, with_model(embedding_dim=13))
    with pytest.raises(InputError, match=r"6 regions, fewer than the 8 concepts: assignment.num_concepts"):
        fit_start(iter([PictureRegions(torch.randn(6, 12), None)]), config())
    with pytest.raises(WorkError, match="the encoder's maps are not finite"):
        fit_start(iter([PictureRegions(torch.full((9, 12), torch.nan), None)]), config())


def test_centring_after_the_linear_map_is_refused():
    with pytest.raises(ValueError, match=r"'model.centre' would undo 'model.start=encoder'"):
        config(model={"start": "encoder", "centre": True})
