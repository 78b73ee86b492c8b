"""Trying again what may pass by itself: with growing delays, for two minutes in all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Seconds before each new attempt."""
_NUM_DELAYS_AFTER_FAILURE = 2

_Answer = TypeVar("_Answer")


class Retries:
    """Repeats what fails.

    Faults of a machine pass; a bad sector stays, and a disk may have thousands. Once all delays were in vain, only the
    first few are used, until an attempt after a delay succeeds.

    Args:
        delays: seconds before each new attempt.
        wait: called with these.
    """

    def __init__(self, delays: Sequence[float] = _DELAYS, wait: Callable[[float], None] = time.sleep):
        self._delays, self._wait = tuple(delays), wait
        self._in_vain = False

    def __call__(self, attempt: Callable[[], _Answer], may_pass: Callable[[OSError], bool]) -> _Answer:
        """What `attempt` returns.

        Args:
            attempt: called until it succeeds.
            may_pass: whether an error may be gone at the next attempt.

        Raises:
            OSError: the error of the last attempt, or one that cannot pass.
        """
        delays = list(self._delays[: _NUM_DELAYS_AFTER_FAILURE if self._in_vain else None])
        has_waited = False
        while True:
            try:
                answer = attempt()
            except OSError as error:
                if not may_pass(error):
                    raise
                if not delays:
                    self._in_vain = True
                    raise
                self._wait(delays.pop(0))
                has_waited = True
            else:
                self._in_vain = self._in_vain and not has_waited
                return answer


OF_THIS_PROCESS = Retries()
"""Shared by all reads, so that each learns from the others."""
