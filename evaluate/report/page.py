"""`report`: one self-contained page from the records of one or several run directories. It needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from vice.data_specs.errors import WorkError
from vice.evaluate import comparison
from vice.evaluate.report import charts, figures, paper, sentences, tables
from vice.evaluate.report.runs import Run, groups, load_runs

RUN_COLOURS = 6
"""Colours of curves that the page's style defines; further runs start again."""


def write_report(run_dirs: Sequence[Path], output: Path) -> Path:
    """Write the page, aside first; returns its path.

    Args:
        run_dirs: each with a `results.json`; several are shown side by side.
        output: the page; its folder is made if it does not exist.

    Raises:
        InputError: a directory has no readable record, or nothing in it.
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


def _source(name: str) -> Markup:
    """A file of the templates as it is: styles and script are ours, nothing of them is escaped."""
    return Markup((resources.files("vice.evaluate.report") / "templates" / name).read_text(encoding="utf-8"))


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vice.evaluate.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": sentences.percent, "signed": comparison.signed}
    environment.tests["clusters_told"] = sentences.clusters_told
    environment.globals |= {"source": _source, "has_repeats": tables.has_repeats, "colours_of": figures.colours_of}
    curves = {run.name: run.results.training for run in runs if run.results.training is not None}
    return environment.get_template("report.html.j2").render(
        runs=runs,
        groups=groups(runs),
        sentences=sentences,
        tables=tables,
        figures=figures,
        paper=paper,
        chart=charts.loss_chart(curves),
        charts=charts,
        num_colours=RUN_COLOURS,
    )
