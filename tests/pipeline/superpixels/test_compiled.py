"""Kernels must run where no folder can be written: a user without a home, a read-only installation."""

import numba
import numpy as np
import pytest
from numba.core import caching

from vice.pipeline.superpixels.compiled import compiled


def total(values):
    result = 0
    for value in values:
        result += value
    return result


def test_without_a_folder_for_the_cache_a_kernel_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(total)
    assert compiled(total)(np.arange(5)) == 10


def test_with_a_folder_the_result_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert compiled(total)(np.arange(4)) == 6
    assert list(tmp_path.rglob("*.nbi"))
