"""From an address to the folder it names."""

from __future__ import annotations

import re
from pathlib import Path

from vice.data_specs.errors import InputError
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.local import LocalStorage

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]+)://")


def open_storage(address: str | Path | Storage) -> Storage:
    """The folder that an address names.

    Args:
        address: a path, or `s3://bucket/prefix`, or `gs://bucket/prefix`.

    Raises:
        InputError: an unknown kind of address, or an object store that is not usable.
    """
    if isinstance(address, Storage):
        return address
    scheme = scheme_of(str(address))
    if scheme is None:
        return LocalStorage(address)
    if scheme not in {"s3", "gs"}:
        raise InputError(f"unknown kind of address '{scheme}://'", where=address, hint="give a folder, s3:// or gs://")
    from vice.pipeline.storage.objects import ObjectStorage

    return ObjectStorage(str(address))


def scheme_of(address: str) -> str | None:
    """`s3` of `s3://bucket/prefix`; None for a path."""
    match = _SCHEME.match(address)
    return None if match is None else match[1].lower()


def split_address(address: str) -> tuple[str, str]:
    """The folder and the last part of an address: `s3://bucket/a`, `b.tar`."""
    folder, slash, name = address.rstrip("/").rpartition("/")
    if not slash:
        return ".", name
    return folder or "/", name
