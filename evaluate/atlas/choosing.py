"""A region chosen on the command line: `KEY:X,Y`, and the picture of it beside the regions most like it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vice.data_specs.errors import InputError
from vice.evaluate.atlas.cut_outs import outlined, side_by_side
from vice.evaluate.atlas.lookup import Pool
from vice.evaluate.atlas.region_embeddings import Regions
from vice.evaluate.pictures import save_png
from vice.pipeline.shards import Shards


class Choice(NamedTuple):
    """A pixel of a picture; its region is meant."""

    number: int
    """Of the picture."""
    x: int
    y: int


def parse_choice(text: str, shards: Shards) -> Choice:
    """A choice as a command line has it.

    Raises:
        InputError: it is none, there is no such picture, or the pixel lies outside.
    """
    found = re.fullmatch(r"(?P<key>.+):(?P<x>\d+),(?P<y>\d+)", text)
    if found is None:
        raise InputError("not a choice", where=text, hint="write KEY:X,Y, a sample's key and a pixel")
    if found["key"] not in shards.keys:
        raise InputError(
            f"no sample {found['key']}", where=shards.address, hint="vice-prep info and manifest list them"
        )
    number = shards.keys.index(found["key"])
    width, height = shards.sizes[number].tolist()
    x, y = int(found["x"]), int(found["y"])
    if x >= width or y >= height:
        raise InputError("the pixel lies outside the picture", where=text, hint=f"it has {width} × {height}")
    return Choice(number, x, y)


def draw_choice(
    shards: Shards, regions: Regions, choice: Choice, pool: Pool, sprite: Sequence[np.ndarray], folder: Path
) -> Path:
    """Write `nearest-KEY-X-Y.png`: the picture with the region outlined, below it the regions most like it."""
    region = int(regions.map[choice.y, choice.x])
    picture = shards.sample(regions.number, layers=[]).picture
    cosines, places = pool.nearest(regions.embeddings[region : region + 1])
    row = side_by_side([sprite[place] for place in places[0]], columns=len(places[0]))
    width = row.shape[1]
    scale = width / picture.shape[1]
    size = width, max(1, round(picture.shape[0] * scale))
    whole = outlined(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC),
        cv2.resize(regions.map, size, interpolation=cv2.INTER_NEAREST) == region,
    )
    told = np.full((16, width, 3), 255, np.uint8)
    for column, cosine in enumerate(cosines[0]):
        place = column * row.shape[0] + 4, 12
        cv2.putText(told, f"{cosine:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    path = folder / f"nearest-{shards.keys[regions.number]}-{choice.x}-{choice.y}.png"
    sheet = np.concatenate([whole, row, told])
    save_png(path, sheet, max_side=max(sheet.shape[:2]), blend=True)
    return path
