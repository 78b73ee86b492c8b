"""Frozen first maps: what they depend on stays as it came, the rest is trained, and nothing left is refused."""

import pytest
import torch
from tiny_run import tiny

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.distributed import Process
from vice.train.network.model import build_model
from vice.train.optimiser import build_optimiser
from vice.train.state import new_state
from vice.train.step import compute_gradient, update


def config(levels, encoder="regnetx_002", **changes):
    model = {"encoder": encoder, "decoder_channels": 64, "embedding_dim": 16, "frozen_levels": levels}
    return tiny(model=model, reader="plain", **changes)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_first_maps_stay_and_the_next_one_moves(scene_shards, levels):
    one = Process(0, 1, torch.device("cpu"))
    run = new_state(config(levels, ema_decay=0.5), Shards(scene_shards["train"]), one)
    encoder, images = run.model.dense.encoder, torch.randn(1, 3, 64, 64)
    statistics = {name: value.clone() for name, value in encoder.named_buffers()}
    with torch.no_grad():
        before = encoder.eval()(images)
    encoder.train()
    compute_gradient(run, next(run.loader))
    update(run, 1e-2)
    for name, value in encoder.named_buffers():
        value.copy_(statistics[name])
    with torch.no_grad():
        after = encoder.eval()(images)
    same = [torch.equal(first, second) for first, second in zip(before, after, strict=True)]
    assert same == [number < levels for number in range(4)]


def test_frozen_weights_are_in_no_group_and_no_gradient_is_left_behind():
    model = build_model(config(2))
    grouped = {id(weight) for group in build_optimiser(model, config(2)).param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert (id(weight) in grouped) == weight.requires_grad and weight.grad is None, name
    assert not all(weight.requires_grad for weight in model.parameters())


def test_zero_freezes_nothing():
    assert all(weight.requires_grad for weight in build_model(config(0)).parameters())


def test_an_encoder_of_which_nothing_is_left_to_train_is_refused():
    """DeepLabV3+ reads two maps only."""
    settings = config(2)
    model = settings.model.model_copy(update={"decoder": "deeplabv3plus"})
    with pytest.raises(InputError, match=r"2 frozen maps leave nothing to train: model.frozen_levels; lower it"):
        build_model(settings.model_copy(update={"model": model}))
