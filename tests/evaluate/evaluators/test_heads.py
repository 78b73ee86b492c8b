import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.evaluate.evaluators import heads
from vice.evaluate.evaluators.heads import AffineHead, nearest_centroid, pool_cells

STRIDE = 4


@pytest.fixture
def embedding() -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=5)).standard_normal((6, 9, 7), np.float32)


@pytest.fixture
def head() -> AffineHead:
    draws = np.random.Generator(np.random.Philox(key=6))
    return AffineHead(draws.standard_normal((4, 6), np.float32), draws.standard_normal(4, np.float32))


def predict(head, embedding: np.ndarray, *, height: int, width: int) -> np.ndarray:
    return heads.predict(head, embedding, stride=STRIDE, picture_size=(height, width), size=(height, width))


def upsampled(embedding: np.ndarray, height: int, width: int) -> torch.Tensor:
    whole = F.interpolate(torch.from_numpy(embedding)[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return whole[0, :, :height, :width]


@pytest.mark.parametrize(("height", "width"), [(36, 28), (34, 25)])
def test_prediction_is_a_1x1_convolution_on_the_upsampled_embedding(embedding, head, height, width):
    weight = torch.from_numpy(head.weight)[:, :, None, None]
    logits = F.conv2d(upsampled(embedding, height, width)[None], weight, torch.from_numpy(head.bias))[0]
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-5).numpy()  # only ties may fall either way
    prediction = predict(head, embedding, height=height, width=width)
    assert prediction.shape == (height, width)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(prediction[clear], logits.argmax(0).numpy()[clear])


def test_clusters_are_the_nearest_centroids_of_the_upsampled_embedding(embedding):
    centroids = np.random.Generator(np.random.Philox(key=7)).standard_normal((5, 6), np.float32)
    pixels = upsampled(embedding, 36, 28).reshape(6, -1).T.numpy()
    distances = np.linalg.norm(pixels[:, None] - centroids, axis=2)
    nearest_two = np.sort(distances, axis=1)[:, :2]
    clear = nearest_two[:, 1] - nearest_two[:, 0] > 1e-5
    prediction = predict(nearest_centroid(centroids), embedding, height=36, width=28).reshape(-1)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(prediction[clear], distances.argmin(1)[clear])


@pytest.mark.parametrize("values_at_once", [1, 9 * 7 * STRIDE**2 * 3])
def test_some_classes_at_a_time_give_what_the_whole_gives(embedding, head, monkeypatch, values_at_once):
    whole = predict(head, embedding, height=34, width=25)
    monkeypatch.setattr(heads, "VALUES_AT_ONCE", values_at_once)
    np.testing.assert_array_equal(predict(head, embedding, height=34, width=25), whole)


def test_vectors_are_assigned_alike_in_parts_and_as_a_whole(embedding, head, monkeypatch):
    vectors = embedding.reshape(6, -1).T
    whole = head.assign(vectors)
    np.testing.assert_array_equal(whole, (vectors @ head.weight.T + head.bias).argmax(1))
    monkeypatch.setattr(heads, "VALUES_AT_ONCE", 4 * 10)
    np.testing.assert_array_equal(head.assign(vectors), whole)


@pytest.mark.parametrize("size", [(72, 56), (18, 14), (50, 31)])
def test_labels_of_another_size_than_the_picture_meet_the_same_places(size):
    """A map whose score rises to the right, from the centre of the first cell to that of the last, falls at half."""
    ramp = np.tile(np.arange(7, dtype=np.float32), (9, 1))[None]
    head = AffineHead(np.array([[1], [-1]], np.float32), np.array([-3, 3], np.float32))
    prediction = heads.predict(head, ramp, stride=STRIDE, picture_size=(36, 28), size=size)
    assert prediction.shape == size
    centres = (np.arange(size[1]) + 0.5) * 28 / size[1] / STRIDE - 0.5
    clear = abs(centres - 3) > 1e-6  # at a tie either is right
    expected = np.tile(np.where(centres > 3, 0, 1), (size[0], 1))
    np.testing.assert_array_equal(prediction[:, clear], expected[:, clear])


def test_pooled_cells_are_means_and_the_edge_holds_what_is_left():
    embedding = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    np.testing.assert_allclose(pool_cells(embedding, 2), [[[3, 5, 6.5], [10.5, 12.5, 14]]])
    assert pool_cells(embedding, 1) is embedding
