import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sharding import blobs
from torch import nn

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.evaluate.encoders.network import NetworkEncoder
from vice.evaluate.encoders.protocol import pad_by_reflection
from vice.evaluate.encoders.raw import STRIDE, ColourEncoder, ColourPositionEncoder


class MeanOfCells(nn.Module):
    """Gives back the mean of the normalised input over each cell, and refuses sides of any other multiple than 32."""

    def forward(self, images):
        assert all(side % 32 == 0 for side in images.shape[2:])
        return F.avg_pool2d(images, STRIDE)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (36, 52), (35, 50), (5, 3), (1, 1)])
def test_a_model_s_map_covers_the_picture_whatever_its_size(height, width):
    picture = blobs(width, height, seed=1)
    encoder = NetworkEncoder("own", MeanOfCells(), stride=STRIDE, size_multiple=32, device=torch.device("cpu"))
    embedding = encoder.embed(picture[None])
    assert embedding.shape == (1, 3, -(-height // STRIDE), -(-width // STRIDE))
    assert embedding.dtype == np.float32
    normalised = (picture / 255 - IMAGE_MEAN) / IMAGE_STD
    whole = normalised[: height // STRIDE * STRIDE, : width // STRIDE * STRIDE]
    cells = whole.reshape(height // STRIDE, STRIDE, width // STRIDE, STRIDE, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(embedding[0, :, : height // STRIDE, : width // STRIDE], cells, rtol=0, atol=1e-5)


def test_embedding_takes_no_gradient_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    model = nn.Conv2d(3, 6, kernel_size=STRIDE, stride=STRIDE).eval()
    before_draws = torch.random.get_rng_state()
    embedding = NetworkEncoder("own", model, stride=STRIDE, size_multiple=STRIDE, device=torch.device("cpu")).embed(
        blobs(8, 8, seed=0)[None]
    )
    assert isinstance(embedding, np.ndarray)
    assert torch.equal(before_draws, torch.random.get_rng_state())
    assert not torch.equal(before, before_draws)  # the layer's own weights were drawn from it, so the check can fail


def test_padding_mirrors_right_and_below():
    picture = np.arange(3, dtype=np.uint8).reshape(1, 1, 3, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(pad_by_reflection(picture, 4)[0, 0, :, 0], [0, 1, 2, 1])
    assert pad_by_reflection(picture, 1) is picture


def test_colour_and_position_of_a_hand_computed_picture():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, 4:, 0] = 255
    picture[4:, :4, 2] = 51
    embedding = ColourPositionEncoder().embed(picture[None])[0]
    np.testing.assert_array_equal(ColourEncoder().embed(picture[None])[0], embedding[:3])
    np.testing.assert_allclose(embedding[0], [[0, 1], [0, 0]], atol=1e-7)
    np.testing.assert_allclose(embedding[2], [[0, 0], [0.2, 0]], atol=1e-7)
    np.testing.assert_allclose(embedding[3], [[0.25, 0.75], [0.25, 0.75]], atol=1e-7)
    np.testing.assert_allclose(embedding[4], [[0.25, 0.25], [0.75, 0.75]], atol=1e-7)


def test_colour_and_position_of_a_size_that_is_no_multiple():
    embedding = ColourPositionEncoder().embed(blobs(7, 5, seed=2)[None])
    assert embedding.shape == (1, 5, 2, 2)
