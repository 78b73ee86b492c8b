"""A user's own encoder: any Python object with `stride` and `embed`, named as `module:object` or `file.py:object`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vice.data_specs.errors import InputError
from vice.evaluate.encoders.protocol import Encoder, num_cells
from vice.evaluate.names import OBJECT

PROBE_SIZE = (40, 56)
"""Height and width of the grey picture that a new object is tried with."""


class Found(NamedTuple):
    """An object that was tried and does what an encoder has to."""

    encoder: Encoder
    dim: int
    sha256: str
    """Of the source file of its module; empty where there is none."""


def load_object(source: str) -> Found:
    """Import an encoder; a class or a function is called without arguments to make it.

    Raises:
        InputError: it cannot be imported, or is no encoder: says which part of the protocol it breaks.
    """
    place, _, name = source.rpartition(":")
    module = _module(place, source)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise InputError(f"has no object '{name}'", where=place, hint="write it as module:object") from None
    if inspect.isclass(found) or (callable(found) and not hasattr(found, "embed")):
        found = found()
    if hasattr(found, "embed") and not hasattr(found, "name"):
        found.name = OBJECT
    file = Path(module.__file__) if getattr(module, "__file__", None) else None
    return Found(found, _tried(found, source), hashlib.sha256(file.read_bytes()).hexdigest() if file else "")


def _module(place: str, source: str) -> ModuleType:
    path = Path(place)
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise InputError("no such file", where=place, hint="write the encoder as file.py:object")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except InputError:
        raise
    except Exception as error:  # a user's module can raise anything
        hint = "write the encoder as module:object, file.py:object, timm/NAME, or give a checkpoint"
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"cannot be imported ({told})", where=source, hint=hint) from None


def _tried(found: Any, source: str) -> int:
    """Values per cell of what the object makes of a grey picture, after a check of shape and type."""
    if not isinstance(found, Encoder) or not isinstance(found.stride, int) or found.stride < 1:
        hint = "it needs `stride` (int, pixels per cell) and `embed(pictures)`; see evaluate/encoders/protocol.py"
        raise InputError("no encoder", where=source, hint=hint)
    try:
        maps = found.embed(np.full((1, *PROBE_SIZE, 3), 127, np.uint8))
    except Exception as error:
        what = f"embed() of a grey picture raised {type(error).__name__}: {error}"
        raise InputError(what, where=source, hint="try it in Python; --debug prints where") from error
    cells = num_cells(*PROBE_SIZE, found.stride)
    shape = getattr(maps, "shape", None)
    if (
        not isinstance(maps, np.ndarray)
        or maps.dtype != np.float32
        or len(shape) != 4
        or (shape[0], *shape[2:]) != (1, *cells)
    ):
        what = f"embed() gave {type(maps).__name__} {getattr(maps, 'dtype', '')} {shape}"
        hint = f"a picture of {PROBE_SIZE[0]} × {PROBE_SIZE[1]} is a float32 array [1, d, {cells[0]}, {cells[1]}]"
        raise InputError(what, where=source, hint=hint)
    return int(shape[1])
