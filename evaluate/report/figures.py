"""Pictures for the report: val pictures with what encoders make of them, the concept atlas, regions to choose from."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from vice.data_specs.atlas_entry import Atlas, Concept, RegionLookup
from vice.data_specs.entries import Evaluation, RegionBounds, Tile
from vice.evaluate.report.runs import Run

MOST_CARDS = 128
"""Concepts that are shown: each adds some 50 kB to the page. All of their strips lie in the run's folder."""


class Picture(NamedTuple):
    """A drawn picture, with its bytes."""

    caption: str
    data: str | None
    """`data:` address, None where the file is missing."""


class PictureRow(NamedTuple):
    """One val picture under one condition; None keeps a column free."""

    key: str
    condition: str
    pictures: list[Picture | None]


class Card(NamedTuple):
    """One concept of the atlas."""

    concept: Concept
    strip: str | None
    main_class: str
    """Class of most of its labelled pixels; empty without labels."""


def picture_rows(run: Run, entry: Evaluation | RegionBounds) -> list[PictureRow]:
    """The entry's pictures: a row per val picture and condition, the same thing in the same column."""
    columns = list(dict.fromkeys((tile.encoder, tile.shows) for tile in entry.tiles))
    tiles = {(tile.key, tile.condition, tile.encoder, tile.shows): tile for tile in entry.tiles}
    keys = dict.fromkeys(tile.key for tile in entry.tiles)
    conditions = dict.fromkeys(tile.condition for tile in entry.tiles)
    return [
        PictureRow(key, condition, [_picture(run, tiles.get((key, condition, *column))) for column in columns])
        for key in keys
        for condition in conditions
    ]


def _picture(run: Run, tile: Tile | None) -> Picture | None:
    if tile is None:
        return None
    caption = f"{tile.encoder}: {tile.shows}" if tile.encoder else tile.shows
    return Picture(caption, run.picture(tile.file))


def cards(run: Run, atlas: Atlas) -> tuple[list[Card], int]:
    """The concepts that are used, the most used first, as many as the page shows; and how many there are."""
    used = sorted((concept for concept in atlas.concepts if concept.usage > 0), key=lambda one: -one.usage)
    shown = [
        Card(concept, run.picture(concept.strip) if concept.strip else None, next(iter(concept.classes), ""))
        for concept in used[:MOST_CARDS]
    ]
    return shown, len(used)


def lookup_data(run: Run, lookup: RegionLookup) -> dict[str, Any] | None:
    """What the page needs to show the nearest regions of one that is chosen; None where a picture is missing."""
    sprite = run.picture(lookup.sprite)
    pictures = [
        {
            "key": one.key,
            "picture": run.picture(one.picture),
            "regions": run.picture(one.regions),
            "nearest": one.nearest,
            "similarity": [[round(value, 3) for value in row] for row in one.similarity],
        }
        for one in lookup.pictures
    ]
    if sprite is None or any(one["picture"] is None or one["regions"] is None for one in pictures):
        return None
    pool = [[one.key, one.region, one.label or ""] for one in lookup.pool]
    return {"sprite": sprite, "tile": lookup.tile, "columns": lookup.columns, "pool": pool, "pictures": pictures}


def colours_of(run: Run) -> dict[str, str]:
    """Every class's colour in the run's pictures."""
    return {name: colour for entry in run.results.evaluations.values() for name, colour in entry.colours.items()}


def region_side(bounds: RegionBounds) -> float:
    """Mean side of the largest stored layer's regions, in pixels: its name says it (`slic20`, `slic20_ruler5`)."""
    sides = [re.match(r"[a-z-]+(\d+)", layer.layer) for layer in bounds.layers if not layer.layer.startswith("grid")]
    return max((float(found[1]) for found in sides if found), default=0.0)
