"""Pictures of a step: what the network was shown, which regions counted, how they were assigned, what it makes of them.

Drawing changes nothing of the run: no generator is used, no statistic is updated, no gradient is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

from vice.data_specs.regions import IGNORE
from vice.pipeline.loader.batch import Batch
from vice.pipeline.loader.drawing import class_colours, nearest, outlined, scaled, view_picture
from vice.train.state import TrainState
from vice.train.step import Outcome

MOST_PICTURES = 4
SIDE = 176
"""Of a panel, in pixels."""
COLUMNS = (
    ("view", "grain = masked"),
    ("regions", "greyed = do not count"),
    ("concepts", "assigned to regions"),
    ("embeddings", "alike = same colour"),
)
"""Titles of a block's columns, and what to look for in them."""
EXPLANATION = (
    "Every block is one picture; its rows are the picture's views, view 1 first. The network is to give a region the "
    "same concept in all of them.",
    "Concepts: a colour for each, the same in the whole sketch; assigned from view 1 and shown in all views; grey: no "
    "region that counts. Below: number of a concept, and how many regions have it.",
    "Embeddings: their three main directions (PCA over a picture's views) as red, green and blue; one thing should "
    "have one colour in all views, different things different ones.",
)
_GAP, _BLOCK_GAP, _ROW, _MARGIN = 4, 28, 16, 12
_INK, _FAINT, _PAPER, _NOTHING = (20, 20, 20), (110, 110, 110), (255, 255, 255), (70, 70, 70)


def sketch_step(state: TrainState, batch: Batch, outcome: Outcome) -> UInt8[np.ndarray, "h w 3"]:
    """Draw up to MOST_PICTURES of this process's pictures of a step.

    Args:
        state: after the step; its model is only read, in evaluation mode.
        batch: what the step was given.
        outcome: what it found.
    """
    shown = min(MOST_PICTURES, batch.images.shape[1])
    concepts = concepts_of_regions(outcome)
    maps = _embedding_maps(state, batch, shown)
    images, regions = batch.images[:, :shown].float().cpu().numpy(), batch.regions[:, :shown].cpu().numpy()
    num_concepts = state.config.assignment.num_concepts
    blocks = [
        draw_block(images[:, i], regions[:, i], concepts[i], maps[:, i], num_concepts=num_concepts)
        for i in range(shown)
    ]
    return contact_sheet(blocks, f"Step {state.step} of {state.num_steps}")


def concepts_of_regions(outcome: Outcome) -> Int[np.ndarray, "n r"]:
    """The most likely concept of every region, -1 for those that do not count."""
    concepts = torch.full(outcome.usable.shape, -1, dtype=torch.int64, device=outcome.usable.device)
    concepts[outcome.usable] = outcome.concepts
    return concepts.cpu().numpy()


def draw_block(
    images: Float32[np.ndarray, "m 3 h w"],
    regions: Int[np.ndarray, "m h w"],
    concepts: Int[np.ndarray, " r"],
    maps: Float32[np.ndarray, "m d gh gw"],
    *,
    num_concepts: int,
) -> UInt8[np.ndarray, "bh bw 3"]:
    """One picture's block: a row for each view with the panels of COLUMNS, titles above, concepts' colours below.

    Args:
        images: normalised views.
        regions: ids 0..r-1 or IGNORE.
        concepts: of each region, -1 for those that do not count.
        maps: embedding maps of the views.
        num_concepts: K.
    """
    colours = class_colours(num_concepts)
    of_region = np.where(concepts[:, None] >= 0, colours[concepts], np.array(_NOTHING, np.uint8)).astype(np.uint8)
    # one row more for IGNORE, and for pictures without a region
    of_region = np.concatenate([of_region, np.array([_NOTHING], np.uint8)])
    rows = []
    for image, ids, embedding in zip(images, regions, principal_colours(maps), strict=True):
        view, known = scaled(view_picture(image), SIDE, SIDE), np.where(ids == IGNORE, len(concepts), ids)
        known = nearest(known, SIDE, SIDE)
        greyed = np.where(np.append(concepts, -1)[known][..., None] >= 0, view, view // 4 + 96).astype(np.uint8)
        smooth = cv2.resize(embedding, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        rows.append(_beside([view, outlined(greyed, known), of_region[known], smooth]))
    return _with_words(np.concatenate(rows), concepts, colours)


def principal_colours(maps: Float32[np.ndarray, "m d gh gw"]) -> UInt8[np.ndarray, "m gh gw 3"]:
    """Embedding maps as colours: coordinates along the three directions in which all maps' cells differ most.

    Each coordinate's 2nd to 98th percentile becomes 0 to 255; with d below 3 the missing colours stay 0.
    """
    cells = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]).astype(np.float64)
    cells -= cells.mean(0)
    _, directions = np.linalg.eigh(cells.T @ cells)
    places = cells @ directions[:, ::-1][:, :3]
    low, high = np.percentile(places, (2, 98), axis=0)
    shares = np.clip((places - low) / np.maximum(high - low, 1e-9), 0, 1)
    colours = np.zeros((len(cells), 3), np.uint8)
    colours[:, : shares.shape[1]] = np.rint(shares * 255)
    return colours.reshape(maps.shape[0], *maps.shape[2:], 3)


def contact_sheet(blocks: list[UInt8[np.ndarray, "bh bw 3"]], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """Blocks, two beside each other, under a title and above the explanation."""
    height, width = blocks[0].shape[:2]
    columns, rows = min(2, len(blocks)), -(-len(blocks) // 2)
    top = 2 * _MARGIN + 20
    words = _wrapped(" ".join(EXPLANATION), columns * width) if columns == 1 else EXPLANATION
    size = (
        2 * _MARGIN + columns * width + (columns - 1) * _BLOCK_GAP,
        top + rows * (height + _BLOCK_GAP) + len(words) * (_ROW + 2) + _MARGIN,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=ImageFont.load_default(18))
    for place, block in enumerate(blocks):
        x, y = _MARGIN + place % 2 * (width + _BLOCK_GAP), top + place // 2 * (height + _BLOCK_GAP)
        sheet.paste(Image.fromarray(block), (x, y))
    for place, text in enumerate(words):
        y = top + rows * (height + _BLOCK_GAP) + place * (_ROW + 2)
        draw.text((_MARGIN, y), text, fill=_FAINT, font=ImageFont.load_default(13))
    return np.asarray(sheet)


@torch.no_grad()
def _embedding_maps(state: TrainState, batch: Batch, shown: int) -> Float32[np.ndarray, "m n d gh gw"]:
    """Unit embeddings of the first pictures' views, of the weights after the step."""
    images = batch.images[:, :shown]
    autocast = torch.autocast(state.process.device.type, torch.bfloat16, enabled=state.config.precision == "bf16")
    # a compiled network would be compiled again for another number of pictures
    with _evaluating(state.model.dense), autocast, torch.compiler.set_stance("force_eager"):
        maps = state.model.dense(images.flatten(0, 1))
    return maps.unflatten(0, images.shape[:2]).float().cpu().numpy()


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to every part's own mode: batch norms keep their running statistics."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def _beside(panels: list[UInt8[np.ndarray, "s s 3"]]) -> UInt8[np.ndarray, "s w 3"]:
    """Panels of one view in a row, with paper between and below."""
    framed = [cv2.copyMakeBorder(panel, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT, value=_PAPER) for panel in panels]
    return np.concatenate(framed, axis=1)


def _with_words(
    panels: UInt8[np.ndarray, "h w 3"], concepts: Int[np.ndarray, " r"], colours: UInt8[np.ndarray, "k 3"]
) -> UInt8[np.ndarray, "bh w 3"]:
    """A block's panels with its columns' titles above and its most frequent concepts below."""
    height, width = panels.shape[:2]
    top = 2 * _ROW + 4
    block = Image.new("RGB", (width, top + height + _ROW + 4), _PAPER)
    draw = ImageDraw.Draw(block)
    block.paste(Image.fromarray(panels), (0, top))
    for place, (title, note) in enumerate(COLUMNS):
        x = place * (SIDE + _GAP)
        draw.text((x, 0), title, fill=_INK, font=ImageFont.load_default(15))
        draw.text((x, _ROW + 2), note, fill=_FAINT, font=ImageFont.load_default(12))
    present, counts = np.unique(concepts[concepts >= 0], return_counts=True)
    x, y, font = 0, top + height + 2, ImageFont.load_default(12)
    if not len(present):
        draw.text((x, y), "no region of this picture counts", fill=_INK, font=font)
    for place in np.argsort(-counts, kind="stable"):
        text = f"no. {present[place]}: {counts[place]}"
        used = 18 + int(draw.textlength(text, font=font)) + 12
        if x + used > width - 20:
            draw.text((x, y), "…", fill=_FAINT, font=font)
            break
        draw.rectangle((x, y + 1, x + 12, y + 13), fill=tuple(colours[present[place]].tolist()))
        draw.text((x + 18, y), text, fill=_INK, font=font)
        x += used
    return np.asarray(block)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of text that fit into a width of pixels in the explanation's font."""
    font, lines = ImageFont.load_default(13), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
