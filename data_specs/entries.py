"""Entries of `results.json`: evaluations with labels and the bounds of region layers, each with what made it."""

from __future__ import annotations

from typing import Any, Literal

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


class Evaluation(StrictModel):
    """One evaluation with labels: what was asked, on which data, and every encoder's scores by condition."""

    kind: Literal["linear", "cluster", "neighbors"]
    settings: dict[str, Any]
    """Everything that decides the numbers: seeds, picture size, number of vectors, k-means settings, matching rule."""
    train: DataRef
    val: DataRef
    encoders: dict[str, dict[str, Score]]
    """Encoder name (`trained`, `untrained`, `colour + position`) to condition (`clean`, `changed light`) to score."""
    compared: dict[str, ComparedEncoder] = {}
    """Encoder name to what it is; empty in older records."""
    missing: dict[str, str] = {}
    """Baselines that could not be built, by name, with the reason."""
    seconds: float
    """Wall time of the evaluation, or of all those that were made in the same pass."""
    tiles: list[Tile] = []
    """Some val pictures with what the encoders made of them, for the report."""
    colours: dict[str, str] = {}
    """Class to its colour in the tiles, as `#rrggbb`."""


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


class RegionBounds(StrictModel):
    """One evaluation of the region layers themselves."""

    settings: dict[str, Any]
    """Everything that decides the numbers: layers, boundary tolerance, how many pictures and segmentations."""
    data: DataRef
    layers: list[LayerBounds]
    thickness: dict[str, float] = {}
    """Class to the mean thickness of its pieces, in pixels; thin classes are those below a region's side."""
    seconds: float
    tiles: list[Tile] = []
    colours: dict[str, str] = {}
