"""A contact sheet of a complete OUT: a row of panels per sample, as PNG or as one HTML page without other files."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.regions import IGNORE
from vice.pipeline.prep.info import summary
from vice.pipeline.shards import Sample, Shards

_PANEL_WIDTH = 400
_MARGIN = 8
_CAPTION = 24
_OUTLINE = (255, 230, 0)
_INK = (40, 40, 40)


class Panel(NamedTuple):
    """One picture of the sheet."""

    caption: str
    pixels: np.ndarray
    """uint8 [h, w, 3], RGB."""


def write_preview(out: Path, output: Path, *, num_samples: int = 6) -> None:
    """Draw the contact sheet of OUT.

    Args:
        out: a complete folder of shards.
        output: where to write it; `.png` or `.html`.
        num_samples: samples shown, spread evenly over OUT.

    Raises:
        InputError: OUT is not complete, or `output` is neither .png nor .html, or its folder is missing.
        WorkError: a sample or the output cannot be read or written.
    """
    if output.suffix.lower() not in {".png", ".html"}:
        raise InputError("a preview is a .png or .html file", where=output)
    if not output.parent.is_dir():
        raise InputError("no such folder", where=output.parent, hint="make it first")
    shards = Shards(out)
    numbers = np.unique(np.linspace(0, len(shards) - 1, min(num_samples, len(shards))).round().astype(int))
    rows = [(shards.keys[number], list(panels(shards, int(number)))) for number in numbers]
    data = sheet_png(rows) if output.suffix.lower() == ".png" else sheet_html(rows, summary(out)).encode()
    try:
        aside = output.with_name(f".{output.name}.tmp")
        aside.write_bytes(data)
        aside.replace(output)
    except OSError as error:
        raise WorkError(f"cannot write the preview ({error.strerror})", where=output) from None


def panels(shards: Shards, number: int) -> Iterator[Panel]:
    """The panels of one sample: picture, every region layer, density, and labels where there are any."""
    sample = shards.sample(number)
    yield Panel("picture", sample.picture)
    for layer, ids in sample.regions.items():
        yield Panel(f"{layer}, {int(ids.max()) + 1} regions", outlined(sample.picture, ids))
    yield Panel("content density", heated(sample))
    if sample.labels is not None:
        yield Panel("labels", coloured(sample, len(shards.spec.classes)))


def outlined(picture: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The picture with the borders of regions drawn in yellow, uint8 [h, w, 3]."""
    border = np.zeros(ids.shape, bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    drawn = picture.copy()
    drawn[border] = _OUTLINE
    return drawn


def heated(sample: Sample) -> np.ndarray:
    """The density as heat over the darkened picture, uint8 [h, w, 3]."""
    height, width = sample.picture.shape[:2]
    heat = cv2.applyColorMap(sample.density, cv2.COLORMAP_INFERNO)
    heat = cv2.resize(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB), dsize=(width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(sample.picture, 0.3, heat, 0.7, 0)


def coloured(sample: Sample, num_classes: int) -> np.ndarray:
    """The labels in one colour per class over the picture; what is ignored stays as it is, uint8 [h, w, 3]."""
    hues = np.arange(num_classes) * 180 // max(1, num_classes)
    values = np.where(np.arange(num_classes) % 2, 160, 255)
    palette = np.stack([hues, np.full(num_classes, 220), values], axis=1).astype(np.uint8)[None]
    colours = cv2.cvtColor(palette, cv2.COLOR_HSV2RGB)[0]
    known = sample.labels != IGNORE
    drawn = sample.picture.copy()
    blended = 0.35 * sample.picture[known] + 0.65 * colours[sample.labels[known]]
    drawn[known] = blended.round().astype(np.uint8)
    return drawn


def sheet_png(rows: list[tuple[str, list[Panel]]]) -> bytes:
    """All panels as one PNG, a sample per row, captions above the panels."""
    drawn = [[_captioned(panel, key if i == 0 else None) for i, panel in enumerate(row)] for key, row in rows]
    height = sum(max(panel.shape[0] for panel in row) for row in drawn) + _MARGIN * (len(drawn) + 1)
    width = max(len(row) for row in drawn) * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = _MARGIN
    for row in drawn:
        for i, panel in enumerate(row):
            left = _MARGIN + i * (_PANEL_WIDTH + _MARGIN)
            sheet[top : top + panel.shape[0], left : left + _PANEL_WIDTH] = panel
        top += max(panel.shape[0] for panel in row) + _MARGIN
    return _png(sheet)


def _captioned(panel: Panel, key: str | None) -> np.ndarray:
    """A panel at the sheet's width below its caption."""
    pixels = _at_width(panel.pixels)
    drawn = np.full((pixels.shape[0] + _CAPTION, _PANEL_WIDTH, 3), 255, np.uint8)
    text = panel.caption if key is None else f"{key}: {panel.caption}"
    cv2.putText(
        drawn, text, (2, _CAPTION - 8), cv2.FONT_HERSHEY_SIMPLEX, fontScale=0.5, color=_INK, lineType=cv2.LINE_AA
    )
    drawn[_CAPTION:] = pixels
    return drawn


def _at_width(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    size = (_PANEL_WIDTH, max(1, round(height * _PANEL_WIDTH / width)))
    shrink = width > _PANEL_WIDTH
    return cv2.resize(pixels, dsize=size, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def sheet_html(rows: list[tuple[str, list[Panel]]], told: str) -> str:
    """All panels, at full size, in one HTML page with its pictures inside."""
    figures = "\n".join(
        f"<h2>{html.escape(key)}</h2>\n<div>{''.join(_figure(panel) for panel in row)}</div>" for key, row in rows
    )
    style = (
        "body{font:14px system-ui,sans-serif;margin:2em;background:#fff;color:#222}"
        "div{display:flex;flex-wrap:wrap;gap:8px}figure{margin:0}img{display:block;max-width:480px;height:auto}"
        "figcaption{padding:2px 0}pre{background:#f4f4f4;padding:1em;overflow-x:auto}h2{font-size:1em}"
    )
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>vice-prep preview</title>\n'
        f"<style>{style}</style>\n<h1>vice-prep preview</h1>\n<pre>{html.escape(told)}</pre>\n{figures}\n</html>\n"
    )


def _figure(panel: Panel) -> str:
    data = base64.b64encode(_png(panel.pixels)).decode()
    caption = html.escape(panel.caption)
    return (
        f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" src="data:image/png;base64,{data}"></figure>'
    )


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
