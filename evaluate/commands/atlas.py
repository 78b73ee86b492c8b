"""`atlas`: every concept's most typical regions, and nearest regions of chosen ones."""

from __future__ import annotations

from typing import Annotated

import typer

from vice.evaluate.commands.combinations import check_effect
from vice.evaluate.commands.job import Embedding, say_next
from vice.evaluate.commands.parameters import (
    ClassSetName,
    Device,
    Dims,
    EncoderSource,
    LevelsOption,
    OutputStride,
    RunDir,
    Seed,
    Tile,
    Weights,
)


def atlas(
    encoder: EncoderSource,
    val: Annotated[str, typer.Option("--val", metavar="SHARDS", help="Pictures with region layers; labels if any.")],
    run_dir: RunDir,
    layer: Annotated[
        str | None, typer.Option(help="A stored region layer, slic:20.", show_default="the first one")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=2, help="Concepts of an encoder that was trained with none: k-means.", show_default="64"
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=8, help="Typical regions of each concept.")] = 8,
    choose: Annotated[
        list[str], typer.Option(help="A region to draw its nearest ones of, KEY:X,Y; several times.")
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
    classes: ClassSetName = None,
    seed: Seed = 0,
    tile: Tile = None,
    weights: Weights = "none",
    levels: LevelsOption = None,
    dims: Dims = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Cut out what every concept looks like, with usage and classes; and find regions like a chosen one."""
    from vice.data_specs.errors import InputError
    from vice.pipeline.shards import Shards

    shards = Shards(val, class_set=classes)
    if not shards.layers:
        raise InputError("no region layer in these shards", where=val, hint="shard with --regions slic:20")
    layer = shards.layers[0] if layer is None else shards.layer_named(layer)

    from vice.evaluate.atlas.choosing import parse_choice
    from vice.evaluate.atlas.job import NUM_CLUSTERS, AtlasOptions, make_atlas
    from vice.evaluate.record import add, check_record, curve_of
    from vice.evaluate.summary import print_concepts

    choices = [parse_choice(text, shards) for text in choose]
    embedding = Embedding(weights, output_stride, device, tile=tile, levels=levels, dims=dims)
    opened = embedding.open(encoder, untrained=False)
    because = "with an encoder that was trained with concepts"
    check_effect("--k", given=k is not None, without_effect=opened.concepts is not None, because=because)
    check_record(run_dir, opened.ref)
    options = AtlasOptions(layer, k or NUM_CLUSTERS, examples, seed=seed, choices=choices, embedding=embedding.settings)
    # there are no train pictures here: standardisation and PCA are fitted on those that are shown
    own = embedding.prepare(opened._replace(compared=opened.compared[:1]), shards)[0]
    found = make_atlas(own.encoder, opened.concepts, shards, options=options, run_dir=run_dir)
    found = found.model_copy(update={"settings": {**found.settings, "encoder": own.about.model_dump()}})
    name = f"{found.data.dataset} {found.data.split} {layer}" + (f" classes-{classes}" if classes else "")
    curve = curve_of(opened.run_dir, opened.ref)
    path = add(run_dir, encoder=opened.ref, training=curve, atlases={name: found}).path
    print_concepts(found)
    for choice in choices:
        print(f"wrote {run_dir}/pictures/nearest-{shards.keys[choice.number]}-{choice.x}-{choice.y}.png")
    print(f"wrote {path}")
    say_next(run_dir)
