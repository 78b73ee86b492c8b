"""Sets of strings by their hashes."""

import numpy as np

from vice.pipeline.prep import path_sets
from vice.pipeline.prep.path_sets import has_repeats, hashes


def test_equal_sets_have_equal_hashes_in_any_order_and_pieces():
    one, other = [["a", "b"], ["c"]], [["c", "b", "a"]]
    assert np.array_equal(hashes(one), hashes(other))
    assert not np.array_equal(hashes(one), hashes([["a", "b", "d"]]))
    assert not np.array_equal(hashes(one), hashes([["a", "b", "c", "c"]]))
    assert len(hashes([])) == 0


def test_strings_of_equal_hashes_are_no_repeats(monkeypatch):
    monkeypatch.setattr(path_sets, "hash", len, raising=False)
    assert not has_repeats(lambda: iter([["a", "b"], ["cc", "c"]]))
    assert has_repeats(lambda: iter([["a", "b"], ["cc", "a"]]))
