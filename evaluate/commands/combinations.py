"""Combinations of options that cannot be meant: refused in one line, rather than leaving one of them without effect."""

from __future__ import annotations

import math
from collections.abc import Sequence

import typer

from vice.data_specs.errors import InputError

MAX_SEED = 2**31 - 1
"""FAISS takes seeds of 31 bits."""


def check_effect(option: str, *, given: bool, without_effect: bool, because: str) -> None:
    """Refuse an option that was given and would do nothing.

    Args:
        option: as typed.
        given: whether it differs from its default.
        without_effect: whether it would do nothing here.
        because: with what: `with --recipe quick`.

    Raises:
        InputError: it has no effect.
    """
    if given and without_effect:
        raise InputError(f"{option} has no effect {because}", hint="leave one of them out")


def seeds_from(first: int, repeats: int) -> range:
    """Seeds of repeated evaluations.

    Raises:
        InputError: the last one is too large.
    """
    if first + repeats - 1 > MAX_SEED:
        what = f"--seed {first} with --repeats {repeats} goes beyond the largest seed"
        raise InputError(what, hint=f"seeds are at most {MAX_SEED:,}")
    return range(first, first + repeats)


def finite(value: float | Sequence[float] | None) -> float | Sequence[float] | None:
    """Typer's callback of options that are numbers: neither infinite nor `nan`, which no lower bound catches."""
    values = value if isinstance(value, list | tuple) else [0.0 if value is None else value]
    if not all(map(math.isfinite, values)):
        raise typer.BadParameter("must be finite")
    return value
