"""The members of a tar: where each lies, what links lead to, and what cannot be read; nothing is left out."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vice.pipeline.prep.tar_headers import Header, Place, read_headers
from vice.pipeline.prep.tar_index import read_index
from vice.pipeline.storage.base import Storage, Version

REPEATED_NAME = "the archive holds this name again further on, and the last one counts"

_MAX_LINKS = 40
"""Links in a row that are followed, as in Linux."""


class Member(NamedTuple):
    """A member that is not a folder: exactly one of `place` and `problem` is given."""

    name: str
    """Its path in the tar, without a leading `./`."""
    place: Place | None
    problem: str | None = None
    """Why it cannot be read."""


@dataclass
class TarMembers:
    """The members of a tar, in the order in which they lie there."""

    members: list[Member] = field(default_factory=list)
    problem: str | None = None
    """Why the tar as a whole cannot be read to its end."""
    header_size: int = 0
    """Bytes before each, where only an index says where they lie: headers are checked when members are read."""

    def places(self) -> dict[str, Place]:
        """Where the file of each name lies."""
        return {member.name: member.place for member in self.members if member.place is not None}


def read_members(storage: Storage, tar: str, version: Version) -> TarMembers:
    """Every member of a tar but its folders; links within the tar are followed, of equal names the last one counts.

    Args:
        storage: where the tar is.
        tar: its path there.
        version: of the tar.

    Raises:
        OSError: the disk or store failed.
    """
    index = read_index(storage, tar)
    if index is not None:
        return TarMembers(list(_members(index.headers)), header_size=index.header_size)
    headers: list[Header] = []
    problem = None
    try:
        read_headers(storage, tar, version.size, headers)
        problem = None if headers else "the tar holds no files"
    except (tarfile.TarError, ValueError) as error:
        problem = f"the tar cannot be read beyond its first {len(headers)} files ({error})"
    return TarMembers(list(_members(headers)), problem)


def _members(headers: Sequence[Header]) -> Iterator[Member]:
    last = {_plain(header.name): header for header in headers}
    for header in headers:
        name = _plain(header.name)
        if last[name] is not header:
            yield Member(name, None, REPEATED_NAME)
            continue
        file = _followed(header, last)
        if file is None:
            yield Member(name, None, f"is a link to {header.target}, which the tar does not hold")
        elif file.kind == "sparse":
            yield Member(name, None, "is stored as a sparse file: write the tar without --sparse")
        elif file.kind != "file":
            yield Member(name, None, "is not a regular file")
        else:
            yield Member(name, file.place)


def _followed(header: Header, last: dict[str, Header]) -> Header | None:
    """The member that a header stands for: itself, or what a link leads to; None where that is not in the tar."""
    for _ in range(_MAX_LINKS):
        if header.kind == "hard link":
            found = last.get(_plain(header.target))
        elif header.kind == "symbolic link":
            found = last.get(posixpath.normpath(posixpath.join(posixpath.dirname(_plain(header.name)), header.target)))
        else:
            return header
        if found is None or found is header:
            return None
        header = found
    return None


def _plain(name: str) -> str:
    return name.removeprefix("./")
