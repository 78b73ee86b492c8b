"""A whole step: two processes give one's gradient and update; parts give the whole's gradient; frozen concepts."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vice.pipeline.shards import Shards
from vice.train import distributed, state
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.step import compute_gradient, update

ONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def teacher(scene_shards, tmp_path_factory):
    from region_vectors import make_vectors

    return make_vectors(Shards(scene_shards["train"]), "slic:12", tmp_path_factory.mktemp("teacher") / "out")


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
    count = int(outcome.usable.sum())
    assert [len(of) for of in (outcome.concepts, outcome.predicted, outcome.embeddings)] == [count] * 3
    expected = (outcome.embeddings @ run.model.concepts.T).argmax(1)
    assert torch.equal(outcome.predicted, expected) and not torch.equal(outcome.concepts, expected)
    assert torch.equal(run.assignment.queue.rows, outcome.embeddings[-60:])


def seen_by_the_method(run):
    """One step's gradient, what the method was given, and what it gave back."""
    seen, assign = [], run.assignment.assign
    run.assignment.assign = lambda views: seen.append((views, assign(views))) or seen[-1][1]
    outcome = compute_gradient(run, next(run.loader))
    return outcome, *seen[0]


@pytest.mark.parametrize("sides", ["one", "symmetric"])
def test_the_moving_averages_regions_are_assigned(scene_shards, sides):
    settings = config(
        assignment={"num_concepts": 8, "source": "ema", "freeze_concepts_steps": 0},
        losses={"swapped_prediction": {"sides": sides}},
        ema_decay=0.5,
        micro_batches=2,
    )
    run = begin(scene_shards["train"], settings)
    compute_gradient(run, next(run.loader))
    update(run, 0.5)
    run.step += 1
    outcome, views, assigned = seen_by_the_method(run)
    assert len(views.embeddings) == len(assigned) == (1 if sides == "one" else 2)
    average = run.average.model
    assert torch.equal(views.concepts, average.concepts) and not torch.equal(average.concepts, run.model.concepts)
    torch.testing.assert_close(views.scores, views.embeddings @ average.concepts.T)
    own = outcome.embeddings[: views.embeddings.shape[1]]
    assert (views.embeddings[0] - own).norm(dim=1).max() > 1e-3
    assert all(parameter.grad is None for parameter in average.parameters())


def test_the_average_follows_by_its_decay(scene_shards):
    run = begin(scene_shards["train"], config(ema_decay=0.9))
    before = [parameter.detach().clone() for parameter in run.model.dense.parameters()]
    compute_gradient(run, next(run.loader))
    update(run, 1.0)
    for start, now, mean in zip(
        before, run.model.dense.parameters(), run.average.model.dense.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, 0.9 * start + 0.1 * now)


def test_first_views_weights_of_regions_alone_give_the_same_embeddings(scene_shards):
    """With one-sided prediction the average sees view 1 only, by its part of the weights of all views."""
    settings = config(assignment={"num_concepts": 8, "source": "ema"}, ema_decay=0.9)
    run = begin(scene_shards["train"], settings)
    outcome, views, _ = seen_by_the_method(run)
    # group norms: a view's embeddings do not depend on the others in the batch
    torch.testing.assert_close(views.embeddings[0], outcome.embeddings, atol=1e-5, rtol=0)


def teacher_config(teacher, **changes):
    # its start holds for the statistics that it was fitted with
    model = {"decoder_channels": 64, "embedding_dim": 4, "start": "encoder", "freeze_batch_norm": True}
    fields = {"model": model, "teacher": str(teacher.address), "losses": {"distillation": {"weight": 1.0}}}
    return config(**{**fields, **changes})


@pytest.mark.parametrize("method", ["swav", "nearest"])
def test_the_teachers_regions_are_assigned_and_every_view_predicts_them(scene_shards, teacher, method):
    settings = teacher_config(teacher, assignment={"num_concepts": 8, "source": "teacher", "method": method})
    shards = Shards(scene_shards["train"])
    run = state.new_state(settings, shards, ONE)
    state.begin(run, shards)
    outcome, views, assigned = seen_by_the_method(run)
    torch.testing.assert_close(views.concepts, run.start.concepts)
    assert len(views.embeddings) == len(assigned) == 1
    batch = next(state.new_state(settings, shards, ONE).loader)
    expected = run.to_targets.apply(batch.teacher.flatten(0, 1)[outcome.usable.flatten()])
    torch.testing.assert_close(views.embeddings[0], expected)
    assert run.losses.keys() == {"distillation", "swapped_prediction"}
    assert torch.equal(outcome.concepts, assigned[0].argmax(1))
    if method == "nearest":
        assert torch.equal(outcome.concepts, (expected @ run.start.concepts.T).argmax(1))


def test_distillation_of_one_view_needs_no_assignments(scene_shards, teacher):
    views = {"num_views": 1, "size": 64, "regions": "slic:12"}
    losses = {"distillation": {"weight": 2.0}, "swapped_prediction": {"weight": 0.0}}
    settings = teacher_config(teacher, views=views, losses=losses, micro_batches=2)
    shards = Shards(scene_shards["train"])
    run = state.new_state(settings, shards, ONE)
    state.begin(run, shards)
    run.assignment.assign = None  # would fail
    outcome = compute_gradient(run, next(run.loader))
    torch.testing.assert_close(outcome.loss, 2 * outcome.terms["distillation"])
    assert 0.1 < outcome.terms["distillation"] < 0.8, outcome.terms  # 1 is unrelated
    assert run.model.concepts.grad is not None and not run.model.concepts.grad.any()
    assert run.model.dense.linear.weight.grad.norm() > 0


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


def test_bf16_on_the_cpu_gives_the_float32_gradient_but_for_rounding(scene_shards):
    """Assignments are k-means', whose labels do not hang on the last digit of a score as Sinkhorn's plan does."""
    outcomes, gradients, labels, weights = [], [], None, None
    for precision in ("fp32", "bf16"):
        settings = config(assignment={"method": "kmeans", "num_concepts": 8}, precision=precision)
        run = begin(scene_shards["train"], settings)
        if outcomes:
            run.assignment.load_state_dict(labels)
            run.model.load_state_dict(weights)
        outcomes.append(compute_gradient(run, next(run.loader)))
        labels, weights = run.assignment.state_dict(), run.model.state_dict()
        gradients.append([parameter.grad.flatten() for parameter in run.model.parameters()])
    torch.testing.assert_close(outcomes[0].loss, outcomes[1].loss, atol=0.02, rtol=0)
    cosines = [float(F.cosine_similarity(one, other, dim=0)) for one, other in zip(*gradients, strict=True)]
    lengths = [float(other.norm() / one.norm()) for one, other in zip(*gradients, strict=True)]
    assert min(cosines) > 0.9, sorted(cosines)[:5]
    assert min(lengths) > 0.8 and max(lengths) < 1.25, (min(lengths), max(lengths))


if __name__ == "__main__":
    process(int(sys.argv[3]), Path(sys.argv[1]), sys.argv[2])
