"""Drawing some val pictures while they are evaluated: PNG files in the run directory, named in the record as tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from vice.data_specs.entries import Tile
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR, COLOUR_POSITION
from vice.evaluate.passes import View
from vice.evaluate.pictures import paint_labels, principal_colours, save_drawn
from vice.evaluate.vectors import Vectors

FOLDER = "pictures"
NUM_PICTURES = 4
MAX_SIDE = 360
"""Of a drawn picture, in pixels: enough to look at, small enough to travel inside the report."""

CONDITIONS_DRAWN = (CLEAN, CHANGED_LIGHT)
WITHOUT_NETWORK = (COLOUR_POSITION, COLOUR)
"""They show the picture itself."""

Shows = Literal["prediction", "embedding", "clusters", "clusters as classes"]
Painter = Callable[[View], np.ndarray]


class Gallery:
    """Draws what the encoders make of a few val pictures, evenly spaced through the val shards.

    Args:
        run_dir: PNG files go to its folder `pictures`.
        name: of the entry of the record; begins their names.
        num_classes: of the labels.
        num_pictures: in the val shards.
    """

    def __init__(self, run_dir: Path, name: str, *, num_classes: int, num_pictures: int):
        self.tiles: list[Tile] = []
        self.painters: dict[Shows, Painter] = {}
        """What is drawn of each encoder, and how it becomes an RGB picture."""
        self._run_dir = Path(run_dir)
        self._name, self._num_classes = name, num_classes
        self._numbers = {(2 * i + 1) * num_pictures // (2 * NUM_PICTURES) for i in range(NUM_PICTURES)}
        self._drawn: set[tuple[str, str]] = set()

    def add(self, view: View) -> None:
        """Draw a view, if its picture and condition are among those that are drawn, and its encoder is a network."""
        if view.scene.number not in self._numbers or view.condition not in CONDITIONS_DRAWN:
            return
        if view.encoder in WITHOUT_NETWORK:
            return
        if (view.scene.key, view.condition) not in self._drawn:
            self._drawn.add((view.scene.key, view.condition))
            self._save(view, "picture", view.picture, of_encoder=False)
            if view.condition == CLEAN:
                labels = paint_labels(view.scene.labels, num_classes=self._num_classes)
                self._save(view, "labels", labels, of_encoder=False)
        for shows, paint in self.painters.items():
            self._save(view, shows, paint(view), of_encoder=True)

    def _save(self, view: View, shows: str, picture: np.ndarray, *, of_encoder: bool) -> None:
        encoder = view.encoder if of_encoder else None
        parts = [self._name, view.scene.key, view.condition, *([encoder] if encoder else []), shows]
        blend = shows in {"picture", "embedding"}
        file = save_drawn(self._run_dir, f"{FOLDER}/{'-'.join(parts)}", picture, max_side=MAX_SIDE, blend=blend)
        self.tiles.append(Tile(file=file, key=view.scene.key, condition=view.condition, encoder=encoder, shows=shows))


def add_embeddings(gallery: Gallery, vectors: Vectors) -> None:
    """Let a gallery draw embeddings by their three main directions, one basis per encoder for all pictures."""
    bases = {name: principal_colours(embeddings) for name, embeddings in vectors.embeddings.items()}
    gallery.painters["embedding"] = lambda view: bases[view.encoder].paint(
        view.embedding, *view.picture.shape[:2], stride=view.stride
    )
