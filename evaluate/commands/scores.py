"""`linear`, `cluster`, `neighbors`, and `all` of them in the same two passes over the pictures."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vice.evaluate.commands.combinations import check_effect, finite, seeds_from
from vice.evaluate.commands.job import Embedding, Job, open_job, say_next
from vice.evaluate.commands.parameters import (
    DRAWING,
    KMEANS,
    MAX_SHARED,
    NEIGHBORS,
    ClassSetName,
    Conditions,
    Device,
    Dims,
    EncoderSource,
    Flip,
    LevelsOption,
    MaxShared,
    MaxVectors,
    NumClusters,
    OutputStride,
    PixelsPerPicture,
    Repeats,
    RunDir,
    Scales,
    Seed,
    ShortSide,
    Tile,
    TrainShards,
    ValShards,
    Weights,
)
from vice.evaluate.names import CHANGED_LIGHT
from vice.evaluate.options import Drawing, KMeansSettings, NeighborSettings, ProbeSettings, SgdSettings

LEARNING_RATES = list(SgdSettings().learning_rates)


def linear(
    encoder: EncoderSource,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    recipe: Annotated[
        Literal["quick", "paper"],
        typer.Option(help="L-BFGS until it converges, or the paper's SGD at several learning rates."),
    ] = "quick",
    learning_rates: Annotated[
        list[float],
        typer.Option("--learning-rate", min=0, callback=finite, help="Of the paper's recipe; give it several times."),
    ] = LEARNING_RATES,
    leave_one_group_out: Annotated[
        bool, typer.Option("--leave-one-group-out", help="Also test each group by a probe fitted on all others.")
    ] = False,
    classes: ClassSetName = None,
    max_shared: MaxShared = MAX_SHARED,
    condition: Conditions = [CHANGED_LIGHT],  # noqa: B006 - Typer reads the default, nothing changes it
    seed: Seed = 0,
    repeats: Repeats = 1,
    pixels_per_picture: PixelsPerPicture = DRAWING.pixels_per_picture,
    max_vectors: MaxVectors = DRAWING.max_vectors,
    l2: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=finite,
            help="Of the quick probe.",
            show_default="each encoder's best on held-out pictures",
        ),
    ] = None,
    short_side: ShortSide = None,
    tile: Tile = None,
    scale: Scales = [1.0],  # noqa: B006
    flip: Flip = False,
    weights: Weights = "none",
    levels: LevelsOption = None,
    dims: Dims = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Fit a 1x1 convolution on the frozen embedding and score it, on clean and on changed pictures."""
    _check_recipe(recipe, learning_rates, l2)
    if leave_one_group_out:
        because = "with --leave-one-group-out"
        check_effect("--recipe paper", given=recipe == "paper", without_effect=True, because=because)
        check_effect("--repeats", given=repeats > 1, without_effect=True, because=because)
    seeds = seeds_from(seed, repeats)
    embedding = Embedding(weights, output_stride, device, short_side, tile, scale, flip, levels, dims)
    job = open_job(
        encoder,
        train,
        val,
        run_dir,
        classes=classes,
        conditions=condition,
        embedding=embedding,
        max_shared=max_shared,
    )
    drawing = Drawing(pixels_per_picture, max_vectors)
    if leave_one_group_out:
        _check_groups(job)

    from vice.evaluate.evaluators.linear import LinearEvaluator

    settings = ProbeSettings(l2=l2) if recipe == "quick" else SgdSettings(tuple(dict.fromkeys(learning_rates)))
    job.run(lambda setup: [LinearEvaluator(setup, drawing=drawing, recipe=settings, seeds=seeds)])
    if leave_one_group_out:
        _without_groups(job, drawing, ProbeSettings(l2=l2), seed)
    say_next(run_dir)


def cluster(
    encoder: EncoderSource,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    k: NumClusters = [],  # noqa: B006
    classes: ClassSetName = None,
    max_shared: MaxShared = MAX_SHARED,
    condition: Conditions = [CHANGED_LIGHT],  # noqa: B006
    seed: Seed = 0,
    repeats: Repeats = 1,
    pixels_per_picture: PixelsPerPicture = DRAWING.pixels_per_picture,
    max_vectors: MaxVectors = DRAWING.max_vectors,
    iterations: Annotated[int, typer.Option(min=1, help="K-means iterations of a restart.")] = KMEANS.iterations,
    restarts: Annotated[int, typer.Option(min=1, help="Restarts; the best is kept.")] = KMEANS.restarts,
    points_per_centroid: Annotated[
        int, typer.Option(min=1, help="Vectors clustered for each centroid, at most.")
    ] = KMEANS.points_per_centroid,
    spherical: Annotated[bool, typer.Option("--spherical", help="Cluster by angle.")] = False,
    short_side: ShortSide = None,
    tile: Tile = None,
    scale: Scales = [1.0],  # noqa: B006
    flip: Flip = False,
    weights: Weights = "none",
    levels: LevelsOption = None,
    dims: Dims = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Cluster the embedding by FAISS k-means and score clusters as classes, by greedy and Hungarian matching."""
    seeds = seeds_from(seed, repeats)
    embedding = Embedding(weights, output_stride, device, short_side, tile, scale, flip, levels, dims)
    job = open_job(
        encoder,
        train,
        val,
        run_dir,
        classes=classes,
        conditions=condition,
        embedding=embedding,
        max_shared=max_shared,
    )

    from vice.evaluate.evaluators.cluster import ClusterEvaluator

    drawing = Drawing(pixels_per_picture, max_vectors)
    kmeans = KMeansSettings(iterations, restarts, points_per_centroid, spherical)
    job.run(lambda setup: [ClusterEvaluator(setup, num_clusters=k, drawing=drawing, kmeans=kmeans, seeds=seeds)])
    say_next(run_dir)


def neighbors(
    encoder: EncoderSource,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    num_neighbors: Annotated[int, typer.Option(min=1, help="That vote on a patch.")] = NEIGHBORS.num_neighbors,
    memory_size: Annotated[
        int, typer.Option(min=1, help="Train patches that are kept, at most.")
    ] = NEIGHBORS.memory_size,
    patch: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = NEIGHBORS.patch,
    temperature: Annotated[
        float, typer.Option(min=1e-3, callback=finite, help="Of the votes: exp(cosine / temperature).")
    ] = NEIGHBORS.temperature,
    index: Annotated[
        Literal["flat", "ivf"], typer.Option(help="Exact search, or by inverted lists.")
    ] = NEIGHBORS.index,
    classes: ClassSetName = None,
    max_shared: MaxShared = MAX_SHARED,
    condition: Conditions = [CHANGED_LIGHT],  # noqa: B006
    seed: Seed = 0,
    repeats: Repeats = 1,
    short_side: ShortSide = None,
    tile: Tile = None,
    scale: Scales = [1.0],  # noqa: B006
    flip: Flip = False,
    weights: Weights = "none",
    levels: LevelsOption = None,
    dims: Dims = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Let the nearest labelled train patches vote on every val patch: nothing is fitted."""
    seeds = seeds_from(seed, repeats)
    embedding = Embedding(weights, output_stride, device, short_side, tile, scale, flip, levels, dims)
    job = open_job(
        encoder,
        train,
        val,
        run_dir,
        classes=classes,
        conditions=condition,
        embedding=embedding,
        max_shared=max_shared,
    )

    from vice.evaluate.evaluators.neighbors import NeighborEvaluator

    settings = NeighborSettings(num_neighbors, memory_size, patch, temperature, index)
    job.run(lambda setup: [NeighborEvaluator(setup, settings=settings, seeds=seeds)])
    say_next(run_dir)


def all_scores(
    encoder: EncoderSource,
    train: TrainShards,
    val: ValShards,
    run_dir: RunDir,
    k: NumClusters = [],  # noqa: B006
    classes: ClassSetName = None,
    max_shared: MaxShared = MAX_SHARED,
    condition: Conditions = [CHANGED_LIGHT],  # noqa: B006
    seed: Seed = 0,
    repeats: Repeats = 1,
    pixels_per_picture: PixelsPerPicture = DRAWING.pixels_per_picture,
    max_vectors: MaxVectors = DRAWING.max_vectors,
    memory_size: Annotated[
        int, typer.Option(min=1, help="Train patches kept for neighbours, at most.")
    ] = NEIGHBORS.memory_size,
    short_side: ShortSide = None,
    tile: Tile = None,
    scale: Scales = [1.0],  # noqa: B006
    flip: Flip = False,
    weights: Weights = "none",
    levels: LevelsOption = None,
    dims: Dims = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Linear (quick), cluster and neighbors with their defaults; every picture is embedded once for all of them."""
    seeds = seeds_from(seed, repeats)
    embedding = Embedding(weights, output_stride, device, short_side, tile, scale, flip, levels, dims)
    job = open_job(
        encoder,
        train,
        val,
        run_dir,
        classes=classes,
        conditions=condition,
        embedding=embedding,
        max_shared=max_shared,
    )

    from vice.evaluate.evaluators.cluster import ClusterEvaluator
    from vice.evaluate.evaluators.linear import LinearEvaluator
    from vice.evaluate.evaluators.neighbors import NeighborEvaluator

    drawing = Drawing(pixels_per_picture, max_vectors)
    voting = NEIGHBORS._replace(memory_size=memory_size)
    job.run(
        lambda setup: [
            LinearEvaluator(setup, drawing=drawing, recipe=ProbeSettings(), seeds=seeds),
            ClusterEvaluator(setup, num_clusters=k, drawing=drawing, kmeans=KMEANS, seeds=seeds),
            NeighborEvaluator(setup, settings=voting, seeds=seeds),
        ]
    )
    say_next(run_dir)


def _check_recipe(recipe: str, learning_rates: list[float], l2: float | None) -> None:
    rates_given = learning_rates != LEARNING_RATES
    quick = recipe == "quick"
    check_effect("--learning-rate", given=rates_given, without_effect=quick, because="with --recipe quick")
    check_effect("--l2", given=l2 is not None, without_effect=not quick, because="with --recipe paper")


def _check_groups(job: Job) -> None:
    """Refuse data without groups now rather than after the first evaluation."""
    from vice.evaluate.evaluators.groups import groups_of

    groups_of((job.setup.train, job.setup.val))


def _without_groups(job: Job, drawing: Drawing, probe: ProbeSettings, seed: int) -> None:
    from vice.evaluate.evaluators.groups import evaluate_without_groups

    shards = job.opened.ref.shards_fingerprint
    job.keep(
        evaluate_without_groups(job.encoders, job.setup, drawing=drawing, probe=probe, encoder_shards=shards, seed=seed)
    )
