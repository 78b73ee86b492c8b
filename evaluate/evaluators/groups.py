"""`linear --leave-one-group-out`: the probe tested on drives (or patients, sites) that it was not fitted on.

In video, neighbouring pictures are near copies, so a split inside a drive flatters a probe. Here train and val shards
are pooled and each group is tested by a probe fitted on all the others. The encoder is the same throughout: what it was
trained on stands in the settings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from vice.data_specs.entries import DataRef, Evaluation
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.evaluators.linear import fit_probes, settings_of
from vice.evaluate.evaluators.protocol import Setup, evaluation, score_heads
from vice.evaluate.metrics import mean_score
from vice.evaluate.options import Drawing, ProbeSettings
from vice.evaluate.passes import collect, count, views
from vice.evaluate.scenes import data_ref, scenes
from vice.evaluate.vectors import PixelCollector, Vectors
from vice.pipeline.shards import Shards

MEAN_OVER_GROUPS = "linear-over-groups"
HEAD = "linear-without-group"


def evaluate_without_groups(
    encoders: Sequence[Encoder],
    setup: Setup,
    *,
    drawing: Drawing,
    probe: ProbeSettings,
    encoder_shards: str | None,
    seed: int = 0,
) -> dict[str, Evaluation]:
    """Fit and test a probe per encoder and group: fitted on the pictures of all other groups, tested on the group's.

    Args:
        encoders: each embeds a picture once for fitting, and once per condition for testing.
        setup: train and val are pooled, and pictures numbered through both.
        drawing: how many pixels are drawn.
        probe: how probes are fitted.
        encoder_shards: fingerprint of the shards that the encoder was trained on, where that is known.
        seed: of the drawn pixels.

    Returns:
        `linear-without-GROUP` to evaluation, and their mean under `linear-over-groups`.

    Raises:
        InputError: a picture has no group, or there is only one group.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    pool = (setup.train, setup.val)
    groups = groups_of(pool)
    quota = drawing.quota(len(groups))
    collector = PixelCollector(quota=quota, seed=seed, labelled_only=True)
    collect(scenes(pool, "pictures of all groups", short_side=setup.short_side), encoders, [collector])
    vectors, seen = collector.vectors(), _seen_by_encoder(pool, encoder_shards)
    told = {"pixels_per_picture": quota.each, **quota.settings, "seeds": (seed,)}
    entries = {}
    for group in np.unique(groups):
        part, seconds = _without(str(group), groups, vectors, encoders, setup, probe, told | seen, started)
        entries[setup.entry(f"linear-without-{group}")] = part
        started += seconds
    return {**entries, setup.entry(MEAN_OVER_GROUPS): _mean(entries, setup, seen)}


def _without(
    group: str,
    groups: np.ndarray,
    vectors: Vectors,
    encoders: Sequence[Encoder],
    setup: Setup,
    probe: ProbeSettings,
    told: dict[str, Any],
    started: float,
) -> tuple[Evaluation, float]:
    """One group's evaluation, and the seconds since `started`."""
    pool, classes = (setup.train, setup.val), setup.classes
    others = (groups != group)[vectors.scenes]
    fits = {
        encoder: by_variant[""]
        for encoder, by_variant in fit_probes(vectors, others, num_classes=len(classes), recipe=probe, seed=0).items()
    }
    heads = {encoder: {HEAD: fit.head} for encoder, fit in fits.items()}
    numbers = np.flatnonzero(groups == group).tolist()
    pictures = scenes(pool, f"pictures of {group}", numbers=numbers, short_side=setup.short_side)
    seen = views(pictures, encoders, heads, conditions=setup.conditions, seed=setup.conditions_seed)
    counts = count(seen, heads, num_classes=len(classes))
    drawn = {name: told[name] for name in ("pixels_per_picture", "num_pictures", "seeds") if name in told} | {
        "num_vectors": int(others.sum())
    }
    settings = settings_of(probe, drawn, {encoder: fit.told for encoder, fit in fits.items()})
    seconds = time.perf_counter() - started
    entry = evaluation(
        "linear",
        setup,
        {**settings, "group_left_out": group, **{name: told[name] for name in told if name not in drawn}},
        score_heads(counts, {encoder: {0: HEAD} for encoder in heads}, setup),
        seconds=seconds,
        refs=(
            _pool_ref(pool, f"without {group}", num_pictures=len(groups) - len(numbers)),
            _pool_ref(pool, f"only {group}", num_pictures=len(numbers)),
        ),
    )
    return entry, seconds


def groups_of(pool: Sequence[Shards]) -> np.ndarray:
    """Group of every picture of the pool, as an array of text.

    Raises:
        InputError: a picture has no group, or there is only one group.
    """
    for shards in pool:
        if None in shards.groups:
            hint = "the spec's 'pictures' needs a part (?P<group>...); or leave out --leave-one-group-out"
            raise InputError("not every picture belongs to a group", where=shards.address, hint=hint)
    groups = np.array([group for shards in pool for group in shards.groups])
    if len(np.unique(groups)) < 2:
        raise InputError(f"all pictures are of one group, {groups[0]}", hint="leave out --leave-one-group-out")
    return groups


def _pool_ref(pool: Sequence[Shards], part: str, *, num_pictures: int) -> DataRef:
    whole = data_ref(pool[0])
    splits = " + ".join(data_ref(shards).split for shards in pool)
    name = fingerprint({"shards": [shards.fingerprint for shards in pool], "part": part})
    changes = {"split": f"{splits}, {part}", "num_pictures": num_pictures, "fingerprint": name}
    return whole.model_copy(update=changes)


def _seen_by_encoder(pool: Sequence[Shards], encoder_shards: str | None) -> dict[str, Any]:
    return {
        "pooled_shards": [shards.fingerprint for shards in pool],
        "encoder_trained_on_shards": encoder_shards or "not known",
        "encoder_has_seen_pictures_of": [
            data_ref(shards).split for shards in pool if shards.fingerprint == encoder_shards
        ],
    }


def _common(parts: Sequence[Evaluation]) -> dict[str, Any]:
    """Settings that all groups share."""
    of_one = ("fits", "group_left_out", "vectors")
    shared = {name: value for name, value in parts[0].settings.items() if name not in of_one}
    return shared | {"vectors": {name: v for name, v in parts[0].settings["vectors"].items() if name != "num_vectors"}}


def _mean(entries: dict[str, Evaluation], setup: Setup, seen: dict[str, Any]) -> Evaluation:
    """The mean over groups of every share (of a class: over the groups where it occurs), and the summed confusion."""
    parts, pool = list(entries.values()), (setup.train, setup.val)
    num_pictures = sum(map(len, pool))
    return evaluation(
        "linear",
        setup,
        {
            **_common(parts),
            "mean_over_groups": [part.settings["group_left_out"] for part in parts],
            "confusion": "sum over groups",
            **seen,
        },
        {
            encoder: {
                condition: mean_score([part.encoders[encoder][condition] for part in parts])
                for condition in by_condition
            }
            for encoder, by_condition in parts[0].encoders.items()
        },
        seconds=sum(part.seconds for part in parts),
        refs=(
            _pool_ref(pool, "all groups but one in turn", num_pictures=num_pictures),
            _pool_ref(pool, "each group in turn", num_pictures=num_pictures),
        ),
    )
