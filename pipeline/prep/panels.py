"""The panels of one sample: what is stored of it, drawn over the picture, and the views that the loader makes of it.

Every panel is drawn at the size at which it is shown, so that lines stay one pixel wide however large the picture is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.drawing import class_colours, nearest, outlined, scaled, view_picture
from vice.pipeline.loader.plan import ViewPlan
from vice.pipeline.loader.reference import Views
from vice.pipeline.loader.settings import ViewSettings
from vice.pipeline.samples import Sample

VIEW_COLOURS = (
    (255, 70, 70), (70, 150, 255), (60, 220, 90), (240, 90, 240), (0, 215, 225), (255, 150, 30), (180, 130, 255),
    (245, 245, 245),
)  # fmt: skip
"""Of a view's frame and of its box in the picture."""

_FRAME = 4
_READABLE = 7.0
"""Regions that come out smaller than this many panel pixels are shown in a detail instead of the whole picture."""


class Fit(NamedTuple):
    """How wide and high panels are drawn, in pixels."""

    least: int
    """Pictures smaller than this are enlarged to it: in whole steps without smoothing from twice on."""
    most: int
    """Pictures larger than this are made smaller."""

    def shape(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the panel of a picture of this size; a panel is at most a quarter higher than wide."""
        side = max(width, height / 1.25)
        scale = min(1.0, self.most / side) if side >= self.least else self.least / side
        scale = math.floor(scale) if scale >= 2 else scale
        return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class Panel:
    """One drawing with its caption."""

    title: str
    details: str
    """The numbers that matter, one line."""
    pixels: np.ndarray
    """uint8 [h, w, 3], RGB."""
    colour: tuple[int, int, int] | None = None
    """Of the frame, where the panel has one."""
    legend: list[tuple[tuple[int, int, int], str]] = field(default_factory=list)
    """Colours and what they mean."""


def picture_panel(sample: Sample, fit: Fit, plan: ViewPlan, settings: ViewSettings) -> Panel:
    """The picture with the boxes of the views and the centre they were drawn around."""
    height, width = sample.picture.shape[:2]
    drawn = scaled(sample.picture, *fit.shape(width, height))
    for view in reversed(range(settings.num_views)):
        _box(drawn, box_on_panel(plan, view, width, drawn.shape), VIEW_COLOURS[view])
    _cross(drawn, plan.centre, width)
    return Panel("Picture", f"{width} × {height} px; boxes: views 1 to {settings.num_views}, +: drawn centre", drawn)


def box_on_panel(plan: ViewPlan, view: int, width: int, panel_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """First and last column and row (left, top, right, bottom) of a view's box, on a panel of a picture so wide."""
    scale = panel_shape[1] / width
    left, top, side = (int(part[view]) for part in plan.boxes)
    right, bottom = round((left + side) * scale) - 1, round((top + side) * scale) - 1
    return round(left * scale), round(top * scale), min(right, panel_shape[1] - 1), min(bottom, panel_shape[0] - 1)


def regions_panel(title: str, sample: Sample, ids: np.ndarray, fit: Fit, centre: tuple[float, float]) -> Panel:
    """Outlines of a stored layer; around `centre` alone where regions are too small to be seen in the whole."""
    height, width = ids.shape
    number = int(ids.max()) + 1
    side = math.sqrt(ids.size / number)
    shown_width, shown_height = fit.shape(width, height)
    details = f"{number:,} region{'s' * (number > 1)}, {side:.1f} px mean side"
    picture = sample.picture
    if side * shown_width / width < _READABLE:
        zoom = max(1, math.ceil(_READABLE / side))
        picture, ids = (_window(part, shown_width // zoom, shown_height // zoom, centre) for part in (picture, ids))
        details += f"; detail of {ids.shape[1]} × {ids.shape[0]} px at the centre"
        shown_width, shown_height = ids.shape[1] * zoom, ids.shape[0] * zoom
    drawn = scaled(picture, shown_width, shown_height)
    return Panel(f"Regions {title}", details, outlined(drawn, nearest(ids, shown_width, shown_height)))


def density_panel(sample: Sample, fit: Fit, stride: int, centre: tuple[float, float]) -> Panel:
    """The density as heat over the dim, grey picture."""
    height, width = sample.picture.shape[:2]
    shape = fit.shape(width, height)
    # a border cell may reach beyond the picture
    cells = np.repeat(np.repeat(sample.density, stride, axis=0), stride, axis=1)[:height, :width]
    heat = cv2.cvtColor(cv2.applyColorMap(scaled(cells, *shape), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(scaled(sample.picture, *shape), cv2.COLOR_RGB2GRAY)
    drawn = cv2.addWeighted(heat, 0.8, cv2.merge([grey] * 3), 0.2, 0)
    _cross(drawn, centre, width)
    steps = np.array([[1, 64, 128, 191, 255]], np.uint8)
    colours = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[0, :, ::-1]
    names = ["1: no edge", "64", "128", "191", "255: edges only"]
    legend = [(tuple(int(part) for part in colour), name) for colour, name in zip(colours, names, strict=True)]
    details = f"centres are drawn from it; mean {sample.density.mean():.0f} of 255, cells of {stride} px"
    return Panel("Content density", details, drawn, legend=legend)


def labels_panel(sample: Sample, fit: Fit, classes: list[str]) -> Panel:
    """The labels in a colour per class over the picture, with the classes that occur; what has no class stays grey."""
    colours = class_colours(len(classes))
    height, width = sample.picture.shape[:2]
    shape = fit.shape(width, height)
    labels, drawn = nearest(sample.labels, *shape), scaled(sample.picture, *shape)
    grey = cv2.merge([cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)] * 3)
    known = labels != IGNORE
    grey[known] = (0.25 * grey[known] + 0.75 * colours[labels[known]]).round()
    present, counts = np.unique(sample.labels, return_counts=True)
    order = [i for i in np.argsort(-counts, kind="stable") if present[i] != IGNORE]
    shares = counts / sample.labels.size
    legend = [
        (tuple(int(part) for part in colours[present[i]]), f"{classes[present[i]]} {_share(shares[i])}") for i in order
    ]
    unlabelled = float((sample.labels == IGNORE).mean())
    details = f"{len(order)} of {len(classes)} classes occur; {_share(unlabelled)} without a class (grey)"
    return Panel("Labels", details, grey, legend=legend)


def view_panels(views: Views, plan: ViewPlan, settings: ViewSettings, fit: Fit) -> list[Panel]:
    """The views as the loader gives them, mutual regions outlined, in the frames of their boxes' colours."""
    panels = []
    for view in range(settings.num_views):
        shape = Fit(fit.least - 2 * _FRAME, fit.most - 2 * _FRAME).shape(settings.size, settings.size)
        ids = nearest(views.regions[view], *shape)
        drawn = outlined(scaled(view_picture(views.images[view]), *shape), ids)
        framed = cv2.copyMakeBorder(drawn, *[_FRAME] * 4, cv2.BORDER_CONSTANT, value=VIEW_COLOURS[view])
        panels.append(Panel(*_view_caption(views, plan, settings, view), framed, colour=VIEW_COLOURS[view]))
    return panels


def _view_caption(views: Views, plan: ViewPlan, settings: ViewSettings, view: int) -> tuple[str, str]:
    side = int(plan.boxes.side[view])
    changes = ["mirrored"] * bool(plan.flip[view]) + ["colour"] * bool(plan.colour.applied[view])
    changes += [f"blur {plan.blur_sigma[view]:.1f} px"] * bool(plan.blur_sigma[view] > 0)
    mutual = float((views.regions[view] != IGNORE).mean())
    title = f"View {view + 1}: β {side / settings.size:.2f}, {side} → {settings.size} px"
    number = len(views.region_ids)
    parts = [
        f"{number:,} mutual regions ({_share(mutual)})",
        f"masked {_share(float(views.masked[view].mean()))}",
        *changes,
    ]
    return title, ", ".join(parts)


def _window(values: np.ndarray, width: int, height: int, centre: tuple[float, float]) -> np.ndarray:
    left = int(np.clip(round(centre[0] - width / 2), 0, max(0, values.shape[1] - width)))
    top = int(np.clip(round(centre[1] - height / 2), 0, max(0, values.shape[0] - height)))
    return values[top : top + height, left : left + width]


def _box(pixels: np.ndarray, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    """A frame of two pixels just inside the box, within a dark line, so that it is seen on any picture."""
    left, top, right, bottom = box
    for inset, ink in ((2, (0, 0, 0)), (1, colour), (0, colour)):
        cv2.rectangle(pixels, (left + inset, top + inset), (right - inset, bottom - inset), ink)


def _cross(pixels: np.ndarray, centre: tuple[float, float], width: int) -> None:
    """A white cross with a dark border at a point of the picture."""
    scale = pixels.shape[1] / width
    x, y = (min(int(part * scale), end - 1) for part, end in zip(centre, pixels.shape[1::-1], strict=True))
    arm = max(6, pixels.shape[1] // 50)
    for thickness, grow, ink in ((5, 2, (0, 0, 0)), (2, 0, (255, 255, 255))):
        cv2.line(pixels, (x - arm - grow, y), (x + arm + grow, y), ink, thickness)
        cv2.line(pixels, (x, y - arm - grow), (x, y + arm + grow), ink, thickness)


def _share(share: float) -> str:
    return "< 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"
