"""Learning rate by hand-computed points; what each group of parameters gets, and LARS's updates by hand."""

import itertools

import pytest
import torch
from tiny_run import tiny

from vice.pipeline.shards import Shards
from vice.train.config import OptimiserConfig, TrainConfig
from vice.train.config_files import load_config
from vice.train.distributed import Process
from vice.train.network.model import build_model
from vice.train.optimiser import build_optimiser, learning_rate, set_rate
from vice.train.state import new_state
from vice.train.step import compute_gradient, update

ONE = Process(0, 1, torch.device("cpu"))


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


def settings(encoder="regnetx_002", **optimiser):
    model = {"encoder": encoder, "decoder_channels": 64, "embedding_dim": 16}
    return tiny(model=model, optimiser=optimiser)


def built(config):
    """A model and its optimiser, and the group of every parameter by its name."""
    model = build_model(config)
    optimiser = build_optimiser(model, config)
    of = {id(parameter): group for group in optimiser.param_groups for parameter in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters()))
    return model, optimiser, {name: of[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["lars", "adamw"])
def test_every_group_gets_what_the_table_says(name):
    model, _, groups = built(settings(name=name, encoder_factor=0.1))
    decay = {"lars": 1e-6, "adamw": 0.01}[name]
    for parameter, group in groups.items():
        matrix = model.get_parameter(parameter).ndim > 1 and parameter != "concepts"
        assert group["weight_decay"] == (decay if matrix else 0), parameter
        assert group["rate_factor"] == (0.1 if parameter.startswith("dense.encoder.") else 1.0), parameter
        assert group["is_encoder"] == parameter.startswith("dense.encoder."), parameter
        if name == "lars":
            assert group["always_adapt"] == (matrix or parameter == "concepts"), parameter


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_lars_adapts_with_and_without_weight_decay_and_the_concepts_too(weight_decay):
    model, optimiser, _ = built(settings(name="lars", weight_decay=weight_decay))
    before, gradients = {}, {}
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        parameter.grad = 100 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        before[name], gradients[name] = parameter.detach().clone(), parameter.grad.clone()
    set_rate(optimiser, 0.3, freeze_encoder=False)
    optimiser.step()
    adapted = 0
    for name, parameter in model.named_parameters():
        decay = weight_decay if parameter.ndim > 1 and name != "concepts" else 0.0
        direction, expected = gradients[name] + decay * before[name], 0.3
        if parameter.ndim > 1 and before[name].norm() > 0:
            # You et al. 2017: 0.001 |w| / (|g| + decay |w|)
            ratio = before[name].norm() / (gradients[name].norm() + decay * before[name].norm())
            expected, adapted = 0.3 * 1e-3 * ratio, adapted + 1
        # differences of weights near 1 have no more digits
        torch.testing.assert_close(before[name] - parameter.detach(), expected * direction, atol=1e-6, rtol=2e-3)
    assert adapted > 20 and before["concepts"].norm() > 0
    turned = torch.nn.functional.cosine_similarity(before["concepts"], model.concepts.detach()).min().acos().rad2deg()
    assert turned < 0.1  # degrees; without the ratio the same step turns them by tens


def test_adamw_is_fused():
    _, optimiser, _ = built(settings(name="adamw"))
    assert isinstance(optimiser, torch.optim.AdamW) and all(group["fused"] for group in optimiser.param_groups)


def test_the_default_rate_is_the_optimisers_own():
    assert settings(name="adamw").peak_learning_rate == 0.001 and settings(name="adamw").weight_decay == 0.01
    assert settings(name="lars").peak_learning_rate == pytest.approx(0.04 * 2 / 16)
    assert settings(name="lars").weight_decay == 1e-6 and settings(name="lars", weight_decay=0).weight_decay == 0


@pytest.mark.parametrize(
    ("overrides", "rate", "decay"),
    [
        (["optimiser.name=adamw"], 1e-3, 0.01),
        (["optimiser.name=adamw", "optimiser.learning_rate=0.002"], 0.002, 0.01),
        (["optimiser.learning_rate=0.002", "optimiser.name=adamw", "optimiser.weight_decay=0.1"], 0.002, 0.1),
        (["optimiser.name=lars"], 0.16 * 8, 1e-5),
        ([], 0.16 * 8, 1e-5),
    ],
)
@pytest.mark.parametrize("named", ["", "name: lars, "])
def test_another_optimiser_inherits_neither_rate_nor_weight_decay(named, overrides, rate, decay, tmp_path):
    page = tmp_path / "mine.yaml"
    page.write_text(f"name: mine\noptimiser: {{{named}learning_rate: 0.16, weight_decay: 1.0e-5, warmup: 0.3}}\n")
    config = load_config(str(page), overrides)
    assert config.peak_learning_rate == pytest.approx(rate) and config.weight_decay == decay
    assert config.optimiser.warmup == 0.3


def test_the_papers_preset_with_adamw():
    assert load_config("cityscapes-low", ["optimiser.name=adamw"]).peak_learning_rate == 1e-3
    chosen = load_config("cityscapes-low", ["optimiser.name=adamw", "optimiser.learning_rate=5e-4"])
    assert chosen.peak_learning_rate == 5e-4
    assert load_config("cityscapes-low", ["optimiser.name=lars"]) == load_config("cityscapes-low")


def test_a_transformers_position_embedding_is_not_decayed():
    model, _, groups = built(settings("vit_tiny_patch16_224", name="adamw"))
    (position,) = (name for name in groups if name.endswith("pos_embed"))
    assert model.get_parameter(position).ndim > 1 and groups[position]["weight_decay"] == 0
    assert any(group["weight_decay"] > 0 for name, group in groups.items() if "blocks" in name)


def test_a_relative_position_table_inside_blocks_is_not_decayed():
    """Swin's are in every block, under names that timm's wrapper of feature maps changes."""
    _, _, groups = built(settings("swin_tiny_patch4_window7_224", name="adamw"))
    tables = [group for name, group in groups.items() if name.endswith("relative_position_bias_table")]
    assert len(tables) == 12 and all(group["weight_decay"] == 0 for group in tables)


def test_the_encoder_stays_while_it_is_frozen_and_then_moves_by_its_factor():
    model, optimiser, groups = built(settings(name="lars", encoder_factor=0.5))
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for freeze in (True, False):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        set_rate(optimiser, 0.2, freeze_encoder=freeze)
        optimiser.step()
        moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, start[name])}
        of_encoder = {name for name in moved if name.startswith("dense.encoder.")}
        assert moved - of_encoder and bool(of_encoder) != freeze
    bias = next(name for name, group in groups.items() if group["is_encoder"] and not group["always_adapt"])
    torch.testing.assert_close(start[bias] - model.get_parameter(bias).detach(), torch.full_like(start[bias], 0.1))


def test_a_runs_encoder_is_frozen_for_its_first_steps(scene_shards):
    frozen = {"name": "adamw", "learning_rate": 1e-3, "freeze_encoder_steps": 2}
    run = new_state(tiny(optimiser=frozen, reader="plain"), Shards(scene_shards["train"]), ONE)
    weights = list(run.model.dense.encoder.parameters())
    start, moved = [weight.detach().clone() for weight in weights], []
    for _ in range(3):
        compute_gradient(run, next(run.loader))
        update(run, 1e-3)
        run.step += 1
        moved.append(not all(map(torch.equal, weights, start)))
    assert moved == [False, False, True]
