"""A part of a shard: the samples of some inputs, in tar format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import UNREADABLE, PreparedSample, Recipe, make_sample
from vice.pipeline.prep.shard import Part, build_part

_SMALLEST_PART, _LARGEST_PART = 4, 32
"""Inputs per task: small jobs in small parts, so that all workers end together; large ones with few tasks."""

_NUM_UNREADABLE = 4
"""If the first N inputs of a part are all unreadable, the disk or store has failed."""


def part_size(num_inputs: int, num_workers: int) -> int:
    """Inputs per task."""
    return min(_LARGEST_PART, max(_SMALLEST_PART, num_inputs // (8 * num_workers)))


def make_part(inputs: list[KeyedInput], recipe: Recipe, make: Callable[..., Any] = make_sample) -> Part:
    """The samples of some inputs, in tar format.

    Raises:
        OSError: none of the first inputs could be read: the disk or store has failed, not a file.
    """
    results = []
    for one, key in inputs:
        results.append(make(one, key, recipe))
        if len(results) == min(_NUM_UNREADABLE, len(inputs)) > 1 and all(map(_is_unreadable, results)):
            first = results[0]
            raise OSError(f"none of {len(results)} files can be read, such as {first.source}: {first.reason}")
    return build_part(results)


def _is_unreadable(result: PreparedSample | Rejection) -> bool:
    return isinstance(result, Rejection) and result.code == UNREADABLE
