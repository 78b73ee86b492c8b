"""Learning rate by hand-computed points; groups without decay."""

import itertools

import pytest

from vice.train.config import OptimiserConfig, TrainConfig
from vice.train.network.model import build_model
from vice.train.optimiser import build_optimiser, learning_rate


def test_rate_rises_linearly_then_falls_as_a_cosine():
    config = OptimiserConfig(warmup=0.1, final=0.1)
    rates = [learning_rate(step, 100, peak=2.0, config=config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0) and rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert min(rates[10:]) == rates[-1] > 0.2
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_lars_scales_with_the_batch_and_adamw_does_not():
    lars = TrainConfig(name="x", global_batch=128, optimiser={"name": "lars", "learning_rate": 0.04})
    adamw = TrainConfig(name="x", global_batch=128, optimiser={"name": "adamw", "learning_rate": 0.001})
    # the paper: 0.04 for 16 pictures, so 0.32 for 128
    assert lars.peak_learning_rate == pytest.approx(0.32)
    assert adamw.peak_learning_rate == pytest.approx(0.001)


def test_biases_norms_and_concepts_are_not_decayed():
    model = build_model(TrainConfig(name="x", model={"decoder_channels": 64}))
    decayed, plain = build_optimiser(model, TrainConfig(name="x")).param_groups
    assert decayed["weight_decay"] == 1e-6 and plain["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert any(parameter is model.concepts for parameter in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))
