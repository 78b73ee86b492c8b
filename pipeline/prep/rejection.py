"""Why an input is not in the shards: raised anywhere from bytes to sample, recorded in `rejected.parquet`."""

from __future__ import annotations

from typing import NamedTuple


class Rejected(Exception):
    """An input cannot become a sample.

    Args:
        stage: where on the way: `name`, `read`, `picture`, `regions` or `labels`.
        reason: what is wrong with it, in plain words.
    """

    def __init__(self, stage: str, reason: str):
        super().__init__(stage, reason)
        self.stage, self.reason = stage, " ".join(reason.split())


class Rejection(NamedTuple):
    """A row of `rejected.parquet`."""

    source: str
    """Path relative to SOURCE."""
    stage: str
    reason: str
