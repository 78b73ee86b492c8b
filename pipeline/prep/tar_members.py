"""The members of a tar: where each lies, what links lead to, and what cannot be read; nothing is left out."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from vice.pipeline.storage.base import Storage

REPEATED_NAME = "the archive holds this name again further on, and the last one counts"

_MAX_LINKS = 40
"""Links in a row that are followed, as in Linux."""


class Place(NamedTuple):
    """Where a file lies in a tar, in bytes."""

    offset: int
    size: int


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

    def places(self) -> dict[str, Place]:
        """Where the file of each name lies."""
        return {member.name: member.place for member in self.members if member.place is not None}


def read_members(storage: Storage, tar: str) -> TarMembers:
    """Every member of a tar but its folders; links within the tar are followed, of equal names the last one counts.

    Args:
        storage: where the tar is.
        tar: its path there.

    Raises:
        OSError: the disk or store failed.
    """
    entries: list[tarfile.TarInfo] = []
    problem = None
    try:
        _read_headers(storage, tar, entries)
        problem = None if entries else "the tar holds no files"
    except (tarfile.TarError, ValueError) as error:
        problem = f"the tar cannot be read beyond its first {len(entries)} files ({error})"
    except FileNotFoundError:
        problem = "the tar is missing"
    except PermissionError as error:
        problem = f"the tar cannot be read ({error})"
    return TarMembers(list(_members(entries)), problem)


def _read_headers(storage: Storage, tar: str, entries: list[tarfile.TarInfo]) -> None:
    """Append the header of every member that is not a folder.

    Raises:
        tarfile.TarError: the tar is damaged, or ends without the mark of its end.
    """
    with storage.open(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            if not entry.isdir():
                entry.tarfile = None  # it would keep the archive
                entries.append(entry)
            archive.members = []  # tarfile keeps them all otherwise
        # at a damaged header tarfile stops as if that were the end
        file.seek(archive.offset)
        end = bytes(file.read(tarfile.BLOCKSIZE))
        if end != bytes(tarfile.BLOCKSIZE):
            what = "damaged header" if end else "no mark of its end"
            raise tarfile.ReadError(f"{what} at byte {archive.offset}")


def _members(entries: Iterable[tarfile.TarInfo]) -> Iterable[Member]:
    last = {_plain(entry.name): entry for entry in entries}
    for entry in entries:
        name = _plain(entry.name)
        if last[name] is not entry:
            yield Member(name, None, REPEATED_NAME)
            continue
        target = _followed(entry, last)
        if target is None:
            yield Member(name, None, f"is a link to {entry.linkname}, which the tar does not hold")
        elif not target.isreg():
            yield Member(name, None, "is not a regular file")
        elif target.issparse():
            yield Member(name, None, "is stored as a sparse file: write the tar without --sparse")
        else:
            yield Member(name, Place(target.offset_data, target.size))


def _followed(entry: tarfile.TarInfo, last: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The member that an entry stands for: itself, or what a link leads to; None where that is not in the tar."""
    for _ in range(_MAX_LINKS):
        if entry.islnk():
            found = last.get(_plain(entry.linkname))
        elif entry.issym():
            found = last.get(posixpath.normpath(posixpath.join(posixpath.dirname(_plain(entry.name)), entry.linkname)))
        else:
            return entry
        if found is None or found is entry:
            return None
        entry = found
    return None


def _plain(name: str) -> str:
    return name.removeprefix("./")
