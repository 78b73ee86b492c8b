"""A part of a shard: the samples of some inputs, in tar format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vice.pipeline.prep.plan import KeyedInput
from vice.pipeline.prep.prefetch import with_files_ahead
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import READ_FAILED, Recipe, make_sample
from vice.pipeline.prep.shard import Part, build_part

_SMALLEST_PART, _LARGEST_PART = 4, 32
"""Inputs per task: small jobs in small parts, so that all workers end together; large ones with few tasks."""


def part_size(num_inputs: int, num_workers: int) -> int:
    """Inputs per task."""
    return min(_LARGEST_PART, max(_SMALLEST_PART, num_inputs // (8 * num_workers)))


def make_part(inputs: list[KeyedInput], recipe: Recipe, make: Callable[..., Any] = make_sample) -> Part:
    """The samples of some inputs, in tar format.

    Raises:
        OSError: none of several inputs could be read: the disk has failed, not a file.
    """
    ahead = with_files_ahead(inputs, recipe) if make is make_sample else ((one, recipe) for one in inputs)
    results = [make(one, key, with_files) for (one, key), with_files in ahead]
    failed = [result for result in results if isinstance(result, Rejection) and result.reason.endswith(READ_FAILED)]
    if len(failed) == len(results) > 1:
        raise OSError(f"none of {len(failed)} files can be read (Input/output error), such as {failed[0].source}")
    return build_part(results)
