"""Region pooling against what it replaces: upsample the map, then take the mean over each region, in a loop."""

import pytest
import torch
import torch.nn.functional as F

from vice.data_specs.regions import IGNORE
from vice.train.network.pooling import pool_regions, region_weights, usable_regions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(m=3, n=2, size=24, num_regions=7):
    regions = torch.randint(0, num_regions + 1, (m, n, size, size), generator=generator(), dtype=torch.int32)
    return torch.where(regions == num_regions, IGNORE, regions)


def looped(maps, regions, num_regions):
    """Means [n, r, d] over the regions of full-size maps [n, d, h, w]."""
    return torch.stack(
        [
            torch.stack([full[:, ids == region].mean(1) for region in range(num_regions)])
            for full, ids in zip(maps, regions, strict=True)
        ]
    )


@pytest.mark.parametrize("cells", [(6, 6), (12, 8), (24, 24), (1, 5)])
def test_equals_the_mean_of_the_upsampled_map_in_value_and_gradient(cells):
    regions, num_regions = drawn(), 7
    maps = torch.randn(3, 2, 5, *cells, dtype=torch.float64, generator=generator(1))
    maps.requires_grad_()
    pooled = pool_regions(maps, region_weights(regions, num_regions, cells, torch.float64), num_regions)
    upsampled = F.interpolate(maps.flatten(0, 1), (24, 24), mode="bilinear").unflatten(0, (3, 2))
    plain = torch.stack([looped(upsampled[view], regions[view], num_regions) for view in range(3)])
    torch.testing.assert_close(pooled, plain, atol=1e-13, rtol=0)
    cost = torch.randn(pooled.shape, dtype=torch.float64, generator=generator(2))
    gradients = [torch.autograd.grad((means * cost).sum(), maps, retain_graph=True)[0] for means in (pooled, plain)]
    torch.testing.assert_close(*gradients, atol=1e-13, rtol=0)


def test_a_constant_map_gives_its_constant_and_absent_regions_zero():
    regions = torch.full((1, 1, 8, 8), IGNORE, dtype=torch.int32)
    regions[..., :2, :2] = 0
    regions[..., 5, 5] = 2
    pooled = pool_regions(torch.full((1, 1, 1, 2, 2), 3.0), region_weights(regions, 4, (2, 2)), 4)
    torch.testing.assert_close(pooled[0, 0, :, 0], torch.tensor([3.0, 0.0, 3.0, 0.0]))


@pytest.mark.parametrize("num_regions", [0, 5])
def test_views_without_any_region_give_zeros_and_no_gradient(num_regions):
    regions = torch.full((2, 1, 8, 8), IGNORE, dtype=torch.int32)
    maps = torch.randn(2, 1, 3, 2, 2, requires_grad=True)
    pooled = pool_regions(maps, region_weights(regions, num_regions, (2, 2)), num_regions)
    assert pooled.shape == (2, 1, num_regions, 3) and not pooled.any()
    pooled.sum().backward()
    assert not maps.grad.any()


def test_the_number_of_entries_depends_on_cells_and_outlines_not_on_regions():
    pixels = torch.arange(64 * 64, dtype=torch.int32).view(1, 1, 64, 64)
    assert len(region_weights(pixels, 64 * 64, (16, 16)).values) == 4 * 64 * 64
    one = torch.zeros(1, 1, 64, 64, dtype=torch.int32)
    assert len(region_weights(one, 4000, (16, 16)).values) == 4 * 16 * 16


def test_gradient_reaches_only_the_cells_that_a_region_reads():
    regions = torch.full((1, 1, 16, 16), IGNORE, dtype=torch.int32)
    regions[..., :4, :4] = 0
    maps = torch.zeros(1, 1, 2, 4, 4, requires_grad=True)
    pool_regions(maps, region_weights(regions, 1, (4, 4)), 1).sum().backward()
    touched = maps.grad[0, 0, 0] != 0
    assert touched[:2, :2].all() and touched.sum() == 4


def test_usable_regions_are_counted_and_masked_ones_dropped():
    regions = torch.tensor([[[[0, 0], [1, 2]]], [[[2, 1], [0, IGNORE]]]], dtype=torch.int32)
    masked = torch.zeros_like(regions, dtype=torch.bool)
    masked[1, 0, 0, 1] = True  # region 1, in the second view only
    arguments = (regions, torch.tensor([3]), masked)
    assert usable_regions(*arguments, most=4, drop_masked=True).tolist() == [[True, False, True, False]]
    assert usable_regions(*arguments, most=4, drop_masked=False).tolist() == [[True, True, True, False]]
