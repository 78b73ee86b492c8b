"""Drawing some val pictures while they are evaluated: PNG files in the run directory, named in the record as tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from vice.data_specs.results import Tile
from vice.evaluate.names import CLEAN, COLOUR_POSITION
from vice.evaluate.pictures import paint_labels, save_png
from vice.evaluate.predictions import View

FOLDER = "pictures"
NUM_PICTURES = 4
MAX_SIDE = 360
"""Of a drawn picture, in pixels: enough to look at, small enough to travel inside the report."""

Shows = Literal["prediction", "embedding", "clusters", "clusters as classes"]


class Gallery:
    """Draws what the networks make of a few val pictures, evenly spaced through the val shards.

    Args:
        run_dir: PNG files go to its folder `pictures`.
        name: begins their names.
        painters: what is drawn of each encoder, and how it becomes an RGB picture.
        num_classes: of the labels.
        num_pictures: in the val shards.
    """

    def __init__(
        self,
        run_dir: Path,
        name: str,
        painters: Mapping[Shows, Callable[[View], np.ndarray]],
        *,
        num_classes: int,
        num_pictures: int,
    ):
        self.tiles: list[Tile] = []
        self._folder = Path(run_dir) / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name, self._painters, self._num_classes = name, painters, num_classes
        self._numbers = {(2 * i + 1) * num_pictures // (2 * NUM_PICTURES) for i in range(NUM_PICTURES)}
        self._drawn: set[tuple[str, str]] = set()

    def add(self, view: View) -> None:
        """Draw a view, if its picture is one of the chosen and its encoder a network."""
        if view.scene.number not in self._numbers or view.encoder == COLOUR_POSITION:
            return
        if (view.scene.key, view.condition) not in self._drawn:
            self._drawn.add((view.scene.key, view.condition))
            self._save(view, "picture", view.picture, of_encoder=False)
            if view.condition == CLEAN:
                labels = paint_labels(view.scene.labels, num_classes=self._num_classes)
                self._save(view, "labels", labels, of_encoder=False)
        for shows, paint in self._painters.items():
            self._save(view, shows, paint(view), of_encoder=True)

    def _save(self, view: View, shows: str, picture: np.ndarray, *, of_encoder: bool) -> None:
        encoder = view.encoder if of_encoder else None
        parts = [self._name, view.scene.key, view.condition, *([encoder] if encoder else []), shows]
        file = f"{FOLDER}/{'-'.join(parts).replace(' ', '_')}.png"
        save_png(self._folder.parent / file, picture, max_side=MAX_SIDE, blend=shows in {"picture", "embedding"})
        self.tiles.append(Tile(file=file, key=view.scene.key, condition=view.condition, encoder=encoder, shows=shows))
