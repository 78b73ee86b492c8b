"""Checkpoints and exports of earlier versions, read as today's: settings that moved, and state that had no name yet."""

from __future__ import annotations

from typing import Any

_MOVED = {
    ("assignment", "temperature"): ("losses", "swapped_prediction", "temperature"),
    ("assignment", "epsilon"): ("assignment", "swav", "epsilon"),
    ("assignment", "sinkhorn_iterations"): ("assignment", "swav", "iterations"),
    ("assignment", "queue_length"): ("assignment", "swav", "queue_length"),
    ("assignment", "kmeans_iterations"): ("assignment", "kmeans", "iterations"),
    ("assignment", "kmeans_restarts"): ("assignment", "kmeans", "restarts"),
    ("assignment", "kmeans_vectors"): ("assignment", "kmeans", "max_vectors"),
}
"""Settings of checkpoint version 2 by where they are now."""


def upgraded_config(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved configuration with every setting where it is now; today's is returned as it is."""
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    for (section, name), path in _MOVED.items():
        settings = config.get(section)
        if isinstance(settings, dict) and name in settings:
            _put(config, path, settings.pop(name))
    return config


def upgraded_state(state: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint of version 2 as one of version 3."""
    assignment = dict(state["assignment"])
    if "queue" in assignment:
        # a queue that had not been full then is filled anew before it is used
        assignment.setdefault("queue_full", False)
    return {**state, "config": upgraded_config(state["config"]), "assignment": assignment, "start": None}


def _put(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value
