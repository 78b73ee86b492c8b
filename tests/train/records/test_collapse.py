"""Collapse: each sign by lines made up for it, and real collapses of a tiny network next to a healthy run."""

import json

import pytest
import torch
from tiny_run import tiny

from vice.pipeline.shards import Shards
from vice.train.config import TrainConfig
from vice.train.distributed import Process
from vice.train.loop import train
from vice.train.records.collapse import CollapseWatch, warm_up_steps

HEALTHY = {
    "loss": 4.4,
    "loss/swapped_prediction": 4.4,
    "ln_k": 4.852,
    "concepts_used": 90.0,
    "embedding_spread": 0.9,
    "effective_rank": 30.0,
    "regions_per_picture": 40.0,
    "pictures_without_regions": 0.0,
}


def settings(**changes):
    fields = {"name": "watched", "assignment": {"freeze_concepts_steps": 100}, "global_batch": 4, "epochs": 1}
    return TrainConfig(**{**fields, **changes})


def said(config, changes, *, last=1000, every=10, num_steps=1000):
    """Step and words of the warnings of a run whose every line shows the same."""
    watch = CollapseWatch(config, num_steps)
    steps = range(every, last + 1, every)
    return [(step, words) for step in steps for words in watch.see(step, {**HEALTHY, **changes})]


def test_a_healthy_run_gives_no_warning():
    assert said(settings(), {}) == []


@pytest.mark.parametrize(
    ("changes", "step", "words"),
    [
        ({"embedding_spread": 0.003}, 120, "alike (spread 0.003; 0 is collapse): lower optimiser.learning_rate"),
        ({"concepts_used": 3.2}, 120, "only about 3.2 of 128 concepts are predicted: lower optimiser.learning_rate"),
        ({"effective_rank": 1.0}, 120, "the embeddings fill only 1.0 of 128 dimensions: lower optimiser.learning_rate"),
        ({"effective_rank": 3.5}, 120, "the embeddings fill only 3.5 of 128 dimensions"),
        ({"loss/swapped_prediction": 4.83}, 220, "no better than guessing (ln K = 4.852, 100% of it)"),
        ({"loss/swapped_prediction": 9.0}, 220, "no better than guessing (ln K = 4.852, 185% of it)"),
        ({"pictures_without_regions": 0.7}, 30, "70% of the pictures have no region that counts"),
    ],
)
def test_every_sign_is_said_once_after_three_lines_beyond_its_first_step(changes, step, words):
    ((when, text),) = said(settings(), changes)
    assert when == step and words in text


def test_one_odd_line_says_nothing_and_many_steps_are_needed_where_every_one_is_logged():
    watch = CollapseWatch(settings(), 1000)
    odd = [watch.see(step, {**HEALTHY, "embedding_spread": 0.0 if step % 30 else 0.5}) for step in range(10, 1001, 10)]
    assert not any(odd)
    ((step, _),) = said(settings(), {"embedding_spread": 0.003}, every=1)
    assert step == 120


def test_few_regions_cannot_use_many_concepts():
    few = {"regions_per_picture": 2.0, "concepts_used": 7.0}
    assert said(settings(), few, every=1) == []  # 7 of 8 regions' concepts
    assert "only about 1.2 of 128" in said(settings(), {**few, "concepts_used": 1.2}, every=10)[0][1]
    assert "only about 3.0 of 128" in said(settings(), {"concepts_used": 3.0})[0][1]
    assert said(settings(assignment={"num_concepts": 8}), {"concepts_used": 3.0}) == []
    assert said(settings(assignment={"num_concepts": 8}), {"concepts_used": 1.2}) != []


def test_nothing_is_said_of_embeddings_while_no_picture_has_regions():
    nothing = {"pictures_without_regions": 1.0, "embedding_spread": None, "effective_rank": None}
    nothing |= {"loss/swapped_prediction": 0.0, "concepts_used": 1.0}
    ((_, text),) = said(settings(), {**nothing, "regions_per_picture": 0.0})
    assert "100% of the pictures" in text


def test_warm_up_ends_with_the_last_of_its_reasons():
    assert warm_up_steps(settings(), 1000) == 100
    assert warm_up_steps(settings(assignment={"freeze_concepts_steps": 0}), 1000) == 50
    assert warm_up_steps(settings(), 10_000) == 200  # 2 % of the steps
    assert warm_up_steps(settings(assignment={"method": "kmeans"}), 1000) == 50


def test_only_settings_that_can_help_are_named():
    signs = {"embedding_spread": 0.0, "effective_rank": 0.0, "concepts_used": 1.0}
    signs |= {"loss/swapped_prediction": 5.0, "pictures_without_regions": 0.9}
    offline = settings(assignment={"method": "kmeans"}, model={"centre": True}, views={"mask_share": 0.0})
    offline_words = " ".join(text for _, text in said(offline, signs))
    online_words = " ".join(text for _, text in said(settings(), signs))
    only_online = [
        "freeze_concepts_steps",
        "swav.epsilon",
        "swav.queue_length",
        "swav.iterations",
        "centre",
        "mask_share",
    ]
    for name in only_online:
        assert name in online_words and name not in offline_words, name
    for name in ("kmeans.restarts", "num_concepts"):
        assert name in offline_words and name not in online_words, name


def test_every_named_setting_exists():
    """Signs of both methods together name dotted paths of the configuration."""
    signs = {"embedding_spread": 0.0, "effective_rank": 0.0, "concepts_used": 1.0}
    signs |= {"loss/swapped_prediction": 5.0, "pictures_without_regions": 0.9}
    fields = settings().model_dump()
    for method in ("swav", "kmeans"):
        config = settings(assignment={"method": method}, views={"min_region_pixels": 4})
        words = " ".join(text for _, text in said(config, signs)).replace("(", " ").replace(")", " ")
        candidates = [word.strip(",:;").partition("=")[0] for word in words.split() if "." in word]
        paths = [word for word in candidates if word.partition(".")[0] in fields]
        assert len(paths) > 6
        for path in paths:
            section = fields
            for name in path.split("."):
                assert name in section, path
                section = section[name]


def warnings_of_run(shards, folder, **changes):
    """Warnings in the metrics of a real run of 80 steps."""
    quiet = {"epochs": 16, "checkpoint_every": 1000, "log_every": 10, "pictures_every": 0}
    train(tiny(**quiet, **changes), Shards(shards), folder, Process(0, 1, torch.device("cpu")))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 80
    return [line["warning"] for line in lines if "warning" in line]


def test_a_healthy_short_run_is_left_alone(scene_shards, tmp_path):
    assert warnings_of_run(scene_shards["train"], tmp_path) == []


def test_an_absurd_learning_rate_is_named(scene_shards, tmp_path):
    found = warnings_of_run(scene_shards["train"], tmp_path, optimiser={"name": "adamw", "learning_rate": 100.0})
    assert "lower optimiser.learning_rate (now 100 at its peak)" in " ".join(found)


def test_assignments_without_any_choice_leave_the_loss_at_ln_k(scene_shards, tmp_path):
    even = {"num_concepts": 8, "swav": {"queue_length": 40, "epsilon": 100.0}, "freeze_concepts_steps": 1}
    (found,) = warnings_of_run(scene_shards["train"], tmp_path, assignment=even)
    assert "no better than guessing (ln K = 2.079" in found and "lower assignment.swav.epsilon (now 100)" in found
