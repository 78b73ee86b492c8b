"""What `model.weights` means: none, a public checkpoint's name, or a file; and what can be told without torch."""

from __future__ import annotations

from pathlib import Path

from vice.data_specs.errors import InputError
from vice.train.config import TrainConfig

SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".ckpt")
"""Of files with weights."""


def weights_file(weights: str) -> Path | None:
    """The file that a setting names, or None where it is `none` or a public checkpoint's name."""
    return Path(weights) if "/" in weights or weights.endswith(SUFFIXES) else None


def check_weights(config: TrainConfig, run_dir: Path) -> None:
    """Check, before torch is imported or anything is written, that a file of weights is there.

    Args:
        config: the resolved configuration.
        run_dir: the run's folder; one with a checkpoint needs no other weights.

    Raises:
        InputError: no such file, or a suffix that no file of weights has.
    """
    path = weights_file(config.model.weights)
    if path is None or has_begun(run_dir):
        return
    if not path.is_file():
        raise InputError("no such file of weights", where=path, hint="give --weights PATH, or model.weights=none")
    if path.suffix not in SUFFIXES:
        raise InputError("not a file of weights", where=path, hint=f"its name ends in {', '.join(SUFFIXES)}")


def has_begun(run_dir: Path) -> bool:
    """Whether a run has a checkpoint to go on from."""
    return (run_dir / "checkpoints" / "last.pt").exists()
