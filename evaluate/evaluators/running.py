"""Running evaluators: one pass over the train pictures, the fits, one pass over the val pictures for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vice.data_specs.entries import Evaluation
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.evaluators.heads import Head
from vice.evaluate.evaluators.protocol import Evaluator, Setup
from vice.evaluate.passes import View, collect, count, views
from vice.evaluate.progress import track
from vice.evaluate.scenes import scenes


def run_evaluators(evaluators: Sequence[Evaluator], encoders: Sequence[Encoder], setup: Setup) -> dict[str, Evaluation]:
    """Evaluate encoders on clean train pictures and on val pictures under every condition.

    Args:
        evaluators: all are fitted and tested in the same two passes.
        encoders: each embeds a train picture once, and a val picture once per condition.
        setup: data, conditions, picture size.

    Returns:
        Entries of the record by name; all have the time of the whole.

    Raises:
        InputError: what was collected is not enough for an evaluator.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    train = scenes([setup.train], "train pictures", short_side=setup.short_side)
    collect(train, encoders, [collector for evaluator in evaluators for collector in evaluator.collectors])
    heads: dict[str, dict[str, Head]] = {encoder.name: {} for encoder in encoders}
    for evaluator in track(evaluators, "fitting", total=len(evaluators)):
        for encoder, named in evaluator.fit().items():
            heads[encoder] |= named
    galleries = [gallery for evaluator in evaluators for gallery in evaluator.galleries()]

    def draw(view: View) -> None:
        for gallery in galleries:
            gallery.add(view)

    val = scenes([setup.val], "val pictures", short_side=setup.short_side)
    seen = views(val, encoders, heads, conditions=setup.conditions, seed=setup.conditions_seed)
    counts = count(seen, heads, num_classes=len(setup.classes), keep=draw)
    seconds = time.perf_counter() - started
    return {name: entry for each in evaluators for name, entry in each.entries(counts, seconds).items()}
