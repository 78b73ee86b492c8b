"""A sheet as one PNG: a few panels a line, captions above and legends below them."""

from __future__ import annotations

import io
import unicodedata
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from vice.pipeline.prep.panels import Panel
from vice.pipeline.prep.sheet_content import SheetContent

COLUMN = 384
"""Width of a panel in pixels: whole multiples of usual view sizes."""
_COLUMNS = 4
_GAP = 16
_MARGIN = 24
_WIDTH = 2 * _MARGIN + _COLUMNS * COLUMN + (_COLUMNS - 1) * _GAP
_PAPER, _INK, _FAINT, _RULE = (255, 255, 255), (25, 28, 33), (95, 100, 110), (215, 218, 224)
_FONTS = ("LiberationSans-Regular.ttf", "DejaVuSans.ttf", "arial.ttf", "Arial.ttf", "Helvetica.ttc")
_SPELLED = str.maketrans({"×": "x", "β": "beta", "→": "->", "–": "-", "ß": "ss", "œ": "oe", "æ": "ae", "ø": "o"})


def sheet_png(content: SheetContent) -> bytes:
    """The sheet, encoded; the headings on top, then a block per sample."""
    blocks = [_heading(content)]
    for row in content.rows:
        blocks.append(_title(row.heading))
        blocks += _lines(row.stored)
        blocks.append(_note(row.views_heading))
        blocks += _lines(row.views)
    sheet = Image.new("RGB", (_WIDTH, sum(block.height for block in blocks) + _MARGIN), _PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _heading(content: SheetContent) -> Image.Image:
    room = _WIDTH - 2 * _MARGIN
    small = _wrapped(content.counts, 17, room) + _wrapped(content.about_views, 17, room)
    block = Image.new("RGB", (_WIDTH, _MARGIN + 46 + 24 * len(small) + 8), _PAPER)
    _text(block, (_MARGIN, _MARGIN), content.title, 32, _INK)
    for i, line in enumerate(small):
        _text(block, (_MARGIN, _MARGIN + 46 + 24 * i), line, 17, _FAINT)
    return block


def _title(text: str) -> Image.Image:
    block = Image.new("RGB", (_WIDTH, 62), _PAPER)
    ImageDraw.Draw(block).line([(_MARGIN, 14), (_WIDTH - _MARGIN, 14)], fill=_RULE, width=2)
    _text(block, (_MARGIN, 26), text, 22, _INK)
    return block


def _note(text: str) -> Image.Image:
    block = Image.new("RGB", (_WIDTH, 32), _PAPER)
    _text(block, (_MARGIN, 4), text, 17, _INK)
    return block


def _lines(panels: list[Panel]) -> list[Image.Image]:
    """Panels in lines of so many that they fit; five panels are three and two rather than four and one."""
    num_lines = -(-len(panels) // _COLUMNS)
    per_line = -(-len(panels) // num_lines)
    return [_line(panels[i : i + per_line]) for i in range(0, len(panels), per_line)]


def _line(panels: list[Panel]) -> Image.Image:
    num_details = max(len(_wrapped(panel.details, 15, COLUMN)) for panel in panels)
    drawn = [_captioned(panel, num_details) for panel in panels]
    block = Image.new("RGB", (_WIDTH, max(part.height for part in drawn) + _GAP), _PAPER)
    for i, part in enumerate(drawn):
        block.paste(part, (_MARGIN + i * (COLUMN + _GAP), 0))
    return block


def _captioned(panel: Panel, num_details: int) -> Image.Image:
    """A panel with its caption, which has room for so many lines of details: pictures of a line begin level."""
    details = _wrapped(panel.details, 15, COLUMN)
    head = 26 + 20 * num_details + 6
    legend = _legend_places(panel)
    height = panel.pixels.shape[0]
    foot = 8 + legend[-1][1] + 22 if legend else 0
    part = Image.new("RGB", (COLUMN, head + height + foot), _PAPER)
    indent = 0
    if panel.colour is not None:
        ImageDraw.Draw(part).rectangle([0, 4, 14, 18], fill=panel.colour, outline=_FAINT)
        indent = 22
    _text(part, (indent, 0), panel.title, 18, _INK)
    for i, line in enumerate(details):
        _text(part, (0, 25 + 20 * i), line, 15, _FAINT)
    part.paste(Image.fromarray(panel.pixels), (0, head))
    for (x, y), (colour, name) in zip(legend, panel.legend, strict=True):
        top = head + height + 8 + y
        ImageDraw.Draw(part).rectangle([x, top + 2, x + 12, top + 14], fill=colour, outline=_FAINT)
        _text(part, (x + 18, top), name, 14, _INK)
    return part


def _legend_places(panel: Panel) -> list[tuple[int, int]]:
    """Upper left corners of the legend's entries, from left to right in as many lines as they need."""
    places, x, y = [], 0, 0
    for _, name in panel.legend:
        width = 18 + _length(name, 14) + 14
        if x and x + width - 14 > COLUMN:
            x, y = 0, y + 21
        places.append((x, y))
        x += width
    return places


def _wrapped(text: str, size: int, room: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _length(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _text(image: Image.Image, place: tuple[int, int], text: str, size: int, ink: tuple[int, int, int]) -> None:
    font, is_whole = _font(size)
    ImageDraw.Draw(image).text(place, text if is_whole else spelled(text), fill=ink, font=font)


def _length(text: str, size: int) -> int:
    font, is_whole = _font(size)
    return round(font.getlength(text if is_whole else spelled(text)))


def spelled(text: str) -> str:
    """Text in the letters that Pillow's own font has: umlauts without their dots, symbols in words."""
    plain = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    return plain.encode("ascii", "ignore").decode()


@cache
def _font(size: int) -> tuple[ImageFont.FreeTypeFont, bool]:
    """A font of the system with umlauts and Greek letters; else Pillow's own, which has neither, and False."""
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size), True
        except OSError:
            continue
    return ImageFont.load_default(size=size), False
