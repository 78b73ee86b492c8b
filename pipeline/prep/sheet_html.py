"""A sheet as one HTML page with its pictures inside: no script, nothing from the network, light and dark."""

from __future__ import annotations

import base64
from html import escape

import cv2

from vice.pipeline.prep.panels import Panel
from vice.pipeline.prep.sheet_content import SampleRow, SheetContent

_MOST_COLUMNS = 5
_JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, 90),
    # thin coloured outlines fray at half the colour resolution
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#191c21;--faint:#5f646e;--rule:#d7dae0;--box:#f4f5f7}
@media(prefers-color-scheme:dark){:root{--paper:#15171b;--ink:#e8eaee;--faint:#a0a6b1;--rule:#363b44;--box:#1f2228}}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;padding:1.5rem;max-width:1720px}
body{background:var(--paper);color:var(--ink)}
h1{font-size:1.7rem;margin:0}
h2{font-size:1.15rem;margin:0 0 .6rem;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1rem 0 .5rem}
p{margin:.3rem 0;color:var(--faint);overflow-wrap:anywhere}
pre{background:var(--box);padding:1rem;border-radius:6px;overflow-x:auto;font-size:13px}
section{border-top:2px solid var(--rule);margin-top:1.8rem;padding-top:1rem}
.panels{display:grid;gap:.35rem 1rem;grid-template-columns:repeat(var(--columns),minmax(0,1fr))}
figure{margin:0 0 .6rem;display:grid;grid-row:span 3;grid-template-rows:subgrid}
figure:has(input:checked){grid-column:1/-1}
figcaption b{display:block}
figcaption span{color:var(--faint);font-size:.88rem}
label{display:block;cursor:zoom-in}label:has(input:checked){cursor:zoom-out}
label input{position:absolute;opacity:0}label:has(input:focus-visible){outline:3px solid #468fff}
img{display:block;width:100%;height:auto}
i{display:inline-block;width:.8em;height:.8em;margin-right:.4em;border:1px solid var(--faint)}
ul{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;align-content:start;gap:.1rem .9rem;font-size:.85rem}
@media(max-width:1000px){.panels{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media(max-width:600px){body{padding:1rem}.panels{grid-template-columns:minmax(0,1fr)}}
"""


def sheet_html(content: SheetContent) -> str:
    """The whole page."""
    title = escape(f"{content.title} – vice-prep preview")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{escape(content.title)}</h1>\n<p>{escape(content.counts)}</p>\n<pre>{escape(content.told)}</pre>\n"
        f"<p>{escape(content.about_views)} Click a panel to enlarge it.</p>\n"
        + "\n".join(_section(row) for row in content.rows)
        + "\n</body></html>\n"
    )


def _section(row: SampleRow) -> str:
    stored, views = (_panels(part, row.heading) for part in (row.stored, row.views))
    return f"<section><h2>{escape(row.heading)}</h2>\n{stored}\n<h3>{escape(row.views_heading)}</h3>\n{views}</section>"


def _panels(panels: list[Panel], key: str) -> str:
    num_lines = -(-len(panels) // _MOST_COLUMNS)
    columns = max(4, -(-len(panels) // num_lines))
    figures = "".join(_figure(panel, key) for panel in panels)
    return f'<div class="panels" style="--columns:{columns}">{figures}</div>'


def _figure(panel: Panel, key: str) -> str:
    data = base64.b64encode(cv2.imencode(".jpg", panel.pixels[..., ::-1], _JPEG)[1].tobytes()).decode()
    alt = escape(f"{panel.title} of {key}: {panel.details}", quote=True)
    mark = "" if panel.colour is None else _swatch(panel.colour)
    legend = "".join(f"<li>{_swatch(colour)}{escape(name)}</li>" for colour, name in panel.legend)
    height, width = panel.pixels.shape[:2]
    return (
        f"<figure><figcaption><b>{mark}{escape(panel.title)}</b><span>{escape(panel.details)}</span></figcaption>"
        f'<label><input type="checkbox" aria-label="Enlarge {alt}">'
        f'<img alt="{alt}" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}"></label>'
        + (f"<ul>{legend}</ul>" if legend else "")
        + "</figure>\n"
    )


def _swatch(colour: tuple[int, int, int]) -> str:
    return f'<i style="background:#{bytes(colour).hex()}"></i>'
