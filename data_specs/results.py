"""`results.json`, version 2: the record of evaluations, from which alone the report is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vice.data_specs.errors import InputError
from vice.data_specs.validation import StrictModel, parse

RESULTS_FILE = "results.json"
RESULTS_FORMAT, RESULTS_VERSION = "vice-results", 2

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


class Atlas(StrictModel):
    """The visual vocabulary: every concept with its most typical regions, and nearest regions of chosen ones."""

    settings: dict[str, Any]
    """Where the concepts come from (`training`, or k-means and its settings), the region layer, how many regions."""
    data: DataRef
    concepts: list[Concept]
    lookup: RegionLookup | None = None
    seconds: float


class EncoderRef(StrictModel):
    """The encoder that the results of a run directory belong to."""

    kind: Literal["checkpoint", "export", "timm", "torchvision", "python"]
    name: str
    """The run's configuration name (preset), the network's name, or `module:object`."""
    sha256: str
    """Of the checkpoint or the exported weights; else of everything that names the encoder."""
    dim: int
    """Values per cell of an embedding map."""
    stride: int
    """Picture pixels per cell."""
    weights: str = ""
    """Where the weights came from, in words."""
    levels: Levels | None = None
    """Of a backbone's maps; None for other encoders, and for last maps in older records."""
    dims: int | None = None
    """Values per cell that a PCA left; None without one."""
    step: int | None = None
    """This and what follows: of checkpoints and exports only."""
    num_steps: int | None = None
    num_concepts: int | None = None
    views_seen: int | None = None
    shards_fingerprint: str | None = None
    """Of the shards it was trained on."""


class TrainingCurve(StrictModel):
    """The loss of the run that wrote the checkpoint, thinned to what a chart needs."""

    steps: list[int]
    loss: list[float]
    """Mean of the logged losses since the step before."""
    ln_num_concepts: float | None
    """Swapped prediction of a network that tells no concept from another: a curve that stays there learns nothing.
    None where no concepts are predicted."""
    terms: dict[str, list[float]] = {}
    """Each term of the loss without its weight, by its name, at the same steps; empty in older records."""

    @property
    def prediction(self) -> list[float]:
        """What `ln_num_concepts` is compared with: swapped prediction, which is all of the loss in older records."""
        return self.terms.get("swapped_prediction", self.loss)


class Results(StrictModel):
    """`results.json`: one entry per evaluation of one encoder."""

    format: Literal["vice-results"] = RESULTS_FORMAT
    version: int = RESULTS_VERSION
    encoder: EncoderRef | None = None
    """None as long as only region layers were evaluated."""
    training: TrainingCurve | None = None
    """None where the checkpoint stands alone, without its run's metrics."""
    versions: dict[str, str]
    """Library versions of the last evaluation written."""
    evaluations: dict[str, Evaluation] = {}
    """By name: `linear`, `cluster-27 greedy train-fitted`, `neighbors`, `linear-without-0006R0`; the set of classes,
    the size that pictures were brought to, and averaging stand before it: `averaged short-side-320 linear`."""
    regions: dict[str, RegionBounds] = {}
    """By the name of the data: `camvid val`."""
    atlases: dict[str, Atlas] = {}
    """By the name of the data and the region layer: `camvid val slic20`."""


def read_results(run_dir: Path) -> Results | None:
    """Read a run directory's `results.json`, or None where there is none.

    Raises:
        InputError: the file is not ours, or of another version.
    """
    path = Path(run_dir) / RESULTS_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not readable as JSON", where=path, hint="use another --run-dir") from None
    if not isinstance(data, dict) or data.get("format") != RESULTS_FORMAT:
        raise InputError("not results of this program", where=path, hint="use another --run-dir")
    if data.get("version") != RESULTS_VERSION:
        what = f"results of version {data.get('version')!r}, not {RESULTS_VERSION}"
        raise InputError(what, where=path, hint="evaluate again, into another --run-dir")
    return parse(Results, data, where=path)


def write_results(run_dir: Path, results: Results) -> Path:
    """Write `results.json` aside and rename it into place; returns its path."""
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / RESULTS_FILE
    aside = path.with_suffix(".tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(results.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    return path
