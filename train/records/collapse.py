"""Collapse, seen in the lines of metrics and said in words, with the settings to try.

Self-supervised training fails quietly: the loss falls or stands still, and only evaluation, hours later, shows that
all regions look alike to the network. What is typical of that is in the metrics long before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from vice.train.assignment.method import METHODS
from vice.train.config import TrainConfig

Line = Mapping[str, float | None]

LEAST_WARM_UP = 50
"""Steps after which a warning can come at the earliest: random weights map all content near one direction."""
PATIENCE_LINES = 3
"""Lines in a row that must show a sign: one line may be a few steps of odd pictures."""
PATIENCE_STEPS = 20
"""Steps that these lines must cover at least, for runs that log every step."""
LEAST_USAGE = 0.05
"""Share of the concepts, or of the regions where these are fewer, that a working run predicts. What is assigned says
nothing: optimal transport spreads it evenly even over embeddings that are all alike."""
LEAST_CONCEPTS = 1.5
"""The same for few concepts: exp(entropy) of 1 is a single one, of 1.5 one that has six of seven regions."""
LEAST_RANK, LEAST_RANK_SHARE = 2.0, 0.03
"""Dimensions that a working run's embeddings fill: at least so many, and this share of all."""
LEAST_GAIN = 0.01
"""The loss must be this share below ln K, the loss of guessing, a while after the warm-up."""
GAIN_SHARE = 0.1
"""That while, as a share of the run: the start of the queue and the end of the freeze lift the loss for a time."""
LEAST_SPREAD = 0.02
"""1 minus the mean cosine of regions: healthy runs measured 0.28 to 0.99, collapsed ones 0.001 to 0.008."""
MOST_WITHOUT_REGIONS = 0.5
"""Share of pictures without a region that counts: above it most of the loader's work is for nothing."""


class Sign(NamedTuple):
    """One way in which a run fails."""

    shows: Callable[[Line, int], bool]
    """Whether a line, and the steps that it covers, looks like it."""
    first_step: int
    """Steps before are not judged."""
    words: Callable[[Line], str]
    """What to say of the line."""


class CollapseWatch:
    """Reads a run's lines in turn and says each warning once. It only computes: the same lines give the same words.

    Args:
        config: of the run; the settings that the warnings name are its own.
        num_steps: of the whole run.
    """

    def __init__(self, config: TrainConfig, num_steps: int):
        self._signs = _signs(config, num_steps)
        self._last_step = 0
        self._shown: dict[str, list[int]] = {name: [] for name in self._signs}
        self._said: set[str] = set()

    def see(self, step: int, line: Line) -> list[str]:
        """Warnings that this line is the reason for; each only once in a run.

        Args:
            step: of the line.
            line: as `Meter.line` gives it.
        """
        covered, self._last_step = step - self._last_step, step
        warnings = []
        for name, sign in self._signs.items():
            shown = self._shown[name]
            if step < sign.first_step or not sign.shows(line, covered):
                shown.clear()
                continue
            shown.append(step)
            lasting = len(shown) >= PATIENCE_LINES and step - shown[0] >= PATIENCE_STEPS
            if lasting and name not in self._said:
                self._said.add(name)
                warnings.append(sign.words(line))
        return warnings


def warm_up_steps(config: TrainConfig, num_steps: int) -> int:
    """Steps until a run must show that it works: the rate has risen and the concepts move."""
    frozen = config.assignment.freeze_concepts_steps if learns_concepts(config) else 0
    return max(LEAST_WARM_UP, math.ceil(config.optimiser.warmup * num_steps), frozen)


def learns_concepts(config: TrainConfig) -> bool:
    """Whether a run's concepts move at all, once they are not frozen."""
    return config.assigns and METHODS[config.assignment.method].learns_concepts


def _signs(config: TrainConfig, num_steps: int) -> dict[str, Sign]:
    start = warm_up_steps(config, num_steps)
    late = start + math.ceil(GAIN_SHARE * num_steps)
    signs = {
        "regions": Sign(_without_regions, 0, lambda line: _words_without_regions(line, config)),
        "spread": Sign(_alike, start, lambda line: _words_alike(line, config)),
        "rank": Sign(
            lambda line, covered: _low_rank(line, covered, config), start, lambda line: _words_low_rank(line, config)
        ),
    }
    if config.assigns:
        signs["usage"] = Sign(
            lambda line, covered: _few_concepts(line, covered, config), start, lambda line: _words_few(line, config)
        )
    if config.losses.swapped_prediction.weight > 0:
        signs["loss"] = Sign(_guessing, late, lambda line: _words_guessing(line, config))
    return signs


def _without_regions(line: Line, _: int) -> bool:
    return line["pictures_without_regions"] > MOST_WITHOUT_REGIONS


def _alike(line: Line, _: int) -> bool:
    return line["embedding_spread"] is not None and line["embedding_spread"] < LEAST_SPREAD


def _low_rank(line: Line, covered: int, config: TrainConfig) -> bool:
    """Few steps have few regions: they cannot fill more dimensions than that."""
    reachable = min(config.model.embedding_dim, _num_regions(line, covered, config))
    least = max(LEAST_RANK, LEAST_RANK_SHARE * config.model.embedding_dim)
    return line["effective_rank"] is not None and line["effective_rank"] < min(least, reachable / 2)


def _num_regions(line: Line, covered: int, config: TrainConfig) -> float:
    return line["regions_per_picture"] * config.global_batch * covered


def _few_concepts(line: Line, covered: int, config: TrainConfig) -> bool:
    """Few steps have few regions: they cannot use more concepts than that."""
    regions = _num_regions(line, covered, config)
    reachable = min(config.assignment.num_concepts, regions)
    return regions > 0 and line["concepts_used"] < max(LEAST_USAGE * reachable, LEAST_CONCEPTS)


def _guessing(line: Line, _: int) -> bool:
    return line["loss/swapped_prediction"] > (1 - LEAST_GAIN) * line["ln_k"] and line["regions_per_picture"] > 0


def _words_without_regions(line: Line, config: TrainConfig) -> str:
    tries = ["narrow views.resize so that views overlap more", "choose smaller regions (views.regions)"]
    if config.views.min_region_pixels > 1:
        tries.append("lower views.min_region_pixels")
    if config.assignment.masked_regions == "drop" and config.views.mask_share > 0:
        tries.append("lower views.mask_share")
    found = f"{line['pictures_without_regions']:.0%} of the pictures have no region that counts in all views"
    return f"{found}: {_listed(tries)}"


def _words_alike(line: Line, config: TrainConfig) -> str:
    found = f"all regions' embeddings are nearly alike (spread {line['embedding_spread']:.3f}; 0 is collapse)"
    return f"{found}: {_listed(_against_collapse(config))}"


def _words_low_rank(line: Line, config: TrainConfig) -> str:
    dim = config.model.embedding_dim
    found = f"the embeddings fill only {line['effective_rank']:.1f} of {dim} dimensions"
    return f"{found}: {_listed(_against_collapse(config))}"


def _words_few(line: Line, config: TrainConfig) -> str:
    assignment = config.assignment
    found = f"only about {line['concepts_used']:.1f} of {assignment.num_concepts} concepts are predicted"
    method = METHODS[assignment.method]
    tries = [*_against_collapse(config), *method.advice_for_few_concepts(getattr(assignment, assignment.method))]
    return f"{found}: {_listed(tries)}"


def _words_guessing(line: Line, config: TrainConfig) -> str:
    loss, assignment = line["loss/swapped_prediction"], config.assignment
    share = loss / line["ln_k"]
    found = f"the loss {loss:.3f} is no better than guessing (ln K = {line['ln_k']:.3f}, {share:.0%} of it)"
    method = METHODS[assignment.method]
    tries = method.advice_for_guessing(getattr(assignment, assignment.method))
    tries.append(f"lower optimiser.learning_rate (now {config.peak_learning_rate:g} at its peak)")
    tries.append("make views milder (views.appearance, views.resize)")
    return f"{found}: {_listed(tries)}"


def _against_collapse(config: TrainConfig) -> list[str]:
    """What keeps embeddings apart, as far as the run does not do it already."""
    tries = [f"lower optimiser.learning_rate (now {config.peak_learning_rate:g} at its peak)"]
    if learns_concepts(config):
        tries.append(f"raise assignment.freeze_concepts_steps (now {config.assignment.freeze_concepts_steps})")
    if not config.model.centre and config.model.start == "random":
        tries.append("set model.centre=true")
    return tries


def _listed(tries: list[str]) -> str:
    return tries[0] if len(tries) == 1 else f"{', '.join(tries[:-1])}, or {tries[-1]}"
