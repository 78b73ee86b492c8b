"""Why an input is not in the shards: raised anywhere from bytes to sample, recorded in `rejected.parquet`."""

from __future__ import annotations

from typing import NamedTuple

CODE_OF_STAGE = {"name": "name", "read": "read", "picture": "decode", "regions": "too-small", "labels": "label"}
"""The code of what has no narrower one."""


class Rejected(Exception):
    """An input cannot become a sample.

    Args:
        stage: where on the way: `name`, `read`, `picture`, `regions` or `labels`.
        reason: what is wrong with it, in plain words.
        code: a word for the kind of reason, by which rejections are grouped; by default that of the stage.
    """

    def __init__(self, stage: str, reason: str, code: str | None = None):
        super().__init__(stage, reason, code)
        self.stage, self.reason, self.code = stage, " ".join(reason.split()), code or CODE_OF_STAGE[stage]


class Rejection(NamedTuple):
    """A row of `rejected.parquet`."""

    source: str
    """Path relative to SOURCE."""
    stage: str
    reason: str
    code: str
