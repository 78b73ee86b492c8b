import numpy as np
import pytest
import torch

from vice.data_specs.errors import InputError
from vice.evaluate.encoders import fitting
from vice.evaluate.encoders.fitting import Compared, Moments, check_dims, drawn_cells, prepare, spaced
from vice.evaluate.encoders.levels import BackboneMaps, LevelsEncoder
from vice.evaluate.encoders.opening import open_encoder
from vice.evaluate.encoders.raw import ColourEncoder
from vice.evaluate.encoders.tiles import TiledEncoder

CPU = torch.device("cpu")


def vectors(count: int = 400, dim: int = 12) -> np.ndarray:
    """Correlated, with means far from zero, and one channel that is constant."""
    draws = np.random.Generator(np.random.Philox(key=5))
    found = draws.standard_normal((count, dim)) @ draws.standard_normal((dim, dim)) + 50 * np.arange(dim)
    found[:, 3] = 0.1
    return found.astype(np.float32)


def moments(parts: list[np.ndarray], num_directions: int = 12) -> fitting.Statistics:
    sums = Moments(parts[0].shape[1], num_directions=num_directions)
    for part in parts:
        sums.add(part)
    return sums.statistics()


def test_mean_deviation_and_directions_equal_numpy_s():
    data = vectors()
    found = moments(np.array_split(data, 7))
    values = data.astype(np.float64)
    deviation = values.std(axis=0)
    deviation[3] = 1
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-9)
    _, sizes, directions = np.linalg.svd((values - values.mean(axis=0)) / deviation, full_matrices=False)
    np.testing.assert_allclose(found.variances, sizes**2 / len(data), atol=1e-9)
    # the constant channel leaves one direction without variance, which is any vector
    cosines = np.abs((found.directions * directions).sum(axis=1))[:-1]
    np.testing.assert_allclose(cosines, 1, atol=1e-8)
    largest = np.abs(found.directions).argmax(axis=1)
    assert (found.directions[np.arange(len(largest)), largest] > 0).all()
    assert (found.num_vectors, round(found.total_variance, 6)) == (len(data), 11)
    few = moments([data], num_directions=4)
    np.testing.assert_allclose(few.variances, found.variances[:4])
    np.testing.assert_allclose(few.directions, found.directions[:4], atol=1e-8)


def test_pictures_are_evenly_spaced_and_cells_a_function_of_the_picture():
    assert spaced(7) == list(range(7))
    numbers = spaced(2975)
    assert len(numbers) == fitting.NUM_PICTURES and (numbers[0], numbers[-1]) == (0, 2974)
    assert set(np.diff(numbers)) == {14, 15}
    embedding = np.arange(40 * 30, dtype=np.float32).reshape(1, 40, 30)
    first, again, other = (drawn_cells(embedding, number)[:, 0] for number in (3, 3, 4))
    assert len(np.unique(first)) == fitting.CELLS_PER_PICTURE
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def backbone(dims: int | None = None) -> list[Compared]:
    opened = open_encoder("timm/regnetx_002", device=CPU, dims=dims)
    return opened.compared


def test_a_fit_on_train_makes_channels_comparable(train):
    """On the vectors of the fit, every channel has mean 0 and deviation 1, and PCA's values no covariance."""
    (whole, *_), (reduced, *_) = (prepare(backbone(dims), train) for dims in (None, 9))
    drawn = {}
    for name, one in (("whole", whole), ("reduced", reduced)):
        pictures = [train.sample(number, layers=[]).picture for number in spaced(len(train))]
        maps = [one.encoder.embed(picture[None])[0] for picture in pictures]
        drawn[name] = np.concatenate([drawn_cells(found, number) for number, found in enumerate(maps)])
    assert len(drawn["whole"]) == whole.about.fitted_on.num_vectors > 1000
    np.testing.assert_allclose(drawn["whole"].mean(axis=0), 0, atol=1e-4)
    deviations = drawn["whole"].std(axis=0)
    living = deviations > 0  # some channels of a random network are zero everywhere
    assert living.mean() > 0.9
    np.testing.assert_allclose(deviations[living], 1, atol=1e-3)
    covariance = np.cov(drawn["reduced"].T.astype(np.float64), bias=True)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-3 * variances[0])
    assert (np.diff(variances) < 0).all()
    explained = variances.sum() / drawn["whole"].var(axis=0).sum()
    assert reduced.about.explained_variance == pytest.approx(explained, rel=1e-3)
    assert (reduced.about.dim, reduced.about.reduced_from, whole.about.reduced_from) == (9, 600, None)
    assert reduced.about.fitted_on == whole.about.fitted_on
    assert (whole.about.role, whole.about.levels, whole.about.standardised) == ("evaluated", "all", True)
    assert whole.about.fitted_on.shards == train.fingerprint


def test_equal_data_give_an_equal_fit_and_other_data_another(train, val):
    fits = [prepare(backbone(5), shards)[0] for shards in (train, train, val)]
    smaller = prepare(backbone(5), train, short_side=40)[0]
    for part in ("mean", "deviation", "components"):
        np.testing.assert_array_equal(getattr(fits[0].encoder, part), getattr(fits[1].encoder, part))
        assert (getattr(fits[0].encoder, part) != getattr(fits[2].encoder, part)).any()
    assert fits[0].about == fits[1].about
    assert len({one.about.fitted_on.fingerprint for one in (fits[0], fits[2], smaller)}) == 3


def test_tiles_see_the_same_fit_as_whole_pictures(train):
    """No picture here is larger than a tile, so that both must agree."""
    whole = prepare(backbone(5), train)[0].encoder
    tiled = prepare(backbone(5), train, wrap=lambda encoder: TiledEncoder(encoder, tile=128))[0].encoder
    assert isinstance(tiled, TiledEncoder)
    picture = train.sample(0, layers=[]).picture[None]
    np.testing.assert_array_equal(whole.embed(picture), tiled.embed(picture))


def test_encoders_that_need_no_fit_cost_no_pass(train, monkeypatch):
    monkeypatch.setattr(train, "sample", None)
    (one,) = prepare([Compared(ColourEncoder(), "colour", "colour", 3)], train)
    assert one.about.fitted_on is None and not one.about.standardised


def test_one_pass_serves_all_that_is_made_of_a_backbone(train, checkpoints):
    opened = open_encoder(str(checkpoints["first"]), device=CPU)
    calls = []
    levels = next(one.encoder for one in opened.compared if one.role == "random encoder")
    assert isinstance(levels, LevelsEncoder) and isinstance(levels.maps, BackboneMaps)
    levels.maps._backbone.register_forward_hook(lambda *_: calls.append(1))
    prepared = {one.about.role: one.encoder for one in prepare(opened.compared, train)}
    assert len(calls) == len(train)
    whole, reduced = prepared["random encoder"], prepared["random encoder reduced"]
    assert whole.maps is reduced.maps is levels.maps
    assert (whole.components, reduced.components.shape) == (None, (8, 960))


def test_more_values_than_there_are_cannot_be_kept():
    check_dims(600, 600)
    check_dims(None, 1)
    with pytest.raises(InputError, match="only 600 values per cell: --dims 601; give fewer"):
        open_encoder("timm/regnetx_002", device=CPU, dims=601)
