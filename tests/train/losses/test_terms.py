"""Loss terms: which views predict what, distillation by hand, and the registry's refusals."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_run import tiny

from vice.data_specs.errors import InputError
from vice.train.losses.cross_entropy import one_sided, symmetric
from vice.train.losses.term import LOSSES, RegionBatch

SHARE = torch.tensor([0.25, 0.25, 0.5])


def rows(views, columns, seed=0):
    return F.normalize(torch.randn(views, 3, columns, generator=torch.Generator().manual_seed(seed)), dim=-1)


def regions(assigned=None, *, for_all=False, teacher=None, views=2):
    return RegionBatch(rows(views, 4), rows(views, 5, 1).requires_grad_(), SHARE, assigned, for_all, teacher)


def term(name, **settings):
    return LOSSES[name](LOSSES[name].Settings(**settings))


def test_swapped_prediction_one_sided_and_symmetric():
    assigned = rows(2, 5, 2).softmax(-1)
    batch = regions(assigned)
    logits = batch.scores / 0.2
    one = term("swapped_prediction", temperature=0.2)
    both = term("swapped_prediction", temperature=0.2, sides="symmetric")
    torch.testing.assert_close(one(batch), one_sided(logits[1:], assigned[0], SHARE))
    torch.testing.assert_close(both(batch), symmetric(logits, assigned, SHARE))
    assert not torch.isclose(one(batch), both(batch))


@pytest.mark.parametrize("sides", ["one", "symmetric"])
@pytest.mark.parametrize("views", [1, 2])
def test_assignments_that_belong_to_no_view_are_predicted_by_every_view(sides, views):
    assigned = rows(1, 5, 2).softmax(-1)
    batch = regions(assigned, for_all=True, views=views)
    expected = one_sided(batch.scores / 0.1, assigned[0], SHARE)
    torch.testing.assert_close(term("swapped_prediction", sides=sides)(batch), expected)


def test_symmetric_with_view_1s_assignment_alone_lets_only_the_others_predict():
    assigned = rows(1, 5, 2).softmax(-1)
    batch = regions(assigned)
    expected = one_sided(batch.scores[1:] / 0.1, assigned[0], SHARE)
    torch.testing.assert_close(term("swapped_prediction", sides="symmetric")(batch), expected)


def test_distillation_by_hand():
    angles = torch.tensor([[0.0, 60.0, 90.0], [180.0, 60.0, 0.0]]).deg2rad()
    embeddings = torch.stack([angles.cos(), angles.sin()], -1).requires_grad_()
    teacher = torch.tensor([[1.0, 0.0]] * 3)
    batch = RegionBatch(embeddings, rows(2, 5), SHARE, None, False, teacher)
    loss = term("distillation")(batch)
    # 1 - cosine: 0 and 2, 1/2 and 1/2, 1 and 0, by view
    assert loss.item() == pytest.approx(0.25 * (0 + 2) / 2 + 0.25 * 0.5 + 0.5 * (1 + 0) / 2, abs=1e-6)
    loss.backward()
    torch.testing.assert_close(embeddings.grad, (-teacher * SHARE[:, None] / 2).expand(2, 3, 2))


def test_no_region_at_all_costs_nothing():
    embeddings = torch.zeros(2, 0, 4, requires_grad=True)
    batch = RegionBatch(embeddings, torch.zeros(2, 0, 5), torch.zeros(0), None, False, torch.zeros(0, 4))
    loss = term("distillation")(batch)
    loss.backward()
    assert loss.item() == 0 and embeddings.grad.shape == (2, 0, 4)


def test_guessing_costs_ln_k():
    batch = regions(rows(1, 5, 2).softmax(-1))._replace(scores=torch.zeros(2, 3, 5))
    assert term("swapped_prediction")(batch).item() == pytest.approx(math.log(5))


def test_an_unknown_term_is_one_line_with_the_choices():
    with pytest.raises(InputError, match=r"no loss term is called 'contrast'; choose from distillation, swapped_pre"):
        LOSSES["contrast"]
    with pytest.raises(InputError, match=r"losses.contrast.*choices: distillation, swapped_prediction"):
        tiny_overrides("losses.contrast.weight=1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "losses.swapped_prediction.weight=0",
            r"'losses': every weight is 0; raise one of distillation, swapped",
        ),
        ("losses.distillation.weight=-1", r"'losses.distillation.weight': .*greater than or equal to 0"),
    ],
)
def test_weights_that_cannot_work_are_one_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        tiny_overrides(override)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["losses.distillation.weight=1"], r"no teacher to learn from: losses.distillation.weight; .*teacher=VECTORS"),
        (["losses.distillation.weight=1", "teacher=x"], r"distillation cannot start at random: model.start; set it to"),
        (["views.num_views=1"], r"swapped prediction needs two views: views.num_views=1; raise it to 2"),
    ],
)
def test_terms_that_lack_what_they_need_are_one_line(overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        tiny_overrides(*overrides).check_terms()
    assert "\n" not in caught.value.line()


def test_the_other_terms_need_no_second_view_or_teacher():
    one_view = {"num_views": 1, "size": 64, "regions": "slic:12"}
    only_distillation = {"distillation": {"weight": 1.0}, "swapped_prediction": {"weight": 0.0}}
    start = {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 16, "start": "encoder"}
    config = tiny(views=one_view, losses=only_distillation, teacher="vectors", model=start)
    config.check_terms()
    assert not config.assigns
    tiny(losses={"distillation": {"weight": 0.0}}).check_terms()


def tiny_overrides(*overrides):
    from vice.train.config_files import load_config

    return load_config("cityscapes-low", overrides)
