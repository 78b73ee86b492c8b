"""The tasks of a job without Ray: what is done about workers that die."""

import pickle
import signal
import socket
from functools import partial
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest
import ray.exceptions
from sharding import blobs, jpeg

from vice.data_specs.dataset import load_dataset
from vice.data_specs.errors import WorkError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep import isolation, ray_session, tasks
from vice.pipeline.prep.plan import make_plan
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import Recipe, make_sample
from vice.pipeline.prep.shard import read_rows, write_shard
from vice.pipeline.prep.tars import Input
from vice.pipeline.prep.versions import check_versions, package_versions
from vice.pipeline.storage.base import StoreFailure
from vice.pipeline.storage.local import LocalStorage

OUT_OF_MEMORY = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")


class FakeRay:
    """Runs a task when it is submitted; those with a certain input end as if their worker had been killed."""

    exceptions, ObjectRef = ray.exceptions, object

    def __init__(self, death, killer):
        self._death, self._killer, self._answers = death, killer, {}
        self.in_flight = []

    def put(self, value):
        self._answers[ref := object()] = value
        return ref

    def get(self, ref):
        answer = self._answers[ref]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, refs, num_returns, timeout):
        self.in_flight.append(len(refs))
        return refs[:num_returns], refs[num_returns:]

    def remote(self, num_returns=1, **_):
        return lambda function: SimpleNamespace(remote=partial(self._run, function, num_returns))

    def _run(self, function, num_returns, *arguments):
        arguments = [self._answers.get(one, one) if type(one) is object else one for one in arguments]
        inputs = [one.input.path for one in arguments[1]] if function.__name__.startswith("_make_part") else []
        answer = (self._death,) * num_returns if self._killer in inputs else function(*arguments)
        return [self.put(one) for one in answer] if num_returns > 1 else self.put(answer)


@pytest.fixture
def finish(tmp_path, monkeypatch):
    """Makes the shards of six pictures, of which `d.jpg` kills its worker."""
    for number, letter in enumerate("abcdef"):
        (tmp_path / f"{letter}.jpg").write_bytes(jpeg(blobs(40, 40, number)))
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:10")], samples_per_shard=6)
    plan = make_plan(tmp_path, settings, load_dataset("image_folder"))
    monkeypatch.setattr(tasks, "make_sample_apart", make_sample)  # without a process, which takes a second

    def run(death):
        monkeypatch.setattr(tasks, "ray", FakeRay(death, "d.jpg"))
        out = LocalStorage(tmp_path / "out")
        write = partial(write_shard, settings_fingerprint=plan.settings_fingerprint)
        made = tasks.RayTasks(out, plan, lambda: 2, check=lambda: None, writer=lambda _: write).finish(plan.numbers)
        return made, *read_rows(out, made[0].name)[:2]

    return run, plan


def test_an_input_that_takes_all_memory_is_rejected_and_its_neighbours_are_stored_in_order(finish):
    run, plan = finish
    shards, rows, rejected = run(OUT_OF_MEMORY)
    assert [(shard.num_samples, shard.num_rejected) for shard in shards] == [(5, 1)]
    (row,) = rejected.to_pylist()
    assert (row["source"], row["code"]) == ("d.jpg", "killed-decoder") and "memory" in row["reason"]
    assert rows["key"].to_pylist() == [one.key for one in plan.inputs_of(0) if one.input.path != "d.jpg"]


def test_a_worker_that_dies_for_another_reason_with_every_input_alone_ends_the_job(finish):
    run, _ = finish
    with pytest.raises(WorkError, match=r"a worker process died 4 times \(WorkerCrashedError\).*fewer --workers"):
        run(ray.exceptions.WorkerCrashedError())


def test_nodes_that_join_later_are_used(tmp_path, monkeypatch):
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("no picture")
    plan = make_plan(tmp_path, PrepSettings(samples_per_shard=4), load_dataset("image_folder"))
    fake, joined = FakeRay(None, None), []
    fake.cluster_resources = lambda: {"CPU": 1.0 + 2 * (len(joined) > 3)}
    monkeypatch.setattr(tasks, "ray", fake)
    monkeypatch.setattr(ray_session, "ray", fake)
    monkeypatch.setattr(ray_session, "_REFRESH_SECONDS", -1)
    write = partial(write_shard, settings_fingerprint=plan.settings_fingerprint)

    def finish(limit):
        joined.clear()
        fake.in_flight.clear()
        cores = ray_session.ClusterCores(limit)
        out = LocalStorage(tmp_path / f"out{limit}")
        job = tasks.RayTasks(out, plan, cores, check=lambda: joined.append(1), writer=lambda _: write)
        assert len(job.finish(plan.numbers)) == 10
        return fake.in_flight

    assert (finish(None)[:4], max(fake.in_flight)) == ([2] * 4, 6)
    assert max(finish(2)) == 4


def test_a_node_with_other_versions_is_refused_by_name():
    versions = package_versions()
    check_versions(versions)
    with pytest.raises(WorkError) as refused:
        check_versions(versions | {"opencv": "5.9.9"})
    line = refused.value.line()
    assert f"opencv: '5.9.9' -> '{versions['opencv']}'" in line and socket.gethostname() in line


def test_a_store_that_fails_in_a_task_is_one_line_with_the_object_and_what_to_do():
    cause = pickle.loads(pickle.dumps(StoreFailure("503 Service Unavailable: http://s3/out/a.tar", "503")))
    error = ray.exceptions.RayTaskError("_write_shard", "Traceback: ...", cause).as_instanceof_cause()
    assert tasks._as_told(error).line() == (
        "a store failed (503 Service Unavailable: http://s3/out/a.tar); run the same command again to resume"
    )


def test_a_node_that_cannot_load_a_task_is_named():
    """As where a package is missing there."""
    cause = ray.exceptions.RaySystemError(ImportError("No module named 'numba'"), "Traceback: ...")
    text = "ray::_make_part() (pid=7, ip=10.0.0.3)\n  At least one of the input arguments could not be computed: ..."
    error = ray.exceptions.RayTaskError("_make_part", text, cause, "ray::_make_part()", 7, "10.0.0.3")
    line = tasks._as_told(error.as_instanceof_cause()).line()
    assert "No module named 'numba'" in line and ": 10.0.0.3; install the same packages there" in line


def test_a_kill_of_the_process_of_one_input_counts_as_the_inputs_only_if_it_comes_twice(tmp_path, monkeypatch):
    """The system's way to end what takes all memory."""
    recipe = Recipe(LocalStorage(tmp_path), load_dataset("image_folder"), PrepSettings())
    killed, good = CompletedProcess([], -signal.SIGKILL), CompletedProcess([], 0, pickle.dumps("a sample"))
    ends = [killed, good, killed, killed]
    monkeypatch.setattr(isolation.subprocess, "run", lambda *_, **__: ends.pop(0))
    assert isolation.make_sample_apart(Input("a.jpg"), "key", recipe) == "a sample"
    reason = "crashes the program that decodes it (SIGKILL)"
    assert isolation.make_sample_apart(Input("a.jpg"), "key", recipe) == Rejection(
        "a.jpg", "picture", reason, "killed-decoder"
    )
