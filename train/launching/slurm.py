"""Slurm's description of a task as torch's: `srun vice-train launch ...`, one task a GPU, needs no other launcher."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_FIRST_PORT, _NUM_PORTS = 15000, 15000
"""Below the ports that Linux hands out by itself (from 32768 on)."""


def process_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a task of `srun`.

    Task 0 must run on the first host of the step, as with Slurm's block and cyclic distribution.

    Args:
        environment: of this process. MASTER_ADDR and MASTER_PORT are kept where it has them.

    Returns:
        the variables to set; empty outside an `srun` step with several tasks (as in the shell of `salloc` or the
        script of `sbatch`), and where another launcher has set RANK.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if "RANK" in environment or tasks < 2 or not {"SLURM_STEP_ID", "SLURM_PROCID"} <= set(environment):
        return {}
    node = int(environment.get("SLURM_NODEID", 0))
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or str(tasks)
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "localhost"
    variables = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": str(tasks_per_node(counts)[node]),
        "MASTER_ADDR": next(expand_hosts(hosts)),
        "MASTER_PORT": str(_port(environment)),
    }
    kept = {name: environment[name] for name in ("MASTER_ADDR", "MASTER_PORT") if environment.get(name)}
    return {**variables, **kept}


def expand_hosts(hosts: str) -> Iterator[str]:
    """Host names of Slurm's list, as `node[03-05,7],login` stands for node03, node04, node05, node7, login."""
    # commas inside brackets do not part hosts
    for entry in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", hosts):
        yield from _expanded(entry)


def tasks_per_node(counts: str) -> list[int]:
    """Number of tasks of each node of Slurm's list, as `2(x3),1` stands for 2, 2, 2, 1."""
    expanded = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", counts):
        expanded += [int(count)] * int(times or 1)
    return expanded


def _expanded(entry: str) -> Iterator[str]:
    """One host, or those of its first brackets, each with those of the brackets after it."""
    match = re.match(r"([^\[]*)\[([^\]]*)\](.*)", entry)
    if match is None:
        yield entry
        return
    before, numbers, after = match.groups()
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            # leading zeros belong to the name
            for rest in _expanded(after):
                yield f"{before}{number:0{len(first)}d}{rest}"


def _port(environment: Mapping[str, str]) -> int:
    """A port that all tasks of a step agree on, and other steps and jobs on the same node hardly share."""
    job, step = (int(environment.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _FIRST_PORT + (job + 997 * step) % _NUM_PORTS
