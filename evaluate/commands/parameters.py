"""Parameters that several commands have, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vice.evaluate.commands.combinations import MAX_SEED, finite
from vice.evaluate.options import Drawing, KMeansSettings, NeighborSettings

DRAWING, KMEANS, NEIGHBORS = Drawing(), KMeansSettings(), NeighborSettings()
"""Where the commands' defaults come from."""

EncoderSource = Annotated[
    str,
    typer.Argument(
        metavar="ENCODER",
        help="A checkpoint (RUN/checkpoints/last.pt) or RUN, a folder of vice-train export, timm/NAME, "
        "torchvision/NAME, or a Python object as module:object or file.py:object.",
    ),
]
TrainShards = Annotated[
    str, typer.Option("--train", metavar="SHARDS", help="Labelled shards that probes and clusters are fitted on.")
]
ValShards = Annotated[
    str, typer.Option("--val", metavar="SHARDS", help="Labelled shards that are scored; same classes.")
]
MaxShared = Annotated[
    float,
    typer.Option(
        "--max-shared",
        min=0,
        max=1,
        callback=finite,
        help="Largest share of val pictures that may also be in train, by their bytes.",
    ),
]
MAX_SHARED = 0.01
RunDir = Annotated[Path, typer.Option("--run-dir", help="Folder of results.json and pictures, of one encoder.")]
ClassSetName = Annotated[
    str | None,
    typer.Option("--classes", metavar="SET", help="Score in this set of classes of the spec.", show_default=False),
]
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Of everything that is drawn: pixels, patches, first centroids.")
]
Repeats = Annotated[
    int, typer.Option(min=1, help="Repeat with so many seeds, from --seed on; results are their mean with the spread.")
]
PixelsPerPicture = Annotated[int, typer.Option(min=1, help="Pixels drawn from each train picture.")]
MaxVectors = Annotated[int, typer.Option(min=1, help="Pixels drawn from all of them together, at most.")]
Conditions = Annotated[
    list[str],
    typer.Option(
        "--condition",
        help="What val pictures are tested under beside clean: changed light, brightness, contrast, colour, blur, "
        "noise, half size, or all; give it several times.",
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        min=16, help="Bring pictures to this size before they are embedded; labels stay.", show_default="as stored"
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(min=64, help="Embed larger pictures by tiles of so many pixels a side.", show_default="whole"),
]
Scales = Annotated[
    list[float],
    typer.Option(
        "--scale",
        min=0.1,
        max=8,
        callback=finite,
        help="Average the maps of resized pictures; several times: 0.75, 1, 1.25.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Average the maps of the picture and its mirror image.")]
Weights = Annotated[
    str,
    typer.Option(
        help="Of timm's and torchvision's networks: none (random), packaged, default, a public name, or a file."
    ),
]
LevelsOption = Annotated[
    Literal["all", "last"] | None,
    typer.Option(
        "--levels",
        help="Their maps: all, each channel standardised on train pictures, upsampled to the finest stride and "
        "concatenated; or the last one as it is. A plain vision transformer has one map.",
        show_default="all",
    ),
]
Dims = Annotated[
    int | None,
    typer.Option(
        "--dims",
        metavar="D",
        min=1,
        help="Reduce their standardised maps to D values by a PCA fitted on train pictures.",
        show_default="as they are",
    ),
]
OutputStride = Annotated[int, typer.Option(help="Of their last map: 8, 16 or 32 pixels a cell.")]
Device = Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda, cuda:1, ...")]
NumClusters = Annotated[
    list[int],
    typer.Option("--k", min=1, help="Number of clusters; give it several times.", show_default="the number of classes"),
]
