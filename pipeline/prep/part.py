"""A part of a shard: the samples of some inputs, in tar format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.prefetch import with_files_ahead
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import UNREADABLE, PreparedSample, Recipe, make_sample
from vice.pipeline.prep.shard import Part, build_part

_SMALLEST_PART, _LARGEST_PART = 4, 32
"""Inputs per task: small jobs in small parts, so that all workers end together; large ones with few tasks."""

_NUM_UNREADABLE = 8
"""If so many inputs in a row are unreadable, the disk or store has failed: their order is drawn."""


def part_size(num_inputs: int, num_workers: int) -> int:
    """Inputs per task."""
    return min(_LARGEST_PART, max(_SMALLEST_PART, num_inputs // (8 * num_workers)))


def make_part(inputs: list[KeyedInput], recipe: Recipe, make: Callable[..., Any] = make_sample) -> Part:
    """The samples of some inputs, in tar format.

    Raises:
        OSError: none of several inputs in a row could be read: the disk or store has failed, not a file.
    """
    ahead = with_files_ahead(inputs, recipe) if make is make_sample else ((one, recipe) for one in inputs)
    results = []
    for (one, key), with_files in ahead:
        results.append(make(one, key, with_files))
        last = results[-_NUM_UNREADABLE:]
        if len(last) == min(_NUM_UNREADABLE, len(inputs)) > 1 and all(map(_is_unreadable, last)):
            what = f"none of {len(last)} files in a row can be read, such as {last[0].source}"
            raise OSError(f"{what}: {last[0].reason}")
    return build_part(results)


def _is_unreadable(result: PreparedSample | Rejection) -> bool:
    return isinstance(result, Rejection) and result.code == UNREADABLE
