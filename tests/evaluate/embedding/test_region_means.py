"""Region means against the map upsampled in float64, at the embedded picture's pixels and at the stored ones."""

import numpy as np
import pytest

from vice.evaluate.embedding.region_means import region_means


def noise(*shape: int, key: int = 3) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def some_regions(height: int, width: int) -> np.ndarray:
    draws = np.random.Generator(np.random.Philox(key=1)).integers(0, 9, (height, width))
    return np.unique(draws, return_inverse=True)[1].reshape(height, width).astype(np.uint16)


def linear(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate along an axis, in float64; constant beyond the ends."""
    places = np.arange(values.shape[axis])
    return np.apply_along_axis(lambda line: np.interp(at, places, line), axis, values.astype(np.float64))


def sampled(embedding: np.ndarray, height: int, width: int, per_row: float, per_column: float) -> np.ndarray:
    """The map at the centres of height × width pixels, of which so many make a cell."""
    rows = linear(embedding, (np.arange(height) + 0.5) / per_row - 0.5, 1)
    return linear(rows, (np.arange(width) + 0.5) / per_column - 0.5, 2)


def means(whole: np.ndarray, regions: np.ndarray) -> np.ndarray:
    return np.stack([whole[:, regions == region].mean(axis=1) for region in range(regions.max() + 1)])


@pytest.mark.parametrize(("height", "width", "stride"), [(32, 48, 4), (31, 45, 4), (40, 33, 16), (5, 3, 8)])
def test_a_mean_is_that_of_the_upsampled_map(height, width, stride):
    regions = some_regions(height, width)
    embedding = noise(5, -(-height // stride), -(-width // stride))
    whole = sampled(embedding, height, width, stride, stride)
    np.testing.assert_allclose(region_means(embedding, regions, stride=stride), means(whole, regions), atol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (31, 45), (33, 37)])
def test_a_picture_of_twice_the_size_is_averaged_over_its_own_pixels(height, width):
    regions = some_regions(height, width)
    embedding = noise(5, -(-2 * height // 4), -(-2 * width // 4))
    whole = sampled(embedding, 2 * height, 2 * width, 4, 4)
    found = region_means(embedding, regions, stride=4, size=(2 * height, 2 * width))
    np.testing.assert_allclose(found, means(whole, regions.repeat(2, 0).repeat(2, 1)), atol=2e-6)


@pytest.mark.parametrize("size", [(64, 77), (50, 61), (20, 24), (31, 37), (200, 240)])
def test_any_size_is_sampled_at_the_stored_pixels(size):
    regions = some_regions(31, 37)
    embedding = noise(4, -(-size[0] // 8), -(-size[1] // 8))
    whole = sampled(embedding, 31, 37, 8 * 31 / size[0], 8 * 37 / size[1])
    found = region_means(embedding, regions, stride=8, size=size)
    np.testing.assert_allclose(found, means(whole, regions), atol=2e-6)


def test_an_edge_stays_where_it_is_when_the_picture_is_enlarged():
    # a picture of 40 × 60 brought to 90 × 135, black left of column 20: the step of the map is at cell 45 / 4
    columns = (np.arange(34) + 0.5) * 4
    embedding = np.broadcast_to((columns > 45).astype(np.float32), (1, 23, 34)).copy()
    regions = np.zeros((40, 60), np.uint16)
    regions[:, 20:] = 1
    regions[:, 30:] = 2
    found = region_means(embedding, regions, stride=4, size=(90, 135))[:, 0]
    assert found[0] < 0.05
    np.testing.assert_allclose(found[1:], 1, atol=1e-6)
