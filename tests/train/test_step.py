"""A whole step: two processes give one's gradient and update; parts give the whole's gradient; frozen concepts."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vice.pipeline.shards import Shards
from vice.train import distributed, state
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.step import compute_gradient, update

ONE = Process(0, 1, torch.device("cpu"))


def config(**changes):
    fields = {
        "name": "step",
        "model": {"decoder_channels": 64, "embedding_dim": 16},
        "views": {"num_views": 2, "size": 64, "regions": "slic:12", "mask_share": 0.1},
        "assignment": {"num_concepts": 8, "swav": {"queue_length": 60}, "freeze_concepts_steps": 1},
        "global_batch": 4,
        "epochs": 4,
        "reader": "plain",
    }
    return TrainConfig(**{**fields, **changes})


def with_group_norm(module):
    """The module with group norms in place of batch norms, whose statistics are of one process's pictures."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(4, child.num_features))
        else:
            with_group_norm(child)
    return module


def begin(shards, settings, process=ONE):
    """A run's state whose network has group norms."""
    build, state.build_model = state.build_model, lambda config: with_group_norm(build(config))
    try:
        return state.new_state(settings, Shards(shards), process)
    finally:
        state.build_model = build


def one_step(shards, process):
    """Loss, gradients, moves of the weights, and regions of one step."""
    # without a queue: two processes' queues of some length never hold what one of twice that does
    run = begin(
        shards, config(assignment={"num_concepts": 8, "swav": {"queue_length": 0}, "freeze_concepts_steps": 0}), process
    )
    before = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    outcome = compute_gradient(run, next(run.loader))
    gradients = {name: parameter.grad.clone() for name, parameter in run.model.named_parameters()}
    update(run, 1.0)
    return {
        "loss": distributed.sum_over_processes(outcome.loss) / process.world_size,
        "gradients": gradients,
        "moves": {name: parameter.detach() - before[name] for name, parameter in run.model.named_parameters()},
        "regions": int(outcome.usable.sum()),
    }


def process(rank, shards, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(one_step(shards, Process(rank, 2, torch.device("cpu"))), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_make_the_step_of_one(scene_shards, tmp_path):
    command = [sys.executable, __file__, str(scene_shards["train"]), str(tmp_path)]
    children = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    one = one_step(scene_shards["train"], ONE)
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["regions"] != second["regions"] and first["regions"] + second["regions"] == one["regions"]
    for two in (first, second):
        torch.testing.assert_close(two["loss"], one["loss"])
        for kind in ("gradients", "moves"):
            for name, value in one[kind].items():
                assert (two[kind][name] - value).norm() <= 1e-3 * value.norm() > 0, (kind, name)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(scene_shards, parts):
    """Assignments are k-means', which do not depend on what else is in a part."""
    gradients = []
    for micro_batches in (1, parts):
        settings = config(assignment={"method": "kmeans", "num_concepts": 8}, micro_batches=micro_batches)
        run = begin(scene_shards["train"], settings)
        outcome = compute_gradient(run, next(run.loader))
        gradients.append([outcome.loss, *(p.grad.clone() for p in run.model.parameters())])
    for whole, added in zip(*gradients, strict=True):
        torch.testing.assert_close(added, whole, atol=1e-5, rtol=1e-3)


def test_parts_are_assigned_apart_and_queued_together(scene_shards):
    run = begin(scene_shards["train"], config(micro_batches=2))
    outcome = compute_gradient(run, next(run.loader))
    assert len(outcome.assigned) == int(outcome.usable.sum()) == len(outcome.embeddings)
    torch.testing.assert_close(outcome.assigned.sum(1), torch.ones(len(outcome.assigned)))
    assert torch.equal(run.assignment.queue.rows, outcome.embeddings[-60:])


def test_concepts_do_not_move_while_they_are_frozen_and_keep_unit_length(scene_shards):
    run = begin(scene_shards["train"], config())
    seen = [run.model.concepts.detach().clone()]
    for _ in range(2):
        compute_gradient(run, next(run.loader))
        update(run, 0.05)
        run.step += 1
        seen.append(run.model.concepts.detach().clone())
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    torch.testing.assert_close(seen[2].norm(dim=1), torch.ones(8))


def test_bf16_on_the_cpu_gives_a_finite_gradient_near_the_float32_one(scene_shards):
    losses = []
    for precision in ("fp32", "bf16"):
        run = begin(scene_shards["train"], config(precision=precision))
        losses.append(compute_gradient(run, next(run.loader)).loss)
        assert all(torch.isfinite(parameter.grad).all() for parameter in run.model.parameters())
    torch.testing.assert_close(losses[0], losses[1], atol=0.05, rtol=0)


if __name__ == "__main__":
    process(int(sys.argv[3]), Path(sys.argv[1]), sys.argv[2])
