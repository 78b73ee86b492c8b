"""`vice-eval`: a checkpoint and labelled shards in; numbers, pictures and a report out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from vice.data_specs.errors import InputError, run_command
from vice.data_specs.results import Evaluation, Results
from vice.evaluate.names import in_classes
from vice.evaluate.options import ClusterOptions, Drawing, KMeansSettings, LinearOptions, ProbeSettings
from vice.evaluate.scenes import open_pair
from vice.evaluate.summary import print_scores
from vice.pipeline.shards import Shards

# What needs torch is imported inside the commands, so that --help, the report and a wrong folder do not wait for it.
if TYPE_CHECKING:
    import torch

    from vice.evaluate.encoders import Encoder

app = typer.Typer(
    help="Evaluate the dense features of a checkpoint beside an untrained network and raw colour. With --debug, an "
    "error also prints its traceback.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)

DRAWING, PROBE, KMEANS = Drawing(), ProbeSettings(), KMeansSettings()
"""Where the commands' defaults come from."""

CheckpointPath = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file in RUN/checkpoints.")]
TrainShards = Annotated[
    str, typer.Option("--train", metavar="SHARDS", help="Labelled shards that probes and clusters are fitted on.")
]
ValShards = Annotated[
    str, typer.Option("--val", metavar="SHARDS", help="Labelled shards that are scored; same classes.")
]
RunDir = Annotated[Path, typer.Option("--run-dir", help="Folder of results.json and pictures, of one checkpoint.")]
ClassSetName = Annotated[
    str | None,
    typer.Option("--classes", metavar="SET", help="Score in this set of classes of the spec.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the drawn pixels and of k-means.")]
PixelsPerPicture = Annotated[int, typer.Option(min=1, help="Pixels drawn from each train picture.")]
MaxVectors = Annotated[int, typer.Option(min=1, help="Pixels drawn from all of them together, at most.")]
Device = Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda, cuda:1, ...")]


@app.command(
    epilog="Example: vice-eval linear runs/camvid/checkpoints/last.pt --train shards/train --val shards/val "
    "--run-dir runs/camvid/eval"
)
def linear(
    checkpoint: CheckpointPath,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    leave_one_group_out: Annotated[
        bool, typer.Option("--leave-one-group-out", help="Also test each group by a probe fitted on all others.")
    ] = False,
    classes: ClassSetName = None,
    seed: Seed = 0,
    pixels_per_picture: PixelsPerPicture = DRAWING.pixels_per_picture,
    max_vectors: MaxVectors = DRAWING.max_vectors,
    l2: Annotated[float, typer.Option(min=0, help="Penalty on the probe's weights.")] = PROBE.l2,
    device: Device = "auto",
) -> None:
    """Fit a 1x1 convolution on the frozen embedding and score it, on clean pictures and under changed light."""
    from vice.evaluate.groups import evaluate_without_groups, groups_of
    from vice.evaluate.linear import evaluate_linear

    job = _open(checkpoint, train, val, run_dir, device, classes)
    if leave_one_group_out:
        groups_of((job.train, job.val))  # refused now rather than after the first evaluation
    options = LinearOptions(Drawing(seed, pixels_per_picture, max_vectors), ProbeSettings(l2=l2))
    evaluation = evaluate_linear(job.encoders, job.train, job.val, options=options, run_dir=run_dir)
    entries = {in_classes("linear", classes): evaluation}
    results = _keep(run_dir, job.results, entries)
    if leave_one_group_out:
        entries = evaluate_without_groups(
            job.encoders, job.train, job.val, options=options, encoder_shards=results.checkpoint.shards_fingerprint
        )
        _keep(run_dir, results, entries)
    _say_next(run_dir)


@app.command(
    epilog="Example: vice-eval cluster runs/camvid/checkpoints/last.pt --train shards/train --val shards/val "
    "--run-dir runs/camvid/eval --k 27 --k 128"
)
def cluster(
    checkpoint: CheckpointPath,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    k: Annotated[list[int], typer.Option("--k", min=1, help="Number of clusters; give it several times.")] = [27],  # noqa: B006 - Typer reads the default, nothing changes it
    classes: ClassSetName = None,
    seed: Seed = 0,
    pixels_per_picture: PixelsPerPicture = DRAWING.pixels_per_picture,
    max_vectors: MaxVectors = DRAWING.max_vectors,
    iterations: Annotated[int, typer.Option(min=1, help="K-means iterations of a restart.")] = KMEANS.iterations,
    restarts: Annotated[int, typer.Option(min=1, help="Restarts; the best is kept.")] = KMEANS.restarts,
    points_per_centroid: Annotated[
        int, typer.Option(min=1, help="Vectors clustered for each centroid, at most.")
    ] = KMEANS.points_per_centroid,
    spherical: Annotated[bool, typer.Option("--spherical", help="Cluster by angle.")] = False,
    device: Device = "auto",
) -> None:
    """Cluster the embedding by FAISS k-means and score clusters as classes, by greedy and Hungarian matching."""
    from vice.evaluate.cluster import evaluate_cluster

    job = _open(checkpoint, train, val, run_dir, device, classes)
    options = ClusterOptions(
        tuple(dict.fromkeys(k)),
        Drawing(seed, pixels_per_picture, max_vectors),
        KMeansSettings(seed, iterations, restarts, points_per_centroid, spherical),
    )
    _keep(run_dir, job.results, evaluate_cluster(job.encoders, job.train, job.val, options=options, run_dir=run_dir))
    _say_next(run_dir)


@app.command(epilog="Example: vice-eval report runs/camvid/eval runs/camvid-grid/eval --output report.html")
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run directories of evaluations.")],
    output: Annotated[Path, typer.Option("--output", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page from the records of one or several run directories, side by side."""
    from vice.evaluate.report import write_report

    print(f"wrote {write_report(run_dirs, output)}; open it in a browser")


class Job(NamedTuple):
    """What every evaluation starts from."""

    encoders: list[Encoder]
    train: Shards
    val: Shards
    results: Results


def _open(checkpoint: Path, train: str, val: str, run_dir: Path, device: str, class_set: str | None) -> Job:
    """Check everything that can be wrong before anything is computed, the data before what needs torch."""
    shards = open_pair(train, val, class_set=class_set)

    from vice.evaluate.encoders import checkpoint_encoders
    from vice.evaluate.record import open_record
    from vice.train.records.checkpoint import read_checkpoint

    place = _device(device)
    loaded = read_checkpoint(checkpoint)
    results = open_record(run_dir, checkpoint, loaded)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", where=run_dir, hint="give another --run-dir") from None
    return Job(checkpoint_encoders(loaded, device=place), *shards, results)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # Only a tensor tells whether the device is there; its name alone does not.
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise InputError("no such device here", where=f"--device {name}", hint="choose auto or cpu") from None


def _keep(run_dir: Path, results: Results, entries: Mapping[str, Evaluation]) -> Results:
    from vice.evaluate.record import add

    results, path = add(run_dir, results, entries)
    print_scores(entries)
    print(f"wrote {path}")
    return results


def _say_next(run_dir: Path) -> None:
    print(f"next: vice-eval report {run_dir} --output {run_dir / 'report.html'}")


def main() -> None:
    """Entry point of the console script."""
    run_command(app, "vice-eval")


if __name__ == "__main__":
    main()
