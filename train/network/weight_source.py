"""What `model.weights` means: none, an installed package, a public checkpoint's name, or a file; needs no torch."""

from __future__ import annotations

from pathlib import Path

from vice.data_specs.errors import InputError
from vice.train.config import TrainConfig
from vice.train.network.packaged_weights import PACKAGED, PACKAGED_ORIGIN, packaged_file

SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt")
"""Of files with weights."""


def weights_file(encoder: str, weights: str) -> Path | None:
    """The file that a setting stands for, or None where it is `none` or a public checkpoint's name.

    Raises:
        InputError: `packaged`, and no installed package holds the encoder's weights.
    """
    if weights == PACKAGED:
        return packaged_file(encoder)
    return Path(weights) if "/" in weights or weights.endswith(SUFFIXES) else None


def check_weights(config: TrainConfig, run_dir: Path) -> None:
    """Check, before torch is imported or anything is written, that a file or package of weights is there.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder; one with a checkpoint needs no other weights.

    Raises:
        InputError: no such file or package, or a suffix that no file of weights has.
    """
    if has_begun(run_dir):
        return
    path = weights_file(config.model.encoder, config.model.weights)
    if path is None:
        return
    if not path.is_file():
        raise InputError("no such file of weights", where=path, hint="give --weights PATH, or model.weights=none")
    if path.suffix not in SUFFIXES:
        raise InputError("not a file of weights", where=path, hint=f"its name ends in {', '.join(SUFFIXES)}")


def has_begun(run_dir: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return (run_dir / "checkpoints" / "last.pt").exists()


def initial_weights_in_words(weights: str) -> str:
    """What a run started from, as results and reports say it: `random weights`, ..."""
    if weights == "none":
        return "random weights"
    if weights == PACKAGED:
        return f"the encoder's packaged weights ({PACKAGED_ORIGIN})"
    return f"the encoder's weights {weights}"
