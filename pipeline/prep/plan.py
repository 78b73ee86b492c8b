"""What a job will do, fixed before work starts: which input goes into which shard, and what decides the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL
import pyarrow as pa

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.shard_format import PrepSettings, shard_name
from vice.pipeline.prep.density import DENSITY_VERSION
from vice.pipeline.prep.inputs import ORDER_VERSION, Inputs, find_inputs, shuffled
from vice.pipeline.prep.kept_tars import KeptTars
from vice.pipeline.prep.picture import picture_version
from vice.pipeline.prep.regions import REGIONS_VERSION
from vice.pipeline.prep.sample import SAMPLE_VERSION, Recipe
from vice.pipeline.prep.tars import Input

_LONGEST_SPLIT = 40
"""With a longer split's name, a member's name would leave USTAR's 100 characters."""


class KeyedInput(NamedTuple):
    """An input and the key that its sample gets."""

    input: Input
    key: str


@dataclass(frozen=True)
class Plan:
    """A job: its inputs in the order of the shards, and everything that decides bytes."""

    source: str
    """As the user gave it."""
    inputs: Inputs
    order: np.ndarray
    """uint32 or int64 [n], numbers of the inputs in the order in which they fill the shards."""
    spec: DatasetSpec
    settings: PrepSettings
    implementation: dict[str, str]
    first_shard: int = 0
    """Number of the first shard; those before it were made of inputs that came earlier."""

    @property
    def settings_fingerprint(self) -> str:
        """Of settings, dataset and implementation together."""
        return settings_fingerprint(self.settings, self.spec, self.implementation)

    @property
    def recipe(self) -> Recipe:
        """What every sample is made with."""
        return Recipe(self.inputs.storage, self.spec, self.settings)

    @property
    def numbers(self) -> range:
        """Numbers of the shards; the last may be smaller."""
        return range(self.first_shard, self.first_shard + -(-len(self.order) // self.settings.samples_per_shard))

    def shard(self, number: int) -> str:
        """Name of a shard without suffix."""
        return shard_name(self.settings.split, number)

    def num_inputs_of(self, number: int) -> int:
        """Number of inputs of a shard."""
        return min(self.settings.samples_per_shard, len(self.order) - self._start(number))

    def inputs_of(self, number: int) -> list[KeyedInput]:
        """The inputs of a shard, in order."""
        start, first = self._start(number), number * self.settings.samples_per_shard
        return [
            KeyedInput(self.inputs[int(self.order[start + i])], f"{self.settings.split}-{first + i:08d}")
            for i in range(self.num_inputs_of(number))
        ]

    def _start(self, number: int) -> int:
        """Position of a shard's first input in the order."""
        return (number - self.first_shard) * self.settings.samples_per_shard

    def identity(self) -> dict[str, Any]:
        """What another run on the same OUT must agree with."""
        inputs = {"number": len(self.order), "fingerprint": self.inputs.fingerprint}
        after = {"first_shard": self.first_shard} if self.first_shard else {}
        return settings_identity(self.settings, self.spec, self.implementation) | {"inputs": inputs} | after


def make_plan(source: str | Path, settings: PrepSettings, spec: DatasetSpec, kept: KeptTars | None = None) -> Plan:
    """Find the inputs and fix the shards.

    Args:
        source: see `open_source`.
        settings: everything that decides the bytes.
        spec: how the dataset names its files and classes.
        kept: see `find_inputs`.

    Raises:
        InputError: no usable source, a layer given twice, or a split's name that is too long.
    """
    names = [layer.name for layer in settings.regions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("region layer given twice", where=twice[0], hint="give each --regions once")
    if len(settings.split) > _LONGEST_SPLIT:
        raise InputError(f"longer than {_LONGEST_SPLIT} characters", where=f"--split {settings.split}")
    return plan_of(str(source), find_inputs(source, spec, settings.split, kept), settings, spec)


def plan_of(source: str, inputs: Inputs, settings: PrepSettings, spec: DatasetSpec, first_shard: int = 0) -> Plan:
    """Fix the shards of some inputs.

    Args:
        source: as the user gave it.
        inputs: all of them go into the shards.
        settings: everything that decides the bytes.
        spec: how the dataset names its files and classes.
        first_shard: number of the first shard.
    """
    order = shuffled(inputs, settings.seed, tar_window=settings.tar_window)
    order = order.astype(np.uint32) if len(order) < 2**32 else order
    return Plan(source, inputs, order, spec, settings, implementation(settings), first_shard)


def implementation(settings: PrepSettings) -> dict[str, str]:
    """Versions of whatever makes bytes: libraries and our own steps."""
    ours = {"order": ORDER_VERSION, "sample": SAMPLE_VERSION, "density": DENSITY_VERSION}
    ours["picture"] = picture_version(settings)
    layers = {f"layer {layer.name}": REGIONS_VERSION for layer in settings.regions}
    libraries = {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "pyarrow": pa.__version__,
    }
    return dict(sorted((ours | layers | libraries).items()))


def settings_identity(settings: PrepSettings, spec: DatasetSpec, versions: dict[str, str]) -> dict[str, Any]:
    """Settings, dataset and implementation as nested names and values, to be compared and told."""
    told = settings.model_dump(mode="json") | {"regions": ", ".join(str(layer) for layer in settings.regions)}
    return {"settings": told, "dataset": spec.model_dump(mode="json"), "implementation": versions}


def settings_fingerprint(settings: PrepSettings, spec: DatasetSpec, versions: dict[str, str]) -> str:
    """The fingerprint that shards and dataset record carry."""
    return fingerprint(
        {
            "settings": settings.model_dump(mode="json"),
            "dataset": spec.model_dump(mode="json"),
            "implementation": versions,
        }
    )
