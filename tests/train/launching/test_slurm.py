"""Slurm's environments, as `srun`, `sbatch` and `salloc` make them, against torch's variables."""

import pytest

from vice.train.launching.slurm import expand_hosts, process_variables, tasks_per_node

# task 5 of: srun --nodes 3 --ntasks 7 --gpus-per-task 1, the second step of job 4182317
TASK = {
    "SLURM_JOB_ID": "4182317",
    "SLURM_JOBID": "4182317",
    "SLURM_JOB_NODELIST": "gpu[07-09],gpu21",
    "SLURM_JOB_NUM_NODES": "4",
    "SLURM_NTASKS": "7",
    "SLURM_STEP_ID": "1",
    "SLURM_STEPID": "1",
    "SLURM_STEP_NODELIST": "gpu[08-09],gpu21",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2),1",
    "SLURM_TASKS_PER_NODE": "3(x2),1",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}


def test_a_task_of_a_step():
    variables = process_variables(TASK)
    port = int(variables.pop("MASTER_PORT"))
    assert variables == {
        "RANK": "5",
        "WORLD_SIZE": "7",
        "LOCAL_RANK": "2",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu08",
    }
    assert 1024 < port < 32768
    assert process_variables({**TASK, "SLURM_NODEID": "2", "SLURM_LOCALID": "0"})["LOCAL_WORLD_SIZE"] == "1"


def test_tasks_agree_on_the_port_and_other_steps_and_jobs_take_another():
    def port(**changes):
        return process_variables({**TASK, **changes})["MASTER_PORT"]

    assert port() == port(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0")
    assert len({port(), port(SLURM_STEP_ID="0"), port(SLURM_JOB_ID="4182318")}) == 3


def test_the_users_own_address_stays():
    variables = process_variables({**TASK, "MASTER_ADDR": "10.1.0.8", "MASTER_PORT": "29511"})
    assert (variables["MASTER_ADDR"], variables["MASTER_PORT"]) == ("10.1.0.8", "29511")


# an sbatch script and a plain salloc shell have the job's variables, the former also a rank; the shell that newer
# versions of salloc start on a node is a step of one task
BATCH_SCRIPT = {name: value for name, value in TASK.items() if "STEP" not in name} | {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
PLAIN_SHELL = {
    name: value for name, value in BATCH_SCRIPT.items() if name not in {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"}
}
INTERACTIVE_STEP = BATCH_SCRIPT | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}


@pytest.mark.parametrize(
    "environment",
    [{}, BATCH_SCRIPT, PLAIN_SHELL, INTERACTIVE_STEP, {**TASK, "SLURM_STEP_NUM_TASKS": "1"}, {**TASK, "RANK": "0"}],
    ids=["no Slurm", "sbatch script", "salloc", "salloc's step on a node", "srun of one task", "torchrun under srun"],
)
def test_nothing_where_there_are_not_several_tasks(environment):
    assert process_variables(environment) == {}


@pytest.mark.parametrize(
    ("hosts", "expanded"),
    [
        ("localhost", ["localhost"]),
        ("a,b-1", ["a", "b-1"]),
        ("node[03-05,7]", ["node03", "node04", "node05", "node7"]),
        ("node[098-101].eu,login", ["node098.eu", "node099.eu", "node100.eu", "node101.eu", "login"]),
        ("r[1-2]n[08-09]", ["r1n08", "r1n09", "r2n08", "r2n09"]),
    ],
)
def test_host_lists(hosts, expanded):
    assert list(expand_hosts(hosts)) == expanded


def test_tasks_per_node():
    assert tasks_per_node("8") == [8]
    assert tasks_per_node("2(x3),1,4(x2)") == [2, 2, 2, 1, 4, 4]
