"""`embed`: embedding maps of any pictures, as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vice.data_specs.errors import InputError
from vice.evaluate.commands.combinations import check_effect
from vice.evaluate.commands.job import Embedding
from vice.evaluate.commands.parameters import (
    Device,
    EncoderSource,
    Flip,
    OutputStride,
    Scales,
    ShortSide,
    Tile,
    Weights,
)

BACKBONES = ("timm/", "torchvision/")
"""What the names of networks with several maps begin with."""


def embed(
    encoder: EncoderSource,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Shards, a folder, a quoted glob, a .txt, .csv or .parquet list, or tars; also s3://.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one to go on with.")],
    form: Annotated[
        Literal["npy", "parquet", "png"],
        typer.Option("--format", help="An array per picture, Parquet parts, or previews in colour."),
    ] = "npy",
    regions: Annotated[
        str | None,
        typer.Option(
            "--regions",
            metavar="LAYER",
            help="Instead of maps, write one vector per region of this stored layer (slic:20): SOURCE must be shards. "
            "A vector is the mean of the map over the region, as float16.",
            show_default="maps",
        ),
    ] = None,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Of the numbers.")] = "float16",
    short_side: ShortSide = None,
    tile: Tile = None,
    scale: Scales = [1.0],  # noqa: B006 - Typer reads the default, nothing changes it
    flip: Flip = False,
    weights: Weights = "none",
    levels: Annotated[
        Literal["all", "last"] | None,
        typer.Option(
            help="Maps of timm's and torchvision's networks: all, raw (not standardised: there are no train pictures "
            "here), upsampled to the finest stride and concatenated; or the last one.",
            show_default="last; all with --regions",
        ),
    ] = None,
    output_stride: OutputStride = 32,
    device: Device = "auto",
) -> None:
    """Write embedding maps of any pictures, or one vector per region of shards. Run it again to resume."""
    no_numbers = form == "png" and regions is None
    check_effect("--dtype", given=dtype != "float16", without_effect=no_numbers, because="with --format png")
    if levels is None and encoder.startswith(BACKBONES):
        levels = "last" if regions is None else "all"
    embedding = Embedding(weights, output_stride, device, short_side, tile, scale, flip, levels)
    if regions is not None:
        _embed_regions(encoder, source, out, regions, embedding, form, dtype)
        return

    from vice.evaluate.embedding.job import embed_pictures
    from vice.evaluate.embedding.pictures import open_pictures

    pictures = open_pictures(source, short_side=short_side)
    opened = embedding.open(encoder, untrained=False)
    made_by = {
        "encoder": opened.ref.model_dump(),
        "source": pictures.fingerprint,
        "settings": {"format": form, "dtype": dtype, "short_side": short_side, **embedding.settings},
    }
    done = embed_pictures(opened.encoder, pictures, out, made_by=made_by, form=form, dtype=dtype)
    if done.num_written == 0:
        print(
            f"nothing to do: {out} holds the maps of all {done.num_pictures - len(done.rejected):,} readable pictures"
        )
    else:
        print(f"wrote {done.num_written:,} of {done.num_pictures:,} pictures to {out}")
    for key, reason in list(done.rejected.items())[:5]:
        print(f"rejected {key}: {reason}")
    if len(done.rejected) > 5:
        print(f"and {len(done.rejected) - 5:,} more, all listed in {out / 'embeddings.json'}")


def _embed_regions(
    encoder: str, source: str, out: Path, layer: str, embedding: Embedding, form: str, dtype: str
) -> None:
    """Write one vector per region; shards and layer are checked before the encoder is opened."""
    if form == "png" or dtype != "float16":
        wrong = "--format png" if form == "png" else f"--dtype {dtype}"
        raise InputError("region vectors are Parquet files of float16", where=wrong, hint="leave this option out")
    from vice.evaluate.embedding.region_vectors import embed_regions, stored_layer, vectors_source
    from vice.pipeline.shards import Shards

    shards = Shards(source)
    layer = stored_layer(shards, layer)
    opened = embedding.open(encoder, untrained=False)
    made_from = vectors_source(opened.ref, shards, layer, short_side=embedding.short_side, settings=embedding.settings)
    record, num_written = embed_regions(opened.encoder, shards, out, made_from)
    vectors = f"{record.num_regions:,} vectors of {record.num_samples:,} pictures"
    print(f"nothing to do: {out} holds {vectors}" if num_written == 0 else f"wrote {out}: {vectors}")
