"""One writer on an object store: a lease that its holder renews, and that others may take once it is not renewed.

No clocks are compared. Whoever finds a lease watches it: if its tag changes, its holder lives; if it stays the same for
LEASE_SECONDS of the watcher's own time, the holder is dead, and the lease is taken by a put on condition of that tag.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
from typing import Any, Self

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from vice.data_specs.errors import WorkError
from vice.pipeline.storage.base import Hold

LEASE_SECONDS = 30.0
"""A lease that was not renewed for this long is free."""

RENEW_SECONDS = 8.0
"""How often a holder renews it."""

PATIENCE_SECONDS = 240.0
"""How long a holder waits for a store that does not answer; it keeps the lease if nobody else took it meanwhile."""


class Lease(Hold):
    """The lease of a folder.

    Args:
        store: the obstore store of the folder.
        name: of the lease's object.
        told: the folder's address, for messages.
    """

    def __init__(self, store: Any, name: str, told: str):
        self._store, self._name, self._told = store, name, told
        self._token = secrets.token_hex(8)
        self._renewals = 0
        self._version: Any = None
        self._lost = False
        self._renewed = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._version = self._acquire()
        except (BaseError, OSError) as error:
            raise self._unwritable(error) from None
        self._thread = threading.Thread(target=self._keep, name="vice lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if not self._is_lost():
            with contextlib.suppress(FileNotFoundError, BaseError):  # otherwise it expires
                obstore.delete(self._store, self._name)

    def check(self) -> None:
        """Make sure that no other run took the lease, nor could have; waits where the store does not answer."""
        while self._is_lost() and not self._lost and time.monotonic() - self._renewed < PATIENCE_SECONDS:
            time.sleep(0.1)
        if self._is_lost():
            hint = "wait until it ends, then run the same command again"
            raise WorkError("the lease was lost: another run may be writing there", where=self._told, hint=hint)

    def _is_lost(self) -> bool:
        """Whether another run has it, or may have it by now."""
        return self._lost or time.monotonic() - self._renewed > LEASE_SECONDS

    def _acquire(self) -> Any:
        told = False
        while True:
            try:
                return self._put("create")
            except (AlreadyExistsError, PreconditionError):
                pass
            if not told:
                print(f"another run held {self._told}: looking whether it still lives", file=sys.stderr)
                told = True
            stale = self._watch()
            if stale is None:
                continue
            try:
                return self._put(stale)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                raise self._taken() from None

    def _watch(self) -> Any:
        """The version of a lease that nobody renewed for LEASE_SECONDS; None where it was given back meanwhile."""
        first, until = None, time.monotonic() + LEASE_SECONDS
        while True:
            try:
                meta = obstore.head(self._store, self._name)
            except FileNotFoundError:
                return None
            version = _version(meta)
            if first is None:
                first = version
            if version != first:
                raise self._taken()
            if time.monotonic() > until:
                return first
            time.sleep(0.5)

    def _put(self, mode: Any) -> Any:
        """Write the lease on a condition; its text changes each time, and so its tag."""
        self._renewals += 1
        text = f"{self._token} {self._renewals}\n".encode()
        began = time.monotonic()
        try:
            version = _version(obstore.put(self._store, self._name, text, mode=mode, use_multipart=False))
        except (AlreadyExistsError, PreconditionError):
            # an answer may have been lost: the first of two to this request, or that to an earlier renewal
            found, version = self._present()
            if found.split(b" ")[0] != self._token.encode():
                raise
            if found != text:
                version = _version(obstore.put(self._store, self._name, text, mode=version, use_multipart=False))
        self._renewed = began
        return version

    def _present(self) -> tuple[bytes, Any]:
        """Text and version of the lease as it is; no text where there is none."""
        try:
            found = obstore.get(self._store, self._name)
            return bytes(found.bytes()), _version(found.meta)
        except FileNotFoundError:
            return b"", None

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                self._version = self._put(self._version)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                self._lost = True
                return
            except BaseError:  # the store did not answer; try again
                pass

    def _taken(self) -> WorkError:
        return WorkError("another run is writing there", where=self._told, hint="wait until it ends")

    def _unwritable(self, error: Exception) -> WorkError:
        told = str(error).split("\n")[0][:300]
        hint = "see that the bucket exists, and that key and region are right"
        return WorkError(f"cannot write there ({told})", where=self._told, hint=hint)


def _version(meta: Any) -> dict[str, str]:
    """What names one state of an object: its tag, and on stores that count versions its version."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}
