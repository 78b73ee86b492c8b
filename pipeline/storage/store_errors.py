"""What the client of a store raises, as errors of one line: which are the store's own, and which a proxy's."""

from __future__ import annotations

import re
from typing import Any

from obstore.exceptions import BaseError, PermissionDeniedError

from vice.pipeline.storage.base import StoreFailure

_ERROR_OF_THE_STORE = "<Code>"
"""Part of every refusal that a store writes; a proxy's has other text or none."""
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")


class _RefusedByProxy(StoreFailure):
    """A 403 that is not the store's own."""


def is_of_proxy(error: OSError) -> bool:
    """Whether an error is such a refusal; it may pass."""
    return isinstance(error, _RefusedByProxy)


def store_failure(error: BaseError, where: str) -> StoreFailure:
    """An error of the client as a failure that names the object.

    Args:
        error: what the client raised.
        where: address of the object.
    """
    status = _STATUS.search(str(error))
    message = first_line(error) if "://" in first_line(error) else f"{first_line(error)} ({where})"
    of_proxy = isinstance(error, PermissionDeniedError) and _ERROR_OF_THE_STORE not in str(error)
    return (_RefusedByProxy if of_proxy else StoreFailure)(message, status[1].strip() if status else "no answer")


def first_line(error: Any) -> str:
    """The first line of a message that may hold a debug print of everything."""
    return str(error).split("\n")[0][:300]
