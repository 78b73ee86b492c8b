"""`vice-eval`: an encoder and shards in; numbers, pictures and a report out. The commands lie in `commands/`."""

from __future__ import annotations

import typer

from vice.data_specs.command_line import run_command
from vice.evaluate.commands.atlas import atlas
from vice.evaluate.commands.embed import embed
from vice.evaluate.commands.regions import regions
from vice.evaluate.commands.report import report
from vice.evaluate.commands.scores import all_scores, cluster, linear, neighbors

app = typer.Typer(
    help="Evaluate dense features, next to those that training started from and to raw colour. With --debug, an error "
    "also prints its traceback.",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)

_LABELLED = "runs/camvid/checkpoints/last.pt --train shards/train --val shards/val --run-dir runs/camvid/eval"

app.command("all", epilog=f"Example: vice-eval all {_LABELLED}")(all_scores)
app.command(epilog=f"Example: vice-eval linear {_LABELLED}")(linear)
app.command(epilog=f"Example: vice-eval cluster {_LABELLED} --k 27 --k 128")(cluster)
app.command(epilog=f"Example: vice-eval neighbors {_LABELLED}")(neighbors)
app.command(epilog="Example: vice-eval regions shards/val --run-dir runs/regions")(regions)
app.command(
    epilog="Example: vice-eval atlas runs/camvid/checkpoints/last.pt --val shards/val --run-dir runs/camvid/eval"
)(atlas)
app.command(
    epilog="Examples: vice-eval embed runs/camvid/checkpoints/last.pt ~/photos embedded --format parquet; "
    "vice-eval embed timm/resnet50 shards/train vectors/train --weights default --regions slic:20 --short-side 480"
)(embed)
app.command(epilog="Example: vice-eval report runs/camvid/eval runs/camvid-grid/eval --output report.html")(report)


def main() -> None:
    """Entry point of the console script."""
    run_command(app, "vice-eval", resumable=["embed"])


if __name__ == "__main__":
    main()
