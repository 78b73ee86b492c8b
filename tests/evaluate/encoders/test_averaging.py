import numpy as np
import pytest
from sharding import blobs

from vice.evaluate.encoders.averaging import AveragedEncoder
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder


@pytest.mark.parametrize(("height", "width"), [(64, 96), (50, 75)])
def test_what_does_not_mind_being_mirrored_does_not_change(height, width):
    picture = blobs(width, height, seed=1)[None]
    plain, averaged = (e.embed(picture) for e in (ColourEncoder(), AveragedEncoder(ColourEncoder(), flip=True)))
    assert averaged.shape == plain.shape
    # where the width is no multiple of the cell, mirrored cells lie between the plain ones
    np.testing.assert_allclose(averaged, plain, atol=1e-6 if width % 4 == 0 else 0.25)


def test_mirrored_maps_are_mirrored_back():
    picture = blobs(96, 64, seed=1)[None]
    x = AveragedEncoder(ColourPositionEncoder(), flip=True).embed(picture)[0, 3]
    np.testing.assert_allclose(x, 0.5, atol=1e-6)  # the mean of x and 1 - x


def test_maps_of_other_sizes_lie_on_each_other():
    picture = blobs(96, 64, seed=1)[None]
    plain = ColourPositionEncoder().embed(picture)
    averaged = AveragedEncoder(ColourPositionEncoder(), scales=(0.5, 1.0, 2.0)).embed(picture)
    assert averaged.shape == plain.shape
    # away from the border, where the outermost centres of the small maps end
    np.testing.assert_allclose(averaged[0, 3:, 2:-2, 2:-2], plain[0, 3:, 2:-2, 2:-2], atol=1e-5)
    np.testing.assert_allclose(averaged[0, :3], plain[0, :3], atol=0.2)


def test_one_scale_without_a_mirror_image_is_the_encoder():
    picture = blobs(96, 64, seed=1)[None]
    np.testing.assert_array_equal(AveragedEncoder(ColourEncoder()).embed(picture), ColourEncoder().embed(picture))
