"""What to say when memory does not suffice for a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vice.data_specs.errors import WorkError
from vice.train.config import TrainConfig


@contextmanager
def explained_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Tell a failed allocation in one line, with the settings to change.

    Args:
        config: the run's, whose present values are named.

    Raises:
        WorkError: instead of torch's own error of several lines.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise WorkError(f"not enough GPU memory{_peak()}", hint=_advice(config)) from None
    except RuntimeError as error:
        # torch has no type of its own for the CPU's
        if "can't allocate memory" not in str(error):
            raise
        raise WorkError("not enough memory", hint=_advice(config)) from None


def _peak() -> str:
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    parts = {"peak so far": torch.cuda.max_memory_allocated(), "free": free, "of the GPU": total}
    return f" ({', '.join(f'{what} {size / 2**30:.1f} GiB' for what, size in parts.items())})"


def _advice(config: TrainConfig) -> str:
    changes = [f"raise micro_batches ({config.micro_batches})"]
    if not config.model.activation_checkpointing:
        changes.append("set model.activation_checkpointing=true")
    if config.precision == "fp32":
        changes.append("set precision=bf16")
    changes.append(f"lower views.size ({config.views.size}) or global_batch ({config.global_batch})")
    return f"in a new run {', '.join(changes)}"
