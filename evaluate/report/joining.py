"""Which entries of several runs may stand in one row: those of the same settings on the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vice.data_specs.entries import Evaluation
from vice.evaluate.report.runs import Group

MAX_DIFFERENCES = 3
"""Named in a row; the settings at the page's end have all."""


class Joined(NamedTuple):
    """Entries that differ in nothing but the encoder."""

    name: str
    differs_in: str
    """Their settings and data, as far as entries of the same name differ; empty where none do."""
    entries: list[Evaluation | None]
    """By run; None where a run has none."""


def joined(group: Group) -> list[Joined]:
    """The evaluations of a group's runs, in the order of the records; those of one name stand together."""
    by_name: dict[str, dict[str, list[Evaluation | None]]] = {}
    for number, entries in enumerate(group.evaluations):
        for key, entry in entries.items():
            variants = by_name.setdefault(entry.name or key, {})
            variants.setdefault(entry.identity, [None] * len(group.runs))[number] = entry
    return [
        Joined(name, differs_in, entries)
        for name, variants in by_name.items()
        for differs_in, entries in zip(_differences(variants), variants.values(), strict=True)
    ]


def _differences(variants: Mapping[str, list[Evaluation | None]]) -> list[str]:
    """For every variant its values of what they differ in."""
    requests = [dict(_flat(next(filter(None, entries)).request)) for entries in variants.values()]
    paths = dict.fromkeys(path for request in requests for path in request)
    differing = [path for path in paths if any(one.get(path) != requests[0].get(path) for one in requests[1:])]
    # the number of pictures says more than the fingerprint that differs with it
    differing.sort(key=lambda path: path.endswith("fingerprint"))
    shown, more = differing[:MAX_DIFFERENCES], len(differing) - MAX_DIFFERENCES
    ending = [f"{more} more"] if more > 0 else []
    return ["; ".join([*(_told(path, request.get(path)) for path in shown), *ending]) for request in requests]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted path; `settings` in front is left out."""
    for name, value in values.items():
        path = f"{before}{name}" if before or name != "settings" else ""
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}." if path else "")
        else:
            # as a record has it: there are no tuples in JSON
            yield path, list(value) if isinstance(value, tuple) else value


def _told(path: str, value: Any) -> str:
    value = value[:12] if path.endswith("fingerprint") and isinstance(value, str) else value
    return f"{path} {'not recorded' if value is None else value}"
