"""`report`: one page from the records of one or several run directories."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run directories of evaluations.")],
    output: Annotated[Path, typer.Option("--output", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page from the records of one or several run directories, side by side."""
    from vice.evaluate.report.page import write_report

    print(f"wrote {write_report(run_dirs, output)}; open it in a browser")
