"""`linear --leave-one-group-out`: the probe tested on drives (or patients, sites) that it was not fitted on.

In video, neighbouring pictures are near copies, so a split inside a drive flatters a probe. Here train and val shards
are pooled and each group is tested by a probe fitted on all the others. The encoder is the same throughout: what it was
trained on stands in the settings.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.results import DataRef, Evaluation, Score
from vice.evaluate.encoders import Encoder
from vice.evaluate.linear import collect_labelled, fit_probes, settings_of, test_probes
from vice.evaluate.names import in_classes
from vice.evaluate.options import LinearOptions
from vice.evaluate.scenes import data_ref, scenes
from vice.pipeline.shards import Shards

MEAN_OVER_GROUPS = "linear-over-groups"


def evaluate_without_groups(
    encoders: Sequence[Encoder], train: Shards, val: Shards, *, options: LinearOptions, encoder_shards: str
) -> dict[str, Evaluation]:
    """Fit and test a probe per encoder and group: fitted on the pictures of all other groups, tested on the group's.

    Args:
        encoders: each embeds a picture once for fitting, and once per condition for testing.
        train: pooled with `val`; pictures are numbered through both.
        val: as `train`.
        options: everything else that decides the numbers.
        encoder_shards: fingerprint of the shards that the encoder was trained on.

    Returns:
        `linear-without-GROUP` to evaluation, and their mean under `linear-over-groups`.

    Raises:
        InputError: a picture has no group, or there is only one group.
        WorkError: a sample cannot be read.
    """
    started = time.perf_counter()
    pool, classes = (train, val), train.classes
    groups = groups_of(pool)
    num_pixels = options.drawing.pixels_of_each(len(groups))
    everything = scenes(pool, "pictures of all groups")
    vectors = collect_labelled(everything, encoders, num_pixels=num_pixels, options=options)
    entries = {}
    for group in np.unique(groups):
        others = (groups != group)[vectors.scenes]
        fits = fit_probes(vectors, others, num_classes=len(classes), options=options)
        numbers = np.flatnonzero(groups == group).tolist()
        pictures = scenes(pool, f"pictures of {group}", numbers=numbers)
        settings = settings_of(options, fits, num_pixels=num_pixels, num_vectors=int(others.sum()))
        settings |= {"group_left_out": str(group)} | _seen_by_encoder(pool, encoder_shards)
        entries[in_classes(f"linear-without-{group}", train.class_set)] = Evaluation(
            kind="linear",
            settings=settings,
            train=_pool_ref(pool, f"without {group}", num_pictures=len(groups) - len(numbers)),
            val=_pool_ref(pool, f"only {group}", num_pictures=len(numbers)),
            encoders=test_probes(pictures, encoders, fits, classes=classes, options=options),
            seconds=time.perf_counter() - started,
        )
        started = time.perf_counter()
    return {**entries, in_classes(MEAN_OVER_GROUPS, train.class_set): _mean(entries, pool, encoder_shards)}


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


def _seen_by_encoder(pool: Sequence[Shards], encoder_shards: str) -> dict[str, object]:
    return {
        "pooled_shards": [shards.fingerprint for shards in pool],
        "encoder_trained_on_shards": encoder_shards,
        "encoder_has_seen_pictures_of": [
            data_ref(shards).split for shards in pool if shards.fingerprint == encoder_shards
        ],
    }


def _mean(entries: dict[str, Evaluation], pool: Sequence[Shards], encoder_shards: str) -> Evaluation:
    """The mean over groups of every share (of a class: over the groups where it occurs), and the summed confusion."""
    parts = list(entries.values())
    return Evaluation(
        kind="linear",
        settings={"mean_over": list(entries), "confusion": "sum over groups"} | _seen_by_encoder(pool, encoder_shards),
        train=_pool_ref(pool, "all groups but one in turn", num_pictures=sum(map(len, pool))),
        val=_pool_ref(pool, "each group in turn", num_pictures=sum(map(len, pool))),
        encoders={
            encoder: {
                condition: _mean_score([part.encoders[encoder][condition] for part in parts])
                for condition in by_condition
            }
            for encoder, by_condition in parts[0].encoders.items()
        },
        seconds=sum(part.seconds for part in parts),
    )


def _mean_score(scores: Sequence[Score]) -> Score:
    def mean(values: list[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return sum(there) / len(there) if there else None

    return Score(
        miou=mean([score.miou for score in scores]),
        accuracy=mean([score.accuracy for score in scores]),
        mean_accuracy=mean([score.mean_accuracy for score in scores]),
        iou={name: mean([score.iou[name] for score in scores]) for name in scores[0].iou},
        confusion=np.sum([score.confusion for score in scores], axis=0).tolist(),
    )
