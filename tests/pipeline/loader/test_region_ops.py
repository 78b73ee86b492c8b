"""Numbering, masking and noise of views' regions against what the words say, region by region."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.counters import hash32
from vice.pipeline.loader.noise import NUM_WINDOWS, noise_table
from vice.pipeline.loader.region_ops import fill_with_noise, view_regions


@st.composite
def batches(draw):
    """Ids [m, n, h, w], shares [m, n] and seeds [m + 1, n] of a small batch."""
    views, pictures, side = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 12))
    rng = np.random.Generator(np.random.Philox(key=draw(st.integers(0, 10_000))))
    ids = rng.integers(0, draw(st.integers(1, 40)), (views, pictures, side, side + 1)).astype(np.int32)
    shares = (rng.random((views, pictures)) * draw(st.sampled_from([0.0, 0.25, 1.0]))).astype(np.float32)
    return ids, shares, rng.integers(0, 2**32, (views + 1, pictures))


@settings(max_examples=150, deadline=None)
@given(batch=batches(), max_regions=st.integers(1, 40), min_pixels=st.integers(1, 4))
def test_regions_are_those_of_all_views_numbered_in_the_order_of_their_ids(batch, max_regions, min_pixels):
    ids, shares, seeds = batch
    found = view_regions(*map(torch.from_numpy, (ids, shares, seeds)), max_regions=max_regions, min_pixels=min_pixels)
    for picture in range(ids.shape[1]):
        views = ids[:, picture]
        mutual = [i for i in range(ids.max() + 1) if all((view == i).sum() >= min_pixels for view in views)]
        if len(mutual) > max_regions:
            mutual = sorted(sorted(mutual, key=lambda i: int(hash32(i ^ int(seeds[-1, picture]))))[:max_regions])
        assert found.num_regions[picture] == len(mutual)
        assert found.region_ids[picture, : len(mutual)].tolist() == mutual
        assert (found.region_ids[picture, len(mutual) :] == -1).all()
        wanted = np.full(views.shape, IGNORE)
        for number, region in enumerate(mutual):
            wanted[views == region] = number
        assert np.array_equal(found.regions[:, picture].numpy(), wanted)


@settings(max_examples=150, deadline=None)
@given(batch=batches())
def test_masking_takes_whole_regions_in_hash_order_and_never_more_than_the_share(batch):
    ids, shares, seeds = batch
    masked = view_regions(*map(torch.from_numpy, (ids, shares, seeds)), max_regions=4096).masked.numpy()
    for view, picture in np.ndindex(*shares.shape):
        one, hidden = ids[view, picture], masked[view, picture]
        budget = int(float(shares[view, picture]) * one.size)
        covered = 0
        for region in sorted(np.unique(one), key=lambda i: int(hash32(int(i) ^ int(seeds[view, picture])))):
            covered += (one == region).sum()
            assert (hidden[one == region] == (covered <= budget)).all()
        assert hidden.sum() <= budget


def test_noise_is_uniform_and_its_own_in_every_view():
    table = noise_table(3 * 64 * 64)
    assert table.min() >= -1 and table.max() < 1
    counts, _ = np.histogram(table, bins=20, range=(-1, 1))
    # binomial, five standard deviations
    assert np.abs(counts - len(table) / 20).max() < 5 * np.sqrt(len(table) / 20 * 0.95)
    # neighbours in the table, of which views take shifted windows, have nothing in common
    assert abs(np.corrcoef(table[:-1], table[1:])[0, 1]) < 5 / np.sqrt(len(table))


def test_noise_fills_masked_pixels_alone_in_any_type_and_layout():
    rng = np.random.Generator(np.random.Philox(key=1))
    plain = torch.from_numpy(rng.normal(size=(2, 2, 3, 8, 8)).astype(np.float32)) + 5
    masked = torch.from_numpy(rng.random((2, 2, 8, 8)) < 0.3)
    seeds = rng.integers(0, 2**32, (2, 2))
    whole = masked[:, :, None].expand_as(plain)
    filled = plain.clone()
    fill_with_noise(filled, masked, seeds)
    assert torch.equal(filled[~whole], plain[~whole])
    assert filled[whole].abs().max() <= 1
    for view, picture in np.ndindex(2, 2):
        first = int(seeds[view, picture]) % NUM_WINDOWS
        window = torch.from_numpy(noise_table(192)[first : first + 192]).view(3, 8, 8)
        inside = whole[view, picture]
        assert torch.equal(filled[view, picture][inside], window[inside])
    last = plain.to(torch.bfloat16).permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    fill_with_noise(last, masked, seeds)
    assert torch.equal(last, filled.to(torch.bfloat16))
