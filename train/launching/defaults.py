"""What `vice-train launch` decides where nothing is said: the preset, the region layer, the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.config_files import load_config

CPU_PRESET, GPU_PRESET, DISTIL = "cpu", "gpu", "-distil"
BF16_VIEWS_ON_CPU = 16
"""Views a process must have in a step for bf16 to be faster than float32 on a CPU that has it."""


def default_preset(overrides: Sequence[str]) -> str:
    """`gpu` where torch sees a GPU, else `cpu`; with a teacher `gpu-distil` or `cpu-distil`."""
    import torch

    preset = GPU_PRESET if torch.cuda.is_available() else CPU_PRESET
    return f"{preset}{DISTIL}" if any(override.startswith("teacher=") for override in overrides) else preset


def split_arguments(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """A preset or file, where the first argument is none of the `key=value` overrides, and the overrides."""
    if arguments and "=" not in arguments[0]:
        return arguments[0], list(arguments[1:])
    return None, list(arguments)


def with_stored_layer(preset: str, overrides: Sequence[str], shards: Shards) -> tuple[TrainConfig, str]:
    """A preset for any shards: with the first stored layer of regions where its own is not stored.

    Returns:
        The configuration, and what was chosen, in words.
    """
    config = load_config(preset, overrides)
    stored = [str(layer) for layer in shards.record.settings.regions]
    chosen_by_user = any(override.startswith("views.regions=") for override in overrides)
    if chosen_by_user or not stored or config.views.regions in {*stored, *shards.layers}:
        return config, f"regions {config.views.regions}"
    return load_config(preset, [*overrides, f"views.regions={stored[0]}"]), f"regions {stored[0]}, as stored"


def with_precision(config: TrainConfig, *, num_processes: int) -> TrainConfig:
    """The configuration with `auto` decided: bf16 on GPUs that have it, and on CPUs that do for large enough steps.

    Args:
        config: the resolved configuration.
        num_processes: that share a step's pictures.
    """
    if config.precision != "auto":
        return config
    import torch

    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        views = config.global_batch // num_processes * config.views.num_views
        bf16 = torch.cpu._is_avx512_bf16_supported() and views >= BF16_VIEWS_ON_CPU
    return config.model_copy(update={"precision": "bf16" if bf16 else "fp32"})
