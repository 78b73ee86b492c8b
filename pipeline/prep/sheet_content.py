"""What a preview's sheet shows, whatever it is drawn as."""

from __future__ import annotations

from dataclasses import dataclass

from vice.pipeline.prep.panels import Panel


@dataclass(frozen=True)
class SampleRow:
    """All that is shown of one sample."""

    heading: str
    stored: list[Panel]
    views_heading: str
    views: list[Panel]


@dataclass(frozen=True)
class SheetContent:
    """All that a sheet shows."""

    title: str
    counts: str
    about_views: str
    told: str
    """What `vice-prep info` tells."""
    rows: list[SampleRow]
