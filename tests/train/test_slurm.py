"""Slurm's variables, as srun sets them, become torch's; shells and batch scripts are left alone."""

import pytest

from vice.data_specs.errors import InputError
from vice.train.slurm import first_host, torch_variables

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "gpu[03-04],gpu09",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_NTASKS": "11",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-04],gpu09",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
}


def test_a_task_of_a_step():
    assert torch_variables(STEP) == {
        "RANK": "9",
        "WORLD_SIZE": "11",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": "24711",
    }
    first = torch_variables(STEP | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"})
    assert first["LOCAL_WORLD_SIZE"] == "4" and first["MASTER_ADDR"] == "gpu03"


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_NUM_TASKS": None, "SLURM_STEP_ID": None},  # a batch script or the shell of salloc
        {"SLURM_STEP_NUM_TASKS": "1"},  # one task a node, which starts its processes itself
        {"SLURM_PROCID": None},
        {"RANK": "0"},  # torchrun under Slurm
    ],
)
def test_everything_else_is_left_alone(changes):
    environment = {name: value for name, value in (STEP | changes).items() if value is not None}
    assert torch_variables(environment) == {}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("node7,node8", "node7"),
        ("node[003-012,20]", "node003"),
        ("a[1,3]-ib,b2", "a1-ib"),
        ("r1.example.org", "r1.example.org"),
    ],
)
def test_the_first_host(nodes, host):
    assert first_host(nodes) == host


def test_a_step_that_is_not_understood_is_told():
    with pytest.raises(InputError, match=r"not described as expected.*set RANK"):
        torch_variables(STEP | {"SLURM_STEP_TASKS_PER_NODE": "four"})
