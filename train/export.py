"""`vice-train export`: a trained model for use elsewhere, as safetensors with a description beside it and as ONNX."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.validation import parse
from vice.train.config import TrainConfig
from vice.train.network.model import OUTPUT_STRIDE, RegionModel, build_model
from vice.train.network.same_padding import fix_same_padding
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, Checkpoint, load_region_model, read_checkpoint
from vice.train.records.upgrade import upgraded_config
from vice.train.start import Start

WEIGHTS_FILE, DESCRIPTION_FILE, ONNX_FILE = "model.safetensors", "model.json", "model.onnx"
_START = "start."
"""Prefix of the tensors that were fitted at step 0, for evaluations that compare with it."""
EXPORT_FORMAT, EXPORT_VERSION = "vice-model", 1


class PictureModel(nn.Module):
    """What model.onnx computes: pictures as they are decoded, to embeddings and concept scores of every cell."""

    def __init__(self, model: RegionModel):
        super().__init__()
        self.dense = model.dense
        self.register_buffer("concepts", model.concepts.detach()[:, :, None, None].clone())
        # (x / 255 - mean) / std as one multiplication and one addition
        mean, std = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
        self.register_buffer("scale", (1 / (255 * std))[:, None, None])
        self.register_buffer("shift", (-mean / std)[:, None, None])

    def forward(
        self, pictures: UInt8[Tensor, "b h w 3"]
    ) -> tuple[Float[Tensor, "b d h4 w4"], Float[Tensor, "b k h4 w4"]]:
        """Unit-length embeddings at a quarter of the size, and their cosines with the K concepts.

        Args:
            pictures: RGB, 0..255; sides are multiples of the model's size multiple.
        """
        embeddings = self.dense(pictures.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return embeddings, F.conv2d(embeddings, self.concepts)


def export_run(source: Path, out: Path) -> list[Path]:
    """Write a run's or a checkpoint's model to a new folder: model.safetensors, model.json, model.onnx.

    Args:
        source: a run's folder (its last checkpoint) or a checkpoint.
        out: a folder that is not there yet, or empty; it appears whole.

    Returns:
        The files.

    Raises:
        InputError: `out` holds something, or there is no readable checkpoint; nothing is written.
        WorkError: the network has no ONNX form; the other two files are there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("not empty", where=out, hint="give a new folder to export to")
    checkpoint = read_checkpoint(_checkpoint_of(source))
    model = load_region_model(checkpoint).eval()
    aside = out.parent / f".{out.name}.writing"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        problem = _write_onnx(aside / ONNX_FILE, model)
        _write_weights(aside, model, checkpoint.start, describe(checkpoint, model, with_onnx=problem is None))
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if problem is not None:
        what = f"this network has no ONNX form ({problem})"
        raise WorkError(what, where=out, hint=f"{WEIGHTS_FILE} and {DESCRIPTION_FILE} are there")
    return [out / name for name in (WEIGHTS_FILE, DESCRIPTION_FILE, ONNX_FILE)]


def read_description(folder: Path) -> dict[str, Any]:
    """The content of an export's model.json.

    Raises:
        InputError: not an export, or one of another version.
    """
    path = folder / DESCRIPTION_FILE
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise _unreadable(folder) from None
    if description.get("format") != EXPORT_FORMAT or description.get("version") != EXPORT_VERSION:
        raise InputError(f"not an export of version {EXPORT_VERSION}", where=path, hint="export the checkpoint again")
    return description


def export_config(folder: Path) -> TrainConfig:
    """The configuration of the run that an export was made of.

    Raises:
        InputError: not an export.
    """
    config = upgraded_config(read_description(folder)["config"])
    return parse(TrainConfig, config, where=folder / DESCRIPTION_FILE)


def load_export(folder: Path) -> RegionModel:
    """The model of an export with its concepts, in evaluation mode on the CPU.

    Raises:
        InputError: not an export, or its files do not fit each other.
    """
    model, tensors = build_model(export_config(folder)), _read_tensors(folder)
    try:
        model.load_state_dict({name: value for name, value in tensors.items() if not name.startswith(_START)})
    except RuntimeError:
        raise InputError("the weights do not fit the description", where=folder) from None
    return model.eval()


def export_start(folder: Path) -> Start | None:
    """What was fitted at step 0 of the run that an export was made of, where anything was.

    Raises:
        InputError: not an export.
    """
    tensors = _read_tensors(folder)
    state = {name.removeprefix(_START): value for name, value in tensors.items() if name.startswith(_START)}
    if not state:
        return None
    teacher = {name.removeprefix("teacher."): state.pop(name) for name in list(state) if name.startswith("teacher.")}
    return Start.from_state({**state, "teacher": teacher or None})


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, safetensors.SafetensorError):
        raise _unreadable(folder) from None


def _unreadable(folder: Path) -> InputError:
    return InputError("not readable as an export", where=folder, hint="make one with vice-train export")


def describe(checkpoint: Checkpoint, model: RegionModel, *, with_onnx: bool) -> dict[str, Any]:
    """What one has to know to use an exported model: the content of model.json."""
    info, multiple = checkpoint.info, model.dense.size_multiple
    dim, concepts = model.dense.embedding_dim, info.num_concepts
    cells = f"height / {OUTPUT_STRIDE}, width / {OUTPUT_STRIDE}"
    onnx = {
        "file": ONNX_FILE,
        "input": {"pictures": "uint8 [batch, height, width, 3], RGB as decoded; the graph normalises them itself"},
        "outputs": {
            "embeddings": f"float32 [batch, {dim}, {cells}], unit length per cell",
            "concept_scores": f"float32 [batch, {concepts}, {cells}], cosines with the concepts",
        },
    }
    return {
        "format": EXPORT_FORMAT,
        "version": EXPORT_VERSION,
        "name": info.name,
        "step": info.step,
        "num_steps": info.num_steps,
        "views_seen": info.views_seen,
        "shards": info.shards_fingerprint,
        "preprocessing": {
            "colours": "RGB",
            "normalisation": "(x / 255 - mean) / std, for model.safetensors",
            "mean": list(IMAGE_MEAN),
            "std": list(IMAGE_STD),
            "size_multiple": multiple,
            "padding": f"sides to multiples of {multiple} by reflection, right and below",
        },
        "output": {"stride": OUTPUT_STRIDE, "embedding_dim": dim, "num_concepts": concepts},
        "onnx": onnx if with_onnx else None,
        "made_with": {"torch": torch.__version__, "timm": timm.__version__},
        "config": checkpoint.config.model_dump(mode="json"),
    }


def _checkpoint_of(source: Path) -> Path:
    if not source.is_dir():
        return source
    last = source / CHECKPOINT_FOLDER / LAST
    if not last.is_file():
        hint = "give a folder of vice-train launch, after its first checkpoint"
        raise InputError("no checkpoint in this folder", where=source, hint=hint)
    return last


def _flat(state: dict[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """Nested tensors by dotted name; what is None is left out."""
    flat: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[f"{prefix}{name}"] = value
    return flat


def _write_weights(folder: Path, model: RegionModel, start: Start | None, description: dict[str, Any]) -> None:
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if start is not None:
        tensors |= {f"{_START}{name}": value.contiguous() for name, value in _flat(start.state_dict()).items()}
    # the description travels in the file too: one that is passed on alone can still be read
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt", "description": json.dumps(description)})
    # its writer makes files that only the owner can read
    (folder / WEIGHTS_FILE).chmod(0o644)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _write_onnx(path: Path, model: RegionModel) -> str | None:
    """Write the graph with its weights inside; returns why it cannot be, or None."""
    multiple = model.dense.size_multiple
    # a copy: the weights' own file keeps its keys
    model = copy.deepcopy(model)
    fix_same_padding(model)
    pictures = torch.zeros(2, 4 * multiple, 6 * multiple, 3, dtype=torch.uint8)
    shapes = {"pictures": {0: Dim("batch"), 1: multiple * Dim("rows"), 2: multiple * Dim("columns")}}
    try:
        with _quiet():
            torch.onnx.export(
                PictureModel(model).eval(),
                (pictures,),
                path,
                dynamo=True,
                input_names=["pictures"],
                output_names=["embeddings", "concept_scores"],
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common base
        path.unlink(missing_ok=True)
        lines = [line for line in str(error.__cause__ or error).splitlines() if line.strip()]
        return lines[0] if lines else type(error).__name__
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress and warnings are of its own making."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
