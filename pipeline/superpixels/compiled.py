"""How the kernels are compiled: by numba, and kept on disk for the next process where a folder for that can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable)


def compiled(function: _Function) -> _Function:
    """Compile a function of arrays when it is first called.

    The package's folder keeps the result, or the user's cache folder, or `NUMBA_CACHE_DIR`. Where none of them can be
    written (a user without a home, a read-only installation) every process compiles anew, which takes seconds.
    """
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return numba.njit(**options)(function)
