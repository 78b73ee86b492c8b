"""Slurm's variables as those that torch's process groups are described by."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vice.data_specs.errors import InputError

_FIRST_PORT, _PORTS = 20_000, 10_000
_HOST = re.compile(r"(?P<name>[^,\[]+)(\[(?P<first>\d+)[^\]]*\](?P<rest>[^,\[]*))?")


def torch_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task of an `srun` step.

    Empty where the process is not one of several tasks (an interactive shell, a batch script, a step of one task that
    starts its processes itself), and where an outer launcher has set RANK.

    Raises:
        InputError: a step whose variables cannot be understood.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "RANK" in environment or "SLURM_PROCID" not in environment or tasks == 1:
        return {}
    try:
        nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
        local = _tasks_by_node(environment["SLURM_STEP_TASKS_PER_NODE"])[int(environment["SLURM_NODEID"])]
        return {
            "RANK": environment["SLURM_PROCID"],
            "WORLD_SIZE": str(tasks),
            "LOCAL_RANK": environment["SLURM_LOCALID"],
            "LOCAL_WORLD_SIZE": str(local),
            "MASTER_ADDR": first_host(nodes),
            "MASTER_PORT": str(_FIRST_PORT + int(environment["SLURM_JOB_ID"]) % _PORTS),
        }
    except (KeyError, ValueError, IndexError) as error:
        what = f"this Slurm step is not described as expected ({error})"
        raise InputError(what, hint="set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT") from None


def first_host(nodes: str) -> str:
    """The first of a list of hosts: `node03` of `node[03-05,7],other`."""
    found = _HOST.match(nodes)
    if found is None:
        raise ValueError(f"no host in {nodes!r}")
    return found["name"] + (found["first"] or "") + (found["rest"] or "")


def _tasks_by_node(text: str) -> list[int]:
    """`4(x2),3` is 4, 4, 3."""
    counts: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(\(x(\d+)\))?", part)
        if found is None:
            raise ValueError(f"tasks per node {text!r}")
        counts += [int(found[1])] * int(found[3] or 1)
    return counts
