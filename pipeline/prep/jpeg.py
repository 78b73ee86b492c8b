"""What the markers of a JPEG say, without decoding it."""

from __future__ import annotations

import re
from typing import NamedTuple

from vice.pipeline.prep.rejection import Rejected

_MAX_SCANS = 100
"""Encoders write at most a few dozen; a small file of thousands takes hours."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_HUFFMAN_8_BIT = {0xC0, 0xC1, 0xC2}
_FRAME_MARKERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class JpegMarkers(NamedTuple):
    """What the markers of a JPEG say."""

    sizes: list[tuple[int, int]]
    """Width and height of every frame up to the end of the image."""
    scans: int
    plain: bool


def walk_jpeg(data: bytes) -> JpegMarkers:
    """Go from marker to marker as the decoders do, up to the end of the first image."""
    position, sizes, scans, plain = 2, [], 0, True
    while True:
        match = _MARKER.search(data, position)
        if match is None:
            return JpegMarkers(sizes, scans, plain=False)
        plain = plain and (scans > 0 or match.start() == position)  # some readers want segment after segment
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9:
            return JpegMarkers(sizes, scans, plain and len(sizes) == 1 and position == len(data))
        if marker in _FRAME_MARKERS:
            precision, height, width, components = (
                int.from_bytes(data[position + i : position + j], "big") for i, j in ((2, 3), (3, 5), (5, 7), (7, 8))
            )
            plain = plain and marker in _HUFFMAN_8_BIT and precision == 8 and components in (1, 3)
            sizes.append((width, height))
        scans += marker == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")


def refuse_lying_jpeg(jpeg: JpegMarkers, width: int, height: int) -> None:
    """Refuse frames of other sizes than the header's, and more scans than any encoder writes.

    Raises:
        Rejected: this is such a file.
    """
    if jpeg.sizes != [(width, height)]:
        raise Rejected("picture", "its header and its pixels differ in size")
    if jpeg.scans > _MAX_SCANS:
        raise Rejected("picture", f"a JPEG of {jpeg.scans} scans")


def is_plain_jpeg(data: bytes) -> bool:
    """Whether every reader decodes these bytes alike: an 8-bit Huffman JPEG of 1 or 3 components that ends properly.

    Ending properly: its end-of-image marker is also the end of the file.
    """
    return data[:2] == b"\xff\xd8" and walk_jpeg(data).plain
