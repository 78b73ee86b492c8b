"""`vice-prep`: pictures to shards, and looking at shards. Thin: every command calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vice.data_specs.command_line import command, run_command
from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import InputError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.data_specs.validation import parse

app = typer.Typer(
    help="Turn folders of pictures into shards with region maps. With --debug, an error also prints its traceback.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)

Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Number of processes; 0 works in this process, without Ray, for small jobs.",
        show_default="all cores",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="Join this Ray cluster instead of starting one.", show_default=False),
]
_SOURCE_HELP = (
    "Pictures: a folder, a glob in quotes, a .txt, .csv or .parquet list (column path), or .tar files;"
    " on a disk, s3:// or gs://."
)
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=_SOURCE_HELP, show_default=False)]
Out = Annotated[
    str, typer.Argument(metavar="OUT", help="Folder of shards; on a disk, s3:// or gs://.", show_default=False)
]
MaxRejected = Annotated[
    float,
    typer.Option(
        metavar="SHARE", min=0, max=1, help="Exit with code 1 if a larger share of the inputs was rejected, 0 to 1."
    ),
]


@app.command(epilog="Example: vice-prep shard photos/train shards/train --dataset camvid --regions slic:20 --workers 8")
def shard(
    source: Source,
    out: Out,
    dataset: Annotated[
        str, typer.Option(metavar="SPEC", help="Dataset spec: a name that comes with the package, or a .yaml file.")
    ] = "image_folder",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the split, one of SPEC's where it has any.")
    ] = "train",
    regions: Annotated[
        list[str], typer.Option(metavar="LAYER", help="Region layer, as slic:20 or slico:30,iterations=5; repeatable.")
    ] = ["slic:20"],  # noqa: B006 - Typer reads the default, nothing changes it
    density_stride: Annotated[int, typer.Option(help="Picture pixels per cell of the content density.")] = 4,
    short_side: Annotated[
        int | None, typer.Option(metavar="PX", help="Make pictures smaller to this shorter side.", show_default=False)
    ] = None,
    center_crop: Annotated[bool, typer.Option("--center-crop", help="Crop to a centred square.")] = False,
    max_side: Annotated[int, typer.Option(metavar="PX", help="Make pictures smaller to this longer side.")] = 2048,
    picture: Annotated[
        Literal["jpeg", "png"], typer.Option(help="jpeg keeps original bytes where it can; png is lossless.")
    ] = "jpeg",
    white_level: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE|auto",
            help="What is white in 16-bit files: 4095 for 12-bit data; auto: from each file.",
            show_default="65535",
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", help="Reject pictures with more pixels, before they are decoded.")
    ] = 100_000_000,
    samples_per_shard: Annotated[int, typer.Option(help="Inputs per shard.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the order of the inputs.")] = 0,
    tar_window: Annotated[
        int, typer.Option(metavar="N", help="Inputs in tars are shuffled among this many tars.")
    ] = 16,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry-rejected", help="Try the rejected inputs of a complete OUT again; new shards hold the good ones."
        ),
    ] = False,
    max_rejected: MaxRejected = 1.0,
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Turn pictures into shards. Run it again to resume; missing or damaged shards of a complete OUT are made again."""
    settings = parse(
        PrepSettings,
        {
            "split": split,
            "regions": [RegionLayer.from_text(text) for text in regions],
            "density_stride": density_stride,
            "short_side": short_side,
            "center_crop": center_crop,
            "max_side": max_side,
            "picture": picture,
            "white_level": _white_level(white_level),
            "max_pixels": max_pixels,
            "samples_per_shard": samples_per_shard,
            "seed": seed,
            "tar_window": tar_window,
        },
        where="the options",
    )
    spec = load_dataset(dataset)

    from vice.pipeline.prep.info import refuse_rejections, summary
    from vice.pipeline.prep.job import shard_dataset

    outcome = shard_dataset(source, out, settings, spec, workers=workers, ray_address=ray_address)
    print(outcome.headline)
    if retry and outcome.was_complete:
        from vice.pipeline.prep.append import retry_rejected

        print(retry_rejected(source, out, workers=workers, ray_address=ray_address).headline)
    print(summary(out))
    refuse_rejections(out, max_rejected)


def _white_level(text: str | None) -> int | str | None:
    """An option's value as the setting's."""
    if text in (None, "auto"):
        return text
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise InputError("not a white level", where=f"--white-level {text}", hint="give a value up to 65535, or auto")
    return int(text)


@app.command(epilog="Example: vice-prep append photos/train shards/train --workers 8")
def append(
    source: Source,
    out: Out,
    max_rejected: MaxRejected = 1.0,
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Add new pictures to a complete OUT, as new shards with the same settings; existing files stay as they are."""
    from vice.pipeline.prep.append import append as append_inputs
    from vice.pipeline.prep.info import refuse_rejections, summary

    print(append_inputs(source, out, workers=workers, ray_address=ray_address).headline)
    print(summary(out))
    refuse_rejections(out, max_rejected)


@app.command(epilog="Example: vice-prep verify shards/train --deep")
def verify(
    out: Out,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every member.")] = False,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Make missing and damaged shards again from OUT's source, to the same bytes.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
) -> None:
    """Check every hash, index and count of OUT against its manifest; exit code 1 if anything is wrong."""
    from vice.pipeline.prep.verify import verify_shards

    if repair is None and (workers is not None or ray_address is not None):
        raise InputError("--workers and --ray-address need --repair", hint="leave them out; verify uses all cores")
    if repair is not None:
        from vice.pipeline.prep.repair import repair_damage

        print(repair_damage(repair, out, workers=workers, ray_address=ray_address))
    print(verify_shards(out, deep=deep))


@app.command(epilog="Example: vice-prep info shards/train --json")
def info(
    out: Out,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Tell what OUT holds."""
    from vice.pipeline.prep.info import facts_json, summary

    print(facts_json(out) if as_json else summary(out))


@app.command(epilog="Example: vice-prep preview shards/train --output sheet.html")
def preview(
    out: Out,
    output: Annotated[Path, typer.Option(metavar="FILE", help="Contact sheet, .png or .html.", show_default=False)],
    samples: Annotated[int, typer.Option(min=1, max=64, help="Number of samples shown.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the views, as a training's.")] = 0,
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of the views.")] = 0,
) -> None:
    """Draw a sheet: pictures, region outlines, content density, labels, and the views the loader makes of them."""
    from vice.pipeline.prep.preview import write_preview

    write_preview(out, output, num_samples=samples, seed=seed, epoch=epoch)
    print(f"wrote {output}")


@app.command(epilog="Example: vice-prep scenes demo/scenes --num-train 100 --num-val 30")
def scenes(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write them.", show_default=False)],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes.")] = 0,
    num_train: Annotated[int, typer.Option(min=1, help="Number of training pictures.")] = 100,
    num_val: Annotated[int, typer.Option(min=1, help="Number of validation pictures.")] = 30,
) -> None:
    """Generate street-like pictures with labels, to try everything without any data (dataset `scenes`)."""
    from vice.pipeline.scenes.write import write_scenes

    if folder.exists() and not folder.is_dir():
        raise InputError("FOLDER is a file", where=folder, hint="give a new folder")
    write_scenes(folder, num_train=num_train, num_val=num_val, seed=seed)
    shard = command("vice-prep", "shard", folder / "train", folder / "shards/train", "--dataset", "scenes")
    print(f"wrote {folder}; next: {shard}")


def main() -> None:
    """Entry point of the console script."""
    run_command(app, "vice-prep", resumable=["shard", "append"])
