"""The entry of `results.json` that an atlas is: concepts, their typical regions, and nearest regions of chosen ones."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vice.data_specs.entries import DataRef, Entry
from vice.data_specs.validation import StrictModel


class AtlasRegion(StrictModel):
    """One region as an example of a concept."""

    key: str
    """Of its picture."""
    region: int
    """Its id in the picture's region map."""
    similarity: float
    """Cosine with the concept."""


class Concept(StrictModel):
    """One concept: how much of the pictures it covers, of which classes, and its most typical regions."""

    number: int
    usage: float = Field(ge=0, le=1)
    """Share of the pictures' area whose nearest concept it is."""
    num_regions: int
    classes: dict[str, float] = {}
    """Class to its share of the concept's labelled pixels, largest first; empty without labels."""
    strip: str | None = None
    """Picture file with its typical regions side by side, relative to the run directory; None for an unused concept."""
    regions: list[AtlasRegion] = []
    """In the order of the strip, most typical first."""


class LookupRegion(StrictModel):
    """A region of the pool that others are compared with."""

    key: str
    region: int
    label: str | None = None
    """Class of most of its labelled pixels."""


class LookupPicture(StrictModel):
    """A picture whose regions can be chosen."""

    key: str
    picture: str
    """Picture file, relative to the run directory."""
    regions: str
    """Its region map as an RGB PNG of the same size: id = red + 256 green."""
    nearest: list[list[int]]
    """Per region id the nearest regions of the pool, by their places in it, the most alike first."""
    similarity: list[list[float]]
    """Their cosines, in the same order."""


class RegionLookup(StrictModel):
    """Nearest regions: some pictures, and a pool of regions of other pictures with a cut-out of each."""

    pictures: list[LookupPicture]
    pool: list[LookupRegion]
    sprite: str
    """Picture file with all cut-outs of the pool, row by row, relative to the run directory."""
    tile: int
    """Side of a cut-out in the sprite, in pixels."""
    columns: int
    """Cut-outs in a row of the sprite."""


class Atlas(Entry):
    """The visual vocabulary: every concept with its most typical regions, and nearest regions of chosen ones.

    Its settings: where the concepts come from (`training`, or k-means), the region layer, how many regions.
    """

    data: DataRef
    concepts: list[Concept]
    lookup: RegionLookup | None = None

    @property
    def request(self) -> dict[str, Any]:
        """See `Entry`."""
        return {**super().request, "data": self.data.model_dump()}
