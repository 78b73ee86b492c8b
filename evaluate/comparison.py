"""How an encoder compares with its baselines, in plain words: worked out from records, for the report and the terminal.

A difference counts from 0.05 points on: smaller ones are shown as 0.0.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from vice.data_specs.entries import Evaluation, Role, Score
from vice.evaluate.names import CLEAN, OBJECT, TRAINED

MEANINGS: dict[Role, str] = {
    "evaluated": "the encoder that these results belong to",
    "frozen encoder": "the pretrained encoder that training started from, as it was",
    "frozen encoder reduced": "the same frozen encoder with as many values per cell as the trained network has",
    "step 0": "the trained network before its first step",
    "random encoder": "the encoder that training started from, with its random weights",
    "random encoder reduced": "the same random encoder with as many values per cell as the trained network has",
    "untrained": "the same network with random weights",
    "colour + position": "red, green, blue, x and y",
    "colour": "red, green, blue",
}
"""What an encoder is there for."""


class Difference(NamedTuple):
    """The mIoU of the evaluated encoder less that of a baseline."""

    baseline: str
    by_condition: dict[str, float]
    """Clean, and what is changed (its mean where there are several conditions), as shares."""

    @property
    def better_under(self) -> list[str]:
        """The conditions under which the evaluated encoder is better."""
        return [condition for condition, share in self.by_condition.items() if round(100 * share, 1) > 0]

    def __str__(self) -> str:
        points = ", ".join(f"{signed(share)} {condition}" for condition, share in self.by_condition.items())
        return f"{self.baseline} ({points})"


def evaluated(entry: Evaluation) -> str:
    """Name of the encoder that the results belong to; older records do not say it."""
    by_role = (name for name, about in entry.compared.items() if about.role == "evaluated")
    by_name = (name for name in (TRAINED, OBJECT) if name in entry.encoders)
    return next(by_role, None) or next(by_name, None) or next(iter(entry.encoders))


def differences(entry: Evaluation) -> list[Difference]:
    """The evaluated encoder compared with every baseline, in the order of the record."""
    name = evaluated(entry)
    return [
        Difference(baseline, _differences(entry.encoders[name], by))
        for baseline, by in entry.encoders.items()
        if baseline != name
    ]


def _differences(own: Mapping[str, Score], other: Mapping[str, Score]) -> dict[str, float]:
    """By condition, of those that both were tested under."""
    points = {condition: own[condition].miou - other[condition].miou for condition in own if condition in other}
    changed = {condition: share for condition, share in points.items() if condition != CLEAN}
    if len(changed) > 1:
        changed = {"changed (mean)": statistics.mean(changed.values())}
    return {condition: share for condition, share in points.items() if condition == CLEAN} | changed


def verdict(entry: Evaluation) -> str:
    """Which baselines the evaluated encoder beats in mIoU, and which it does not, with the points between them."""
    found = differences(entry)
    better = [one for one in found if one.better_under == list(one.by_condition)]
    worse = [one for one in found if not one.better_under]
    sentences = [f"Better than {_listed(better)}."] if better else []
    for one in found:
        if one not in better and one not in worse:
            sentences.append(f"Better than {one} only on {', '.join(one.better_under)} pictures.")
    if worse:
        sentences.append(f"Not better than {_listed(worse)}.")
    return " ".join(sentences)


def _listed(found: list[Difference]) -> str:
    return "; ".join(map(str, found))


def missing_baselines(missing: Mapping[str, str]) -> str:
    """One line on the baselines that could not be built, and why."""
    reasons = dict.fromkeys(missing.values())
    parts = ["; ".join(name for name in missing if missing[name] == reason) + f" ({reason})" for reason in reasons]
    return f"not evaluated: {'; '.join(parts)}"


def signed(difference: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")
