"""Cross-entropies against loops over pictures, regions and pairs of views in float64, value and gradient."""

import pytest
import torch

from vice.train.losses.cross_entropy import one_sided, symmetric

PICTURES, REGIONS, CONCEPTS = 4, 6, 5


def usable_regions():
    usable = torch.rand(PICTURES, REGIONS, generator=torch.Generator().manual_seed(1)) < 0.6
    usable[2] = False  # a picture without regions
    return usable


def inputs(views=3):
    """Logits and assignments of every region of every picture in every view, and which of them count."""
    generator = torch.Generator().manual_seed(0)
    shape = (views, PICTURES, REGIONS, CONCEPTS)
    logits = (20 * torch.rand(shape, generator=generator, dtype=torch.float64) - 10).requires_grad_()
    assigned = (3 * torch.randn(shape, generator=generator, dtype=torch.float64)).softmax(-1)
    return logits, assigned, usable_regions()


def shares(usable):
    """Weights of the usable regions: mean over a picture's regions, then over the pictures that have any."""
    picture, _ = usable.nonzero(as_tuple=True)
    return 1 / (usable.sum(1)[picture] * usable.any(1).sum()).double()


def plain_loop(logits, assigned, usable, pairs):
    """Eq. 3 as it is written, for pairs of (view that predicts, view whose assignment it predicts)."""
    pictures = [n for n in range(len(usable)) if usable[n].any()]
    total = 0
    for n in pictures:
        regions = [i for i in range(usable.shape[1]) if usable[n, i]]
        for predicting, other in pairs:
            for i in regions:
                prediction = torch.log(torch.softmax(logits[predicting, n, i], 0))
                total = total + (assigned[other, n, i] * prediction).sum() / len(regions)
    return -total / (len(pictures) * len(pairs))


def of_one(logits, assigned, usable):
    return one_sided(logits[1:, usable], assigned[0, usable], shares(usable))


def of_both(logits, assigned, usable):
    return symmetric(logits[:, usable], assigned[:, usable], shares(usable))


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("loss", [of_one, of_both])
def test_value_and_gradient_equal_the_loop(loss, views):
    logits, assigned, usable = inputs(views)
    pairs = [(m, 0) for m in range(1, views)]
    if loss is of_both:
        pairs = [(m, other) for m in range(views) for other in range(views) if m != other]
    expected = plain_loop(logits, assigned, usable, pairs)
    found = loss(logits, assigned, usable)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert (gradients[0][:, 2] == 0).all() and (gradients[0][0] == 0).all() == (loss is of_one)


def test_one_assignment_for_every_view_is_predicted_by_all_given():
    logits, assigned, usable = inputs()
    found = one_sided(logits[:, usable], assigned[0, usable], shares(usable))
    torch.testing.assert_close(found, plain_loop(logits, assigned, usable, [(0, 0), (1, 0), (2, 0)]))


@pytest.mark.parametrize("loss", [of_one, of_both])
def test_no_usable_region_at_all_gives_zero_with_a_gradient(loss):
    logits, assigned, usable = inputs()
    value = loss(logits, assigned, torch.zeros_like(usable))
    value.backward()
    assert value.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("loss", [of_one, of_both])
def test_uniform_predictions_cost_ln_k(loss):
    logits, assigned, usable = inputs()
    value = loss(torch.zeros_like(logits), assigned, usable)
    torch.testing.assert_close(value, torch.log(torch.tensor(5.0, dtype=torch.float64)))


def test_parts_of_a_batch_add_up_to_its_loss():
    logits, assigned, usable = inputs()
    rows, share = usable.nonzero(as_tuple=True)[0], shares(usable)
    whole = symmetric(logits[:, usable], assigned[:, usable], share)
    parts = [
        symmetric(logits[:, usable][:, part], assigned[:, usable][:, part], share[part])
        for part in (rows == 0, rows > 0)
    ]
    torch.testing.assert_close(sum(parts), whole)
