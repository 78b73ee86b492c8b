"""A sheet of a complete OUT that one can look at: what is stored of some samples, and the views the loader makes.

The views are the loader's own: planned by `plan_views` from the sample's counters and made by the NumPy reference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.loader.order import Visit
from vice.pipeline.loader.plan import ViewPlan, plan_views
from vice.pipeline.loader.reference import Views, make_views
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.prep.info import summary
from vice.pipeline.prep.panels import (
    Fit,
    density_panel,
    labels_panel,
    picture_panel,
    regions_panel,
    view_panels,
)
from vice.pipeline.prep.sheet_content import SampleRow, SheetContent
from vice.pipeline.prep.sheet_html import sheet_html
from vice.pipeline.prep.sheet_png import COLUMN, sheet_png
from vice.pipeline.samples import Sample
from vice.pipeline.shards import Shards

_NUM_VIEWS = 4
_FITS = {".png": Fit(COLUMN, COLUMN), ".html": Fit(COLUMN, 2 * COLUMN)}


def write_preview(out: str | Path, output: Path, *, num_samples: int = 6, seed: int = 0, epoch: int = 0) -> None:
    """Draw the sheet of OUT.

    Args:
        out: a complete folder of shards.
        output: where to write it; `.png` or `.html`.
        num_samples: samples shown, spread evenly over OUT.
        seed: of the views, as a training's.
        epoch: of the views.

    Raises:
        InputError: OUT is not complete, or `output` is neither .png nor .html, or its folder is missing.
        WorkError: a sample or the output cannot be read or written.
    """
    suffix = output.suffix.lower()
    if suffix not in _FITS:
        raise InputError("a preview is a .png or .html file", where=output)
    if not output.parent.is_dir():
        raise InputError("no such folder", where=output.parent, hint="make it first")
    content = sheet_content(out, _FITS[suffix], num_samples=num_samples, seed=seed, epoch=epoch)
    data = sheet_png(content) if suffix == ".png" else sheet_html(content).encode()
    try:
        aside = output.with_name(f".{output.name}.tmp")
        aside.write_bytes(data)
        aside.replace(output)
    except OSError as error:
        raise WorkError(f"cannot write the preview ({error.strerror})", where=output) from None


def sheet_content(out: str | Path, fit: Fit, *, num_samples: int, seed: int, epoch: int) -> SheetContent:
    """Everything on a sheet, for either format."""
    shards = Shards(out)
    record, settings = shards.record, preview_settings(shards)
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(num_samples, len(shards))).round().astype(int))
    console = Console(stderr=True)
    numbers = track(chosen.tolist(), "drawing", console=console, transient=True, disable=not console.is_terminal)
    low, high = settings.resize
    drawn = f"{settings.num_views} of {settings.size} px, β {low:g} to {high:g}, layer {settings.regions}"
    return SheetContent(
        title=f"{record.dataset.name} / {record.settings.split}",
        counts=f"{record.num_samples:,} samples of {record.num_inputs:,} inputs, {record.num_rejected:,} rejected, "
        f"{record.num_shards:,} shard{'s' * (record.num_shards != 1)}; {len(chosen)} shown; "
        f"fingerprint {record.fingerprint[:16]}",
        about_views=f"Views as the loader makes them: {drawn}, colour, blur and masking on, "
        f"seed {seed}, epoch {epoch}. Yellow: borders of mutual regions. Noise: masked regions.",
        told=summary(out),
        rows=[sample_row(shards, number, settings, fit, seed=seed, epoch=epoch) for number in numbers],
    )


def preview_settings(shards: Shards) -> ViewSettings:
    """The loader's default views with the first stored layer, half as large as the median picture's shorter side."""
    short = int(np.median(shards.sizes.min(axis=1)))
    size = int(np.clip(short // 2 // 32 * 32, 32, 256))
    return ViewSettings(num_views=_NUM_VIEWS, size=size, regions=str(shards.record.settings.regions[0]))


def sample_views(
    shards: Shards, number: int, settings: ViewSettings, *, seed: int, epoch: int
) -> tuple[Sample, ViewPlan, Views]:
    """A sample, the loader's plan for its visit in an epoch, and the views that this makes."""
    sample = shards.sample(number)
    height, width = sample.picture.shape[:2]
    stride = shards.record.settings.density_stride
    visit = Visit(epoch, number)
    plan = plan_views(width, height, sample.density, stride, settings=settings, seed=seed, visit=visit)
    ids = sample.regions[shards.record.settings.regions[0].name]
    return sample, plan, make_views(sample.picture, ids, plan, settings)


def sample_row(shards: Shards, number: int, settings: ViewSettings, fit: Fit, *, seed: int, epoch: int) -> SampleRow:
    """The panels of one sample: picture, region layers, density, labels where there are any; and its views."""
    record = shards.record
    sample, plan, views = sample_views(shards, number, settings, seed=seed, epoch=epoch)
    stored = [picture_panel(sample, fit, plan, settings)]
    for layer in record.settings.regions:
        stored.append(regions_panel(str(layer), sample, sample.regions[layer.name], fit, plan.centre))
    stored.append(density_panel(sample, fit, record.settings.density_stride, plan.centre))
    if sample.labels is not None:
        stored.append(labels_panel(sample, fit, record.dataset.classes))
    mutual = len(views.region_ids)
    heading = f"{mutual:,} mutual regions" if mutual else "no mutual regions: this visit leaves the loss's average"
    x, y = plan.centre
    return SampleRow(
        heading=f"{sample.key}: {sample.meta['source']}",
        stored=stored,
        views_heading=f"Views of the centre ({x:.0f}, {y:.0f}): {heading}",
        views=view_panels(views, plan, settings, fit),
    )
