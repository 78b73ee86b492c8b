"""Entries of `results.json`: evaluations with labels and the bounds of region layers, each with what made it."""

from __future__ import annotations

from typing import Any, Literal

from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.validation import StrictModel

Levels = Literal["all", "last"]
"""Which maps of a backbone: all four, concatenated at the finest stride, or the last one."""
Role = Literal[
    "evaluated",
    "frozen encoder",
    "frozen encoder reduced",
    "step 0",
    "random encoder",
    "random encoder reduced",
    "untrained",
    "colour + position",
    "colour",
]
"""What an encoder is there for in an evaluation: the one that results belong to, or a baseline."""


class Repeat(StrictModel):
    """The shares of one seed, where an evaluation was repeated with several."""

    seed: int
    miou: float
    accuracy: float
    mean_accuracy: float


class Score(StrictModel):
    """One encoder on one condition of the validation pictures; all shares are 0..1, over labelled pixels only.

    With several seeds, shares are means over them and pixel counts are sums.
    """

    miou: float
    """Mean over the classes that occur in labels or predictions of intersection over union."""
    accuracy: float
    """Share of pixels predicted right."""
    mean_accuracy: float
    """Mean over the classes that occur of the share of the class's pixels predicted right."""
    iou: dict[str, float | None]
    """Per class; None where the class occurs neither in labels nor in predictions."""
    confusion: list[list[int]]
    """Pixel counts, rows: labelled class, columns: predicted class."""
    repeats: list[Repeat] = []
    """Each seed's shares; empty where there was one seed."""


class DataRef(StrictModel):
    """The shards that an evaluation read."""

    dataset: str
    split: str
    num_pictures: int
    fingerprint: str
    data_version: int = 1
    """Of the data: one more for every time that inputs were appended."""
    class_set: str | None = None
    """The spec's set of classes that labels were read in; None as they are stored."""


class Tile(StrictModel):
    """One drawn picture, a file beside the record."""

    file: str
    """Path relative to the run directory."""
    key: str
    """The sample's key in the val shards."""
    condition: str
    """What the picture was evaluated under."""
    encoder: str | None
    """Whose output it shows; None for the picture itself and its labels."""
    shows: Literal["picture", "labels", "prediction", "embedding", "clusters", "clusters as classes", "regions"]


class FittedOn(StrictModel):
    """The vectors that standardisation and PCA of an encoder's maps were fitted on."""

    shards: str
    """Fingerprint of the shards."""
    num_pictures: int
    """Clean pictures, evenly spaced through the shards."""
    cells_per_picture: int
    """Drawn from each by counter, or all its cells where it has fewer."""
    num_vectors: int
    seed: int
    """Of the drawn cells."""
    fingerprint: str
    """Of the shards, the pictures' numbers and size, and the draw."""


class ComparedEncoder(StrictModel):
    """What one encoder of an evaluation is."""

    role: Role
    dim: int
    """Values per cell."""
    levels: Levels | None = None
    """Of a backbone's maps; None for encoders that are no backbone."""
    standardised: bool = False
    """Whether every channel was brought to mean 0 and deviation 1."""
    reduced_from: int | None = None
    """Values per cell before a PCA reduced them; None where there was none."""
    explained_variance: float | None = None
    """Share of the standardised vectors' variance that the reduced values hold."""
    fitted_on: FittedOn | None = None


OUTCOMES = ("fits", "num_patches", "encoder_trained_on_shards", "encoder_has_seen_pictures_of")
"""Parts of settings, at any depth, that follow from the encoder rather than from what was requested."""


class Entry(StrictModel):
    """What every entry of the record has."""

    name: str = ""
    """What it is called among entries of the same settings; empty in records of version 2, where it is the key."""
    settings: dict[str, Any]
    """Everything that decides the numbers."""
    seconds: float
    """Wall time, or that of all entries that were made in the same pass."""
    versions: dict[str, str] = {}
    """Versions of the libraries that made it; empty in records of version 2."""
    threads: int | None = None
    """Threads of a CPU's matrix products: bits are equal for equal counts only. None in records of version 2."""

    @property
    def request(self) -> dict[str, Any]:
        """All that was requested: settings without outcomes, and the data. Entries that differ in it are different."""
        return {"settings": _requested(self.settings)}

    @property
    def identity(self) -> str:
        """Fingerprint of the request."""
        return fingerprint(self.request)


def _requested(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _requested(value) for name, value in settings.items() if name not in OUTCOMES}
    return settings


class Evaluation(Entry):
    """One evaluation with labels: what was requested, on which data, and every encoder's scores by condition.

    Its settings: seeds, picture size, number of vectors, k-means settings, matching rule.
    """

    kind: Literal["linear", "cluster", "neighbors"]
    train: DataRef
    val: DataRef
    encoders: dict[str, dict[str, Score]]
    """Encoder name (`trained`, `untrained`, `colour + position`) to condition (`clean`, `changed light`) to score."""
    compared: dict[str, ComparedEncoder] = {}
    """Encoder name to what it is; empty in older records."""
    missing: dict[str, str] = {}
    """Baselines that could not be built, by name, with the reason."""
    tiles: list[Tile] = []
    """Some val pictures with what the encoders made of them, for the report."""
    colours: dict[str, str] = {}
    """Class to its colour in the tiles, as `#rrggbb`."""

    @property
    def request(self) -> dict[str, Any]:
        """See `Entry`."""
        data = {"train": self.train.model_dump(), "val": self.val.model_dump()}
        return {"kind": self.kind, **super().request, **data}


class Measure(StrictModel):
    """A mean over pictures, with its standard error (0 for one picture)."""

    mean: float
    standard_error: float


class LayerBounds(StrictModel):
    """What one way of dividing pictures into regions allows, whatever the features are."""

    layer: str
    """`slic20` as stored, `grid:20` of equal base size, `grid as many as slic20` of equal count."""
    regions: Measure
    """Regions a picture."""
    majority: Score | None = None
    """Every region as the class of most of its labelled pixels: the highest accuracy; None without labels."""
    best: Score | None = None
    """Regions assigned for mIoU itself, by ascent from the majority."""
    boundary_recall: Measure | None = None
    undersegmentation_error: Measure | None = None
    achievable_accuracy: Measure | None = None
    compactness: Measure | None = None
    """The four against human segmentations, where such were given: mean over the segmentations of each picture."""


class RegionBounds(Entry):
    """One evaluation of the region layers themselves; its settings: boundary tolerance and segmentations."""

    data: DataRef
    layers: list[LayerBounds]
    thickness: dict[str, float] = {}
    """Class to the mean thickness of its pieces, in pixels; thin classes are those below a region's side."""
    tiles: list[Tile] = []
    colours: dict[str, str] = {}

    @property
    def request(self) -> dict[str, Any]:
        """See `Entry`."""
        return {**super().request, "data": self.data.model_dump(), "layers": [one.layer for one in self.layers]}
