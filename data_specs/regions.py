"""Region layers: their names, parameters and the member they are stored as; and the one ignore value."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field

from vice.data_specs.errors import InputError
from vice.data_specs.validation import StrictModel, parse

IGNORE = 65535
"""The one ignore value: of label maps in shards and of region ids in batches. Stored region ids stay below it."""

MAX_REGIONS_STORED = 65535
"""A stored layer has at most this many regions (ids 0..65534 in a 16-bit PNG)."""


class RegionLayer(StrictModel):
    """A stored layer, as `slic:20`, `slico:20`, `mslic:20`, or with parameters: `slic:20,ruler=10,iterations=10`."""

    method: Literal["slic", "slico", "opencv-slic", "opencv-slico", "mslic"]
    """The superpixel algorithm: SLIC, SLICO with a compactness that adapts, the same by OpenCV, or OpenCV's MSLIC."""
    size: int = Field(ge=4, le=1024)
    """Mean region side in picture pixels."""
    ruler: float = Field(default=10.0, gt=0)
    """Compactness: weight of position against CIELAB colour (not used by slico, which adapts it)."""
    iterations: int = Field(default=10, ge=1, le=100)
    """Number of k-means iterations."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse a layer as given on the command line.

        Raises:
            InputError: the text is no layer, or a parameter is unknown or out of range.
        """
        match = re.fullmatch(r"(?P<method>[a-z-]+):(?P<size>\d+)(?P<rest>(,[a-z]+=[0-9.]+)*)", text.strip())
        if match is None:
            raise InputError(
                "not a region layer", where=repr(text), hint="write METHOD:SIZE as in slic:20 or slic:20,ruler=10"
            )
        parameters = dict(part.split("=") for part in match["rest"].split(",") if part)
        return parse(cls, {"method": match["method"], "size": match["size"], **parameters}, where=f"layer {text!r}")

    @property
    def name(self) -> str:
        """The layer's name in file names: `slic20`; parameters that are not the default are added (`slic20_ruler5`)."""
        changed = [
            f"_{field}{getattr(self, field):g}".replace(".", "p")
            for field in ("ruler", "iterations")
            if getattr(self, field) != type(self).model_fields[field].default
        ]
        return f"{self.method}{self.size}" + "".join(changed)

    @property
    def member(self) -> str:
        """The extension of the layer's member in a shard: `slic20.png`."""
        return f"{self.name}.png"

    def __str__(self) -> str:
        parameters = [
            f",{field}={getattr(self, field):g}"
            for field in ("ruler", "iterations")
            if getattr(self, field) != type(self).model_fields[field].default
        ]
        return f"{self.method}:{self.size}" + "".join(parameters)


def grid_cell(text: str) -> int | None:
    """Cell side in pixels of a layer that is never stored (`grid:N`, `pixel` = `grid:1`), or None for a stored one."""
    if text == "pixel":
        return 1
    match = re.fullmatch(r"grid:([1-9]\d*)", text)
    return int(match[1]) if match else None
