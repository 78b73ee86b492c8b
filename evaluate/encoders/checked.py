"""A user's encoder behind one check: what it gives is what `Encoder` promises, or the work ends with one line."""

from __future__ import annotations

import hashlib
import operator
import re
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from vice.data_specs.errors import InputError, ViceError, WorkError
from vice.evaluate.encoders.protocol import num_cells
from vice.evaluate.names import OBJECT

PROBE_SHAPE = (2, 40, 56, 3)
"""Of the fixed pictures of noise that a new encoder is tried with."""
SAFE_NAME = r"[\w+.,()=-][\w +.,()=-]{0,63}"
"""Names are part of file names and stand in tables."""
ROUNDING = 1e-3
"""Two results for one picture that differ by a smaller share of the largest value differ by rounding."""


class CheckedEncoder:
    """An encoder whose attributes were checked, and whose maps are: shape, type, finite values, constant dimension.

    Args:
        encoder: any object.
        source: as the user gave it, for messages.

    Raises:
        InputError: it lacks a part of `Encoder`, or embeds two fixed pictures of noise in a wrong way.
    """

    def __init__(self, encoder: Any, source: str):
        self._encoder, self._source = encoder, source
        self._dim: int | None = None
        self.stride, self.name = _stride(encoder, source), _name(encoder, source)
        self.probe = self._probe()
        """sha256 of the maps of the fixed pictures; empty where they vary by rounding from one call to the next."""

    @property
    def dim(self) -> int:
        """Values per cell."""
        return self._dim

    def embed(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d gh gw"]:
        """Embed RGB pictures of one size; see `Encoder.embed`.

        Raises:
            WorkError: it raises, or its maps are not what they have to be.
        """
        return self._embed(pictures, WorkError)

    def _probe(self) -> str:
        pictures = np.random.Philox(key=0).random_raw(int(np.prod(PROBE_SHAPE))).astype(np.uint8).reshape(PROBE_SHAPE)
        first, second = (self._embed(pictures, InputError) for _ in range(2))
        if np.array_equal(first, second):
            return hashlib.sha256(first.tobytes()).hexdigest()
        if np.abs(first - second).max() > ROUNDING * np.abs(first).max():
            what = "embed() gave two different results for the same pictures"
            raise InputError(what, where=self._source, hint="switch off dropout and other chance (model.eval())")
        return ""

    def _embed(self, pictures: np.ndarray, error: type[ViceError]) -> np.ndarray:
        try:
            # a copy: what it does to its input must not reach other encoders
            maps = self._encoder.embed(pictures.copy())
        except Exception as raised:  # a user's code can raise anything
            what = f"embed() raised {type(raised).__name__}: {raised}"
            raise error(what, where=self._source, hint="try it in Python; --debug prints where") from raised
        size = "pictures of {1} × {2} pixels".format(*pictures.shape)
        cells = (len(pictures), *num_cells(*pictures.shape[1:3], self.stride))
        shape = getattr(maps, "shape", ())
        if not isinstance(maps, np.ndarray) or maps.dtype != np.float32 or (*shape[:1], *shape[2:]) != cells:
            what = f"embed() gave {type(maps).__name__} {getattr(maps, 'dtype', '')} {tuple(shape)}"
            right = f"for {cells[0]} {size} it is a float32 array [{cells[0]}, d, {cells[1]}, {cells[2]}]"
            raise error(what, where=self._source, hint=right)
        self._dim = self._dim or shape[1]
        if shape[1] != self._dim or self._dim == 0:
            what = f"embed() gave {shape[1]} values per cell for {size}, and {self._dim} before"
            raise error(what, where=self._source, hint="an encoder's dimension must be constant and at least 1")
        if not np.isfinite(maps).all():
            raise error(f"embed() gave values that are not finite for {size}", where=self._source)
        # a copy: contiguous, writeable, and untouched by the next call
        return np.array(maps, np.float32, order="C")


def _stride(encoder: Any, source: str) -> int:
    if not callable(getattr(encoder, "embed", None)) or not hasattr(encoder, "stride"):
        hint = "it needs `stride` (pixels per cell) and `embed(pictures)`; see evaluate/encoders/protocol.py"
        raise InputError("no encoder", where=source, hint=hint)
    try:
        stride = operator.index(encoder.stride)
    except TypeError:
        stride = 0
    if stride < 1:
        what = f"its stride is {encoder.stride!r}"
        raise InputError(what, where=source, hint="pixels per cell: a whole number of at least 1")
    return stride


def _name(encoder: Any, source: str) -> str:
    name = getattr(encoder, "name", OBJECT)
    if not isinstance(name, str) or not re.fullmatch(SAFE_NAME, name):
        hint = "its name may have up to 64 letters, digits, blanks and _ + - . , ( ) =, and begins with no blank"
        raise InputError(f"its name is {name!r}", where=source, hint=hint)
    return name
