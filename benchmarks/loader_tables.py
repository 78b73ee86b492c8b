"""Markdown of what `benchmarks/loader.py` measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from loader_ways import DALI, DALI_GPU, PER_ACCESS

PUBLISHED = {256: 39.0, 512: 16.7}
"""Views/s/core of the paper's published loader, 640×480 JPEG, by side of a view, on a core with PUBLISHED_SLIC_MS."""

PUBLISHED_SLIC_MS = {"5": 55.0, "10": 99.0}
"""What `calibrate` gave on that core."""

WANTED = {256: (4, 5), 512: (3, 4)}
"""How many times as fast as (a) DALI must be on all cores, 640×480 pictures, and what is aimed at."""


def tables(found: dict[str, Any]) -> str:
    """All tables of a run."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    parts = [f"{found['date']}; {found['machine']}; {versions}; {found['settings']}"]
    parts += ["\n".join(_speeds(found)), "\n".join(_against_published(found)), "\n".join(_against_wanted(found))]
    parts += ["\n".join(_split_table(kind, rows)) for kind, rows in _splits(found).items()]
    return "\n\n".join(part for part in parts if part)


def _cases(found: dict[str, Any]) -> list[tuple[str, int, int]]:
    return list(dict.fromkeys((one["source"], one["size"], one["cores"]) for one in found["measured"]))


def _rounds(found: dict[str, Any], case: tuple[str, int, int], way: str) -> list[dict]:
    rounds = [
        one for one in found["measured"] if (one["source"], one["size"], one["cores"]) == case and one["way"] == way
    ]
    return sorted(rounds, key=lambda one: one["round"])


def _ratio(found: dict[str, Any], case: tuple[str, int, int], way: str) -> float:
    """Median over the rounds of how many times as fast as (a) a way is."""
    pairs = zip(_rounds(found, case, way), _rounds(found, case, PER_ACCESS), strict=True)
    return statistics.median(one["views_per_second"] / base["views_per_second"] for one, base in pairs)


def _speeds(found: dict[str, Any]) -> Iterator[str]:
    yield "| pictures | views | cores | | views/s/core, median (min–max) | against (a) | peak MB | of it the loader |"
    yield "|---|---|---|---|---|---|---|---|"
    for case in _cases(found):
        for way in dict.fromkeys(one["way"] for one in found["measured"]):
            rounds = _rounds(found, case, way)
            if not rounds:
                continue
            on_gpu = way == DALI_GPU
            speeds = [one["views_per_second"] / (1 if on_gpu else case[2]) for one in rounds]
            peaks = [statistics.median(parts) for parts in zip(*(one["peak_mb"] for one in rounds), strict=True)]
            loader = statistics.median(one["peak_mb"][0] - one["before_mb"] for one in rounds)
            gpu = f", GPU {max(one['gpu_mb'] for one in rounds):.0f}" if on_gpu else ""
            memory = " + ".join(f"{peak:.0f}" for peak in peaks) + gpu
            yield (
                f"| {case[0]} | {case[1]}² | {case[2]} | {way}{' (views/s)' if on_gpu else ''} "
                f"| {statistics.median(speeds):.1f} ({min(speeds):.1f}–{max(speeds):.1f}) "
                f"| {_ratio(found, case, way):.2f}× | {memory} | {loader:.0f} |"
            )
    if found["machine"]["gpu"] is None:
        yield f"| | | | {DALI_GPU} | not measured | | | |"


def _against_published(found: dict[str, Any]) -> Iterator[str]:
    """(a) beside the published loader, which was timed on another core."""
    slic = {count: statistics.median(one[count] for one in found["slic_ms"]) for count in PUBLISHED_SLIC_MS}
    faster = statistics.geometric_mean(PUBLISHED_SLIC_MS[count] / slic[count] for count in slic)
    timings = ", ".join(f"{count} iterations {ms:.1f} ms" for count, ms in slic.items())
    yield f"SLIC of 512 × 512: {timings}; this core is {faster:.2f} times as fast as the published loader's."
    yield ""
    yield "| views | published, views/s/core | on this core | (a) | difference | within 15 % |"
    yield "|---|---|---|---|---|---|"
    for case in _cases(found):
        if case[0] == "640x480" and case[1] in PUBLISHED and case[2] == 1:
            speed = statistics.median(one["views_per_second"] for one in _rounds(found, case, PER_ACCESS))
            expected = PUBLISHED[case[1]] * faster
            difference = speed / expected - 1
            yield (
                f"| {case[1]}² | {PUBLISHED[case[1]]:.1f} | {expected:.1f} | {speed:.1f} "
                f"| {difference:+.0%} | {'yes' if abs(difference) <= 0.15 else 'no'} |"
            )


def _against_wanted(found: dict[str, Any]) -> Iterator[str]:
    for case in _cases(found):
        if case[0] == "640x480" and case[1] in WANTED and case[2] > 1:
            ratio, (least, aim) = _ratio(found, case, DALI), WANTED[case[1]]
            verdict = "reached" if ratio >= aim else "aim missed" if ratio >= least else "missed"
            yield f"* {case[1]}², {case[2]} cores, {case[0]}: {ratio:.2f}× (a); wanted {least}×, aim {aim}×: {verdict}"


def _splits(found: dict[str, Any]) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """By way: columns (picture size and view size) of milliseconds a view on one core."""
    kinds: dict[str, list[tuple[str, dict[str, float]]]] = {PER_ACCESS: []}
    for case in _cases(found):
        rounds = [one["ms_per_view"] for one in _rounds(found, case, PER_ACCESS)]
        if case[2] == 1:
            medians = {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}
            kinds[PER_ACCESS].append((f"{case[0]}, {case[1]}²", medians))
    for one in found["splits"]:
        kinds.setdefault(one["way"], []).append((f"{one['source']}, {one['size']}²", one["ms_per_view"]))
    return kinds


def _split_table(kind: str, columns: list[tuple[str, dict[str, float]]]) -> Iterator[str]:
    yield f"What the time of {kind} goes to, CPU ms a view (what is done once a picture, divided by its views):"
    yield ""
    yield "| | " + " | ".join(name for name, _ in columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for stage in columns[0][1]:
        yield f"| {stage} | " + " | ".join(f"{parts[stage]:.2f}" for _, parts in columns) + " |"
    yield "| all | " + " | ".join(f"{sum(parts.values()):.2f}" for _, parts in columns) + " |"
