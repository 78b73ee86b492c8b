"""Nothing that is not finite reaches the weights: every process stops before the step, and the pictures are named."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from vice.data_specs.errors import WorkError
from vice.pipeline.loader.batch import Batch
from vice.train.distributed import Process, gather_objects, max_over_processes
from vice.train.step import Outcome

WHAT = ("images", "embeddings", "loss", "gradient")
"""In the order in which a value that is not finite spreads: the first one tells where it came from."""


def require_finite(
    outcome: Outcome, model: nn.Module, batch: Batch, *, step: int, run_dir: Path, process: Process
) -> None:
    """Stop all processes if any of them has a value that is not finite; all call it, with gradients in the model.

    The keys of every process's pictures are saved to RUN/nonfinite-STEP.json.

    Raises:
        WorkError: names what was not finite first, where, and its pictures.
    """
    bad = torch.stack([~torch.isfinite(value) for value in _summaries(batch, outcome, model)])
    if not max_over_processes(bad.float()).any():
        return
    # every process is here: the answer above is the same for all
    found = gather_objects(
        {"not_finite": [name for name, is_bad in zip(WHAT, bad, strict=True) if is_bad], "keys": batch.keys}
    )
    path = run_dir / f"nonfinite-{step:08d}.json"
    if process.rank == 0:
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps({"step": step, "processes": found}, indent=1) + "\n")
        aside.rename(path)
    what, rank = next((what, rank) for what in WHAT for rank, of in enumerate(found) if what in of["not_finite"])
    keys = found[rank]["keys"]
    more = f", ... ({len(keys)} in all)" if len(keys) > 4 else ""
    raise WorkError(
        f"{what} not finite at step {step}",
        where=f"process {rank}, keys {', '.join(keys[:4])}{more}",
        hint=f"see {path.name} in the run's folder; lower optimiser.learning_rate in a new run",
    )


def _summaries(batch: Batch, outcome: Outcome, model: nn.Module) -> tuple[Tensor, ...]:
    """A number for each of WHAT that is finite only if all of its values are."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    # with synchronised batch norms one process's images spoil the embeddings of all
    images = batch.images.sum(dtype=torch.float32)
    return images, outcome.embeddings.abs().sum(), outcome.loss, torch.nn.utils.get_total_norm(gradients)
