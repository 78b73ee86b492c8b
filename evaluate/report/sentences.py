"""What the report says in plain words, worked out from records alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vice.data_specs.atlas_entry import Atlas
from vice.data_specs.entries import ComparedEncoder, Evaluation, RegionBounds
from vice.data_specs.results import EncoderRef, TrainingCurve
from vice.evaluate.comparison import MEANINGS, evaluated, missing_baselines, signed, verdict
from vice.evaluate.names import CLEAN
from vice.evaluate.report.runs import Group, Run, described
from vice.evaluate.report.tables import HEADLINE_MATCHING, is_headline


def origin(run: Run) -> str:
    """What was evaluated, in one sentence."""
    encoder, curve = run.results.encoder, run.results.training
    if encoder is None:
        return "Region layers alone: no encoder has a part in these numbers."
    if encoder.step is None or encoder.views_seen is None:
        cells = f"{encoder.dim} values per cell of {encoder.stride} pixels"
        return f"{described(encoder)}: {cells}."
    start = f" {encoder.weights[0].upper()}{encoder.weights[1:]}." if encoder.weights else ""
    return f"Trained on {encoder.views_seen:,} views{_gap(curve)}.{start}"


def _gap(curve: TrainingCurve | None) -> str:
    if curve is None:
        return ""
    if curve.ln_num_concepts is None:
        return f"; loss {curve.loss[-1]:.2f}"
    gap = curve.ln_num_concepts - curve.prediction[-1]
    return f"; swapped prediction {curve.prediction[-1]:.2f}, {abs(gap):.2f} {'below' if gap > 0 else 'above'} ln K"


def domain(run: Run, group: Group) -> str | None:
    """Whether the encoder was trained on other data than it is tested with."""
    encoder: EncoderRef | None = run.results.encoder
    if encoder is None or encoder.shards_fingerprint is None:
        return None
    trains = {entry.train.fingerprint for entry in group.evaluations[group.runs.index(run)].values()}
    if encoder.shards_fingerprint in trains:
        return None
    return "The encoder was trained on other shards than the probes: it is tested beyond the pictures it learned from."


def summary(run: Run, group: Group) -> list[str]:
    """The results of a run on one group's data in plain sentences."""
    entries = group.evaluations[group.runs.index(run)]
    sentences = []
    for name, entry in entries.items():
        if is_headline(name, entry) and not name.endswith("-over-groups"):
            sentences += _compared(_in_words(name, entry), entry)
        elif name.endswith("linear-over-groups"):
            sentences += _compared("Linear mIoU on groups the probe was not fitted on", entry)
    missing = {name: reason for entry in entries.values() for name, reason in entry.missing.items()}
    if missing:
        told = missing_baselines(missing)
        sentences.append(f"{told[0].upper()}{told[1:]}.")
    told = domain(run, group)
    return [*sentences, told] if told else sentences


def _in_words(name: str, entry: Evaluation) -> str:
    """What was measured; what stands before the name of the evaluation (`settings-2 short-side-320`) follows it."""
    what = "Linear mIoU (SGD)" if "linear-sgd" in name else "Linear mIoU"
    if entry.kind == "cluster":
        what = f"mIoU of {entry.settings['kmeans']['num_clusters']} clusters"
    if entry.kind == "neighbors":
        what = "mIoU by nearest neighbours"
    before = name.partition(entry.kind)[0].strip()
    return f"{what} ({before})" if before else what


def _compared(what: str, entry: Evaluation) -> Iterator[str]:
    """Sentences on one evaluation: clean pictures, which baselines are beaten, and what changed pictures cost."""
    shares = {encoder: by[CLEAN].miou for encoder, by in entry.encoders.items() if CLEAN in by}
    order = sorted(entry.encoders, key=lambda name: name != evaluated(entry))
    yield f"{what}: {'; '.join(f'{percent(shares[name])} % {name}' for name in order if name in shares)}."
    if told := verdict(entry):
        yield f"{what}, {evaluated(entry)}: {told[0].lower()}{told[1:]}"
    costs = {}
    for encoder, by in entry.encoders.items():
        changed = [score.miou for condition, score in by.items() if condition != CLEAN]
        if changed and CLEAN in by:
            costs[encoder] = sum(changed) / len(changed) - by[CLEAN].miou
    if costs:
        lost = [f"{signed(costs[name])} {name}" for name in order if name in costs]
        yield f"{what}, points that changed pictures cost: {'; '.join(lost)}."


def facts(run: Run) -> dict[str, Any]:
    """Where a run's numbers come from."""
    results, encoder = run.results, run.results.encoder
    told: dict[str, Any] = {}
    if encoder is not None:
        told = {
            "encoder": f"{encoder.kind} {encoder.name}",
            "weights": encoder.weights,
            **({"maps": _maps(encoder)} if encoder.levels else {}),
            "embedding": f"{encoder.dim} values per cell of {encoder.stride} × {encoder.stride} pixels",
            "sha256": encoder.sha256,
        }
        if encoder.step is not None:
            told["step"] = f"{encoder.step:,} of {encoder.num_steps:,}"
            told["views seen"] = f"{encoder.views_seen:,}"
            told["concepts (K)"] = encoder.num_concepts
            told["trained on shards"] = encoder.shards_fingerprint
    refs = [ref for entry in results.evaluations.values() for ref in (entry.train, entry.val)]
    refs += [entry.data for entry in (*results.regions.values(), *results.atlases.values())]
    told |= {f"{ref.dataset}, {ref.split} ({ref.num_pictures} pictures)": ref.fingerprint for ref in refs}
    return told | {f"{name} version (of the last old entry)": number for name, number in results.versions.items()}


def settings(entry: Evaluation | RegionBounds | Atlas) -> dict[str, Any]:
    """Everything that decided an entry's numbers, with what its encoders are and what computed it."""
    compared = getattr(entry, "compared", {})
    encoders = {name: one.model_dump(exclude_none=True) for name, one in compared.items()}
    computed = {"threads": entry.threads, "versions": entry.versions} if entry.versions else {}
    return {**entry.settings, **({"encoders": encoders} if encoders else {}), **computed}


def _maps(encoder: EncoderRef) -> str:
    reduced = "" if encoder.dims is None else f", reduced to {encoder.dims} values by PCA"
    return f"{encoder.levels}{reduced}"


def about(one: ComparedEncoder) -> str:
    """What an encoder of an evaluation is, in a sentence."""
    parts = [MEANINGS[one.role]]
    if one.levels is not None:
        parts.append({"all": "all maps at the finest stride", "last": "the last map"}[one.levels])
    if one.standardised:
        parts.append("every channel standardised on clean pictures")
    if one.reduced_from is not None:
        parts.append(
            f"PCA of {one.reduced_from} values that keeps {percent(one.explained_variance)} % of their variance"
        )
    return "; ".join(parts)


def clusters_told(group: Group) -> bool:
    """Whether the summary tells clusters, whose matching rule then must be said."""
    return any(name.endswith(HEADLINE_MATCHING) for entries in group.evaluations for name in entries)


def percent(share: float | None) -> str:
    """A share as per cent with one decimal, a dash for none."""
    return "–" if share is None else f"{100 * share:.1f}"
