"""Counters: equal keys, equal numbers; other keys, other numbers; the hash is one for NumPy and torch."""

import numpy as np
import torch

from vice.pipeline.loader.counters import PURPOSES, hash32, raw_draws, uniforms


def test_equal_keys_give_equal_draws_and_every_part_of_the_key_counts():
    reference = raw_draws(3, "geometry", 5, 7, 64)
    assert np.array_equal(reference, raw_draws(3, "geometry", 5, 7, 64))
    for other in [(4, "geometry", 5, 7), (3, "masking", 5, 7), (3, "geometry", 6, 7), (3, "geometry", 5, 8)]:
        assert not np.isin(raw_draws(*other, 64), reference).any()


def test_draws_are_philox_of_the_documented_key_and_counter():
    # the first raw draws of NumPy's Philox for this key and counter; they must never change, or no run can go on
    generator = np.random.Philox(key=[1, PURPOSES.index("order")], counter=[0, 2, 3, 0])
    assert raw_draws(1, "order", 3, 2, 2).tolist() == generator.random_raw(2).tolist()
    assert raw_draws(0, "order", 0, 0, 1).tolist() == [213000021201967259]


def test_uniforms_are_uniform():
    values = np.concatenate([uniforms(0, "appearance", 0, sample, 100) for sample in range(200)])
    assert values.min() >= 0 and values.max() < 1
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    # 20,000 draws in 20 bins: 1,000 each, standard deviation 31
    assert np.abs(counts - 1000).max() < 5 * 31


def test_hash_is_the_same_for_numpy_and_torch_and_stays_in_32_bits():
    values = np.arange(-5, 100_000, dtype=np.int64) * 40_503
    mixed = hash32(values)
    assert np.array_equal(mixed, hash32(torch.from_numpy(values)).numpy())
    assert mixed.min() >= 0 and mixed.max() < 2**32
    assert len(np.unique(mixed[5:])) == len(np.unique(values[5:] & 0xFFFFFFFF))
