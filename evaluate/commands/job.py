"""What every scoring command begins with: everything that can be wrong is checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vice.data_specs.command_line import command
from vice.data_specs.entries import Evaluation, Levels
from vice.data_specs.errors import InputError
from vice.data_specs.results import TrainingCurve
from vice.evaluate.comparison import missing_baselines
from vice.evaluate.conditions import chosen
from vice.evaluate.scenes import open_pair, shared_pictures
from vice.evaluate.summary import print_scores

# What needs torch is imported inside the functions, so that --help, the report and a wrong folder do not wait for it.
if TYPE_CHECKING:
    import torch

    from vice.evaluate.encoders.fitting import Prepared
    from vice.evaluate.encoders.opening import Opened
    from vice.evaluate.encoders.protocol import Encoder
    from vice.evaluate.evaluators.protocol import Evaluator, Setup
    from vice.pipeline.shards import Shards


class Embedding(NamedTuple):
    """How pictures are embedded, as the command line says."""

    weights: str = "none"
    output_stride: int = 32
    device: str = "auto"
    short_side: int | None = None
    tile: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    levels: Levels | None = None
    dims: int | None = None

    def open(self, source: str, *, untrained: bool = True) -> Opened:
        """The encoder, made to embed as asked, and what it is compared with, which `prepare` makes to embed so.

        Raises:
            InputError: no such encoder or device.
        """
        from vice.evaluate.encoders.opening import open_encoder

        opened = open_encoder(
            source,
            device=find_device(self.device),
            weights=self.weights,
            output_stride=self.output_stride,
            untrained=untrained,
            levels=self.levels,
            dims=self.dims,
        )
        return opened._replace(encoder=self.wrap(opened.encoder))

    def prepare(self, opened: Opened, shards: Shards) -> list[Prepared]:
        """The encoder and its baselines, standardised and reduced by what a pass over clean pictures finds.

        Raises:
            WorkError: a sample cannot be read.
        """
        from vice.evaluate.encoders.fitting import prepare

        return prepare(opened.compared, shards, short_side=self.short_side, wrap=self.wrap)

    def wrap(self, encoder: Encoder) -> Encoder:
        """The encoder with tiles and averaging where they are asked for."""
        if self.tile is not None:
            from vice.evaluate.encoders.tiles import TiledEncoder

            encoder = TiledEncoder(encoder, tile=self.tile)
        if self._averages:
            from vice.evaluate.encoders.averaging import AveragedEncoder

            encoder = AveragedEncoder(encoder, scales=tuple(self.scales), flip=self.flip)
        return encoder

    @property
    def _averages(self) -> bool:
        return tuple(self.scales) != (1.0,) or self.flip

    @property
    def settings(self) -> dict[str, Any]:
        """For the record."""
        tiles = "whole pictures" if self.tile is None else f"{self.tile} pixels, blended where they overlap"
        looks = {"scales": list(self.scales), "mirrored_too": self.flip} if self._averages else None
        return {"tiles": tiles, "averaged": looks}


@dataclass
class Job:
    """What every evaluation starts from."""

    opened: Opened
    training: TrainingCurve | None
    embedding: Embedding
    setup: Setup

    @cached_property
    def prepared(self) -> list[Prepared]:
        """The encoder and its baselines, fitted on train pictures where that is needed: at the first use."""
        return self.embedding.prepare(self.opened, self.setup.train)

    @property
    def encoders(self) -> list[Encoder]:
        """All that are evaluated, the one that results belong to first."""
        return [one.encoder for one in self.prepared]

    def run(self, make: Callable[[Setup], Sequence[Evaluator]]) -> None:
        """Run evaluators and keep what they find."""
        from vice.evaluate.evaluators.running import run_evaluators

        evaluators = make(self.setup)  # refuses what cannot be done before anything is computed
        self.keep(run_evaluators(evaluators, self.encoders, self.setup))

    def keep(self, entries: Mapping[str, Evaluation]) -> None:
        """Add entries to the record, with what their encoders are, and print them."""
        from vice.evaluate.record import add

        compared = {one.encoder.name: one.about for one in self.prepared}
        changes = {"compared": compared, "missing": self.opened.missing}
        entries = {name: entry.model_copy(update=changes) for name, entry in entries.items()}
        added = add(self.setup.run_dir, encoder=self.opened.ref, training=self.training, evaluations=entries)
        print_scores({added.keys[name]: entry for name, entry in entries.items()})
        print(f"wrote {added.path}")


def open_job(
    source: str,
    train: str,
    val: str,
    run_dir: Path,
    *,
    classes: str | None,
    conditions: Sequence[str],
    embedding: Embedding,
    max_shared: float,
) -> Job:
    """Open data, encoder and record; the data before what needs torch.

    Raises:
        InputError: any of them cannot be opened, or do not go together.
    """
    tested_under = chosen(conditions)
    shards = open_pair(train, val, class_set=classes)
    shared = shared_pictures(*shards, limit=max_shared)

    from vice.evaluate.evaluators.protocol import Setup
    from vice.evaluate.record import check_record, curve_of

    opened = embedding.open(source)
    check_record(run_dir, opened.ref)
    setup = Setup(
        *shards,
        run_dir,
        conditions=tested_under,
        short_side=embedding.short_side,
        embedding=embedding.settings,
        shared=shared,
    )
    if shared:
        print(f"{100 * shared:.1f} % of the val pictures are also in train")
    if opened.missing:
        print(missing_baselines(opened.missing))
    return Job(opened, curve_of(opened.run_dir, opened.ref), embedding, setup)


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is the GPU where there is one.

    Raises:
        InputError: there is none of that name here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # Only a tensor tells whether the device is there; its name alone does not.
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise InputError("no such device here", where=f"--device {name}", hint="choose auto or cpu") from None


def say_next(run_dir: Path) -> None:
    """Print what to do next."""
    print(f"next: {command('vice-eval', 'report', run_dir, '--output', run_dir / 'report.html')}")
