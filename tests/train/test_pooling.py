"""Region pooling against what it replaces: upsample the map, then take the mean over each region, in a loop."""

import pytest
import torch
import torch.nn.functional as F

from vice.data_specs.regions import IGNORE
from vice.train.pooling import pool_regions, region_weights, usable_regions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(m=3, n=2, size=24, num_regions=7):
    regions = torch.randint(0, num_regions + 1, (m, n, size, size), generator=generator(), dtype=torch.int32)
    return torch.where(regions == num_regions, IGNORE, regions)


@pytest.mark.parametrize("cells", [(6, 6), (12, 8), (24, 24), (1, 5)])
def test_equals_the_mean_of_the_upsampled_map(cells):
    regions, num_regions = drawn(), 7
    maps = torch.randn(3, 2, 5, *cells, dtype=torch.float64, generator=generator(1))
    pooled = pool_regions(maps, region_weights(regions, num_regions, cells).double())
    upsampled = F.interpolate(maps.flatten(0, 1), (24, 24), mode="bilinear").unflatten(0, (3, 2))
    for view in range(3):
        for picture in range(2):
            for region in range(num_regions):
                inside = regions[view, picture] == region
                expected = upsampled[view, picture][:, inside].mean(1)
                # the weights themselves are float32
                torch.testing.assert_close(pooled[view, picture, region], expected, atol=1e-6, rtol=0)


def test_rows_sum_to_one_and_absent_regions_have_none():
    regions = torch.full((1, 1, 8, 8), IGNORE, dtype=torch.int32)
    regions[..., :2, :2] = 0
    regions[..., 5, 5] = 2
    weights = region_weights(regions, 3, (2, 2))
    torch.testing.assert_close(weights.sum(-1)[0, 0], torch.tensor([1.0, 0.0, 1.0]))


def test_gradient_reaches_only_the_cells_that_a_region_reads():
    regions = torch.full((1, 1, 16, 16), IGNORE, dtype=torch.int32)
    regions[..., :4, :4] = 0
    maps = torch.zeros(1, 1, 2, 4, 4, requires_grad=True)
    pool_regions(maps, region_weights(regions, 1, (4, 4))).sum().backward()
    touched = maps.grad[0, 0, 0] != 0
    assert touched[:2, :2].all() and touched.sum() == 4


def test_usable_regions_are_counted_and_masked_ones_dropped():
    regions = torch.tensor([[[[0, 0], [1, 2]]], [[[2, 1], [0, IGNORE]]]], dtype=torch.int32)
    masked = torch.zeros_like(regions, dtype=torch.bool)
    masked[1, 0, 0, 1] = True  # region 1, in the second view only
    arguments = (regions, torch.tensor([3]), masked)
    assert usable_regions(*arguments, most=4, drop_masked=True).tolist() == [[True, False, True, False]]
    assert usable_regions(*arguments, most=4, drop_masked=False).tolist() == [[True, True, True, False]]
