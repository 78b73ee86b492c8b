"""`report`: one self-contained page from the records of one or several run directories. No network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.results import RESULTS_FILE, read_results
from vice.evaluate import charts, report_content
from vice.evaluate.report_content import Run

RUN_COLOURS = 6
"""Colours of curves that the page's style defines; further runs start again."""


def write_report(run_dirs: Sequence[Path], output: Path) -> Path:
    """Write the page, aside first; returns its path.

    Args:
        run_dirs: each with a `results.json`; several are shown side by side.
        output: the page; its folder is made if it does not exist.

    Raises:
        InputError: a directory has no readable record, or no evaluation in it.
        WorkError: the page cannot be written.
    """
    page = render(load_runs(run_dirs))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside = output.with_name(f".{output.name}.tmp")
        aside.write_text(page, encoding="utf-8")
        aside.rename(output)
    except OSError as error:
        what = f"the report cannot be written ({error.strerror})"
        raise WorkError(what, where=output, hint="give another --output") from None
    return output


def load_runs(run_dirs: Sequence[Path]) -> list[Run]:
    """Read the records; runs of one configuration and step are told apart by their folder.

    Raises:
        InputError: a directory has no readable record, or no evaluation in it.
    """
    records = []
    for folder in {Path(run_dir).resolve(): Path(run_dir) for run_dir in run_dirs}.values():
        results = read_results(folder)
        if results is None or not results.evaluations:
            hint = "write one with vice-eval linear or vice-eval cluster"
            raise InputError(f"no {RESULTS_FILE} with an evaluation", where=folder, hint=hint)
        records.append((folder, results))
    names = [f"{results.checkpoint.name}, step {results.checkpoint.step:,}" for _, results in records]
    return [
        Run(name if names.count(name) == 1 else f"{name} ({folder})", folder, results)
        for name, (folder, results) in zip(names, records, strict=True)
    ]


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vice.evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": report_content.percent, "signed": report_content.signed}
    curves = {run.name: run.results.training for run in runs if run.results.training is not None}
    return environment.get_template("report.html.j2").render(
        runs=runs,
        content=report_content,
        chart=charts.loss_chart(curves),
        charts=charts,
        num_colours=RUN_COLOURS,
        tested_on=report_content.tested_on(runs),
    )
