"""What SOURCE may be: a folder, a glob, a list of paths, tars; on a disk or an object store. All become one listing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vice.data_specs.errors import InputError
from vice.pipeline.prep.lists import LIST_SUFFIXES, PathList, read_list
from vice.pipeline.storage.base import UNLISTED_FOLDER, EnterFolder, Entry, Storage
from vice.pipeline.storage.local import LocalStorage
from vice.pipeline.storage.opening import open_storage, scheme_of, split_address
from vice.pipeline.storage.stats import stat_all

UNKNOWN_SIZE = -2
"""Of a listed object: asking the store for each of a million would take hours."""

_WILD = re.compile(r"[*?\[]")
_KINDS = "give a folder, a glob, a .txt, .csv or .parquet list, or .tar files"


@dataclass(frozen=True)
class Listing:
    """The files of a source, by paths relative to its root; by and large in the order of their bytes."""

    storage: Storage
    """The root."""
    entries: Iterable[Entry]
    covers_root: bool
    """Whether every file below the root belongs to it, so that OUT must not lie there."""
    is_folder: bool = False
    """Whether label maps are among the entries; beside the pictures of a glob or a list they are found all the same."""


def open_source(source: str, *, missing_hint: str = "") -> Listing:
    """List a source.

    Args:
        source: a folder, a glob (`photos/**/*.jpg`), a list (a path per line, or a column `path`; relative to the list
            or absolute), or a tar; each a path or `s3://…`, `gs://…`.
        missing_hint: what to do where there is none such.

    Raises:
        InputError: there is none such, or it cannot be read.
    """
    name = split_address(source)[1]
    local = scheme_of(source) is None
    if local and Path(source).is_dir():
        return _folder(source)
    is_file = Path(source).is_file() if local else _is_object(source)
    if not is_file and _WILD.search(source):
        return _glob(source)
    if not is_file and local:
        raise InputError("no such source", where=source, hint=missing_hint or _KINDS)
    if not is_file:
        return _folder(source)
    if name.lower().endswith(".tar"):
        return _one_file(source)
    if Path(name).suffix.lower() in LIST_SUFFIXES:
        return _list(source)
    raise InputError("the source is no folder, list or tar", where=source, hint=_KINDS)


def _is_object(source: str) -> bool:
    """Whether an address is meant as one of a list or a tar; one with wild cards only where there is such an object."""
    folder, name = split_address(source)
    if Path(name).suffix.lower() not in {*LIST_SUFFIXES, ".tar"}:
        return False
    if not _WILD.search(source):
        return True
    try:
        return open_storage(folder).exists(name)
    except OSError as error:
        raise InputError(f"the source cannot be looked for ({error})", where=source) from None


def _folder(source: str) -> Listing:
    storage = open_storage(source)
    return Listing(storage, _told(storage, storage.walk()), covers_root=True, is_folder=True)


def _one_file(source: str) -> Listing:
    folder, name = split_address(source)
    storage = open_storage(folder)
    try:
        size = _size(storage, name) if storage.exists(name) else None
    except OSError as error:
        raise InputError(f"the source cannot be looked for ({error})", where=source) from None
    if size is None:
        raise InputError("no such source", where=source, hint=_KINDS)
    return Listing(storage, [Entry(name, size)], covers_root=False)


def _glob(pattern: str) -> Listing:
    """Every file that a glob names: `*` and `?` within a folder, `**` through folders, `[ab]` one of these."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _WILD.search(part))
    storage = open_storage("/".join(parts[:first]) or ("/" if pattern.startswith("/") else "."))
    wanted, enter = glob_expression("/".join(parts[first:])), _folders_of(parts[first:])
    listed = _told(storage, storage.walk(enter=enter))
    found = (entry for entry in listed if entry.size == UNLISTED_FOLDER or wanted.fullmatch(entry.path))
    return Listing(storage, found, covers_root="**" in pattern)


def _folders_of(parts: list[str]) -> EnterFolder:
    """Which folders may hold files that a glob names; below a `**` all of them do."""
    any_below = next((depth for depth, part in enumerate(parts) if "**" in part), None)
    above = [glob_expression("/".join(parts[: depth + 1])) for depth in range(len(parts) - 1)[:any_below]]

    def enter(folder: str) -> bool:
        depth = folder.count("/")
        return above[depth].fullmatch(folder) is not None if depth < len(above) else any_below is not None

    return enter


def glob_expression(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression of whole relative paths.

    Raises:
        InputError: it has a range that ends before it begins.
    """
    tokens = {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\])", pattern)
    translated = (
        _one_of(part) if len(part) > 2 and part[0] == "[" else tokens.get(part, re.escape(part)) for part in parts
    )
    try:
        return re.compile("".join(translated), re.DOTALL)
    except re.error as error:
        raise InputError(f"not a glob ({error})", where=pattern) from None


def _one_of(choice: str) -> str:
    """`[ab]`, `[a-z]` or `[!ab]` as a regular expression; never the `/` between folders."""
    negated = choice[1] == "!"
    characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", choice[1 + negated : -1])
    return f"[^/{characters}]" if negated else f"[{characters}]"


def _told(storage: Storage, entries: Iterator[Entry]) -> Iterator[Entry]:
    """The entries; what goes wrong while a store lists them is the source's fault."""
    try:
        yield from entries
    except OSError as error:
        raise InputError(f"the source cannot be listed ({error})", where=storage.address) from None


def _list(source: str) -> Listing:
    listed = read_list(source)
    storage = open_storage(listed.root)
    return Listing(storage, _with_sizes(storage, listed), covers_root=False)


def _with_sizes(storage: Storage, listed: PathList) -> Iterator[Entry]:
    """The files of a list, with size -1 where they are missing on a disk."""
    for paths in listed.relative():
        if isinstance(storage, LocalStorage):
            statuses = stat_all([os.fsencode(storage.folder / path) for path in paths])
            sizes = [-1 if isinstance(status, OSError) else status.st_size for status in statuses]
        else:
            sizes = [UNKNOWN_SIZE] * len(paths)
        yield from map(Entry, paths, sizes)


def _size(storage: Storage, path: str) -> int:
    """Size in bytes of a file on a disk; -1 where it is missing."""
    if scheme_of(storage.address):
        return UNKNOWN_SIZE
    try:
        return Path(storage.address, path).stat().st_size
    except OSError:
        return -1
