import numpy as np
import pytest
import torch
from sharding import blobs
from torch import nn

from vice.evaluate.encoders.network import NetworkEncoder
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder
from vice.evaluate.encoders.tiles import TiledEncoder


class Seen:
    """Passes pictures on, and notes how large the largest was."""

    name, stride = "seen", 4

    def __init__(self, encoder):
        self.encoder, self.largest, self.count = encoder, 0, 0

    def embed(self, pictures):
        self.largest, self.count = max(self.largest, *pictures.shape[1:3]), self.count + 1
        return self.encoder.embed(pictures)


def convolutions() -> NetworkEncoder:
    """A network that sees 4 + 2 · 7 · 4 = 60 pixels at most."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Conv2d(3, 8, 4, stride=4), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(7))]
        model = nn.Sequential(layers[0], *(part for layer in layers[1:] for part in (nn.GELU(), layer)))
    return NetworkEncoder("own", model.eval(), stride=4, size_multiple=32, device=torch.device("cpu"))


@pytest.mark.parametrize(("height", "width"), [(256, 700), (601, 333), (520, 1100), (257, 256)])
def test_tiles_of_a_network_that_sees_less_than_the_overlap_are_the_whole(height, width):
    picture, encoder = blobs(width, height, seed=1)[None], convolutions()
    seen = Seen(encoder)
    # a quarter of the overlap (64 pixels) has no weight: more than the network sees beyond a cell
    tiled = TiledEncoder(seen, tile=512, overlap=256).embed(picture)
    whole = encoder.embed(picture)
    assert tiled.shape == whole.shape
    np.testing.assert_allclose(tiled, whole, atol=2e-5)
    assert seen.largest <= 512
    assert seen.count == 1 if max(height, width) <= 512 else seen.count > 1


@pytest.mark.parametrize(("height", "width"), [(300, 1000), (999, 257)])
def test_every_cell_is_covered_and_stands_where_it_should(height, width):
    picture = blobs(width, height, seed=2)[None]
    tiled = TiledEncoder(ColourEncoder(), tile=256, overlap=64).embed(picture)
    np.testing.assert_allclose(tiled, ColourEncoder().embed(picture), atol=1e-5)


def test_a_network_that_sees_everything_makes_no_jump_at_a_seam():
    """Position within the window is the worst of context: across a seam it changes no faster than elsewhere."""
    picture = np.zeros((1, 256, 1024, 3), np.uint8)
    x = TiledEncoder(ColourPositionEncoder(), tile=256, overlap=128).embed(picture)[0, 3, 32]
    plain = [
        ColourPositionEncoder().embed(picture[:, :, first : first + 256])[0, 3, 32] for first in range(0, 1024, 256)
    ]
    assert abs(np.diff(np.concatenate(plain))).max() > 0.9
    assert abs(np.diff(x)).max() < 0.1


def test_small_pictures_pass_as_they_are():
    picture = blobs(100, 80, seed=3)[None].repeat(2, axis=0)
    seen = Seen(ColourEncoder())
    np.testing.assert_array_equal(TiledEncoder(seen, tile=128).embed(picture), ColourEncoder().embed(picture))
    assert seen.count == 1
