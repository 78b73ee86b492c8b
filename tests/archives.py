"""Tars as tests need them, with any members, an index, or readable by ranges alone."""

import io
import tarfile

from vice.pipeline.prep.tar_headers import read_headers


def write_tar(path, members, tar_format=tarfile.PAX_FORMAT):
    """Members are (name, content) or (name, type, target of the link)."""
    with tarfile.open(path, "w", format=tar_format) as archive:
        for name, *rest in members:
            entry = tarfile.TarInfo(name)
            if len(rest) == 1:
                entry.size = len(rest[0])
                archive.addfile(entry, io.BytesIO(rest[0]))
            else:
                entry.type, entry.linkname = rest
                archive.addfile(entry)
    return path


class Ranges:
    """A tar of which only ranges can be read, with what was read of it."""

    def __init__(self, tar):
        self.data, self.read = tar.read_bytes(), []

    def read_ranges(self, _, ranges):
        self.read += ranges
        return [self.data[offset : offset + size] for offset, size in ranges]

    def headers(self):
        found = []
        read_headers(self, "x.tar", len(self.data), found)
        return found


def write_index(tar, version="v1.2"):
    """What DALI's `wds2idx` writes: regular files alone, those of a sample on a line."""
    with tarfile.open(tar) as archive:
        files = [one for one in archive if one.isreg()]
    lines = [f"{one.name.partition('.')[2]} {one.offset_data} {one.size} {one.name}\n" for one in files]
    tar.with_suffix(".idx").write_text(f"{version} {len(lines)}\n{''.join(lines)}")
