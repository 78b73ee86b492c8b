"""The loss against a loop over Eq. 3 in float64, value and gradient."""

import torch

from vice.train.loss import swapped_prediction_loss


def inputs(m=3, n=4, r=6, k=5):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(m, n, r, k, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
    assignments = torch.rand(n, r, k, generator=generator, dtype=torch.float64).softmax(-1)
    usable = torch.rand(n, r, generator=generator) < 0.6
    usable[2] = False  # a picture without regions
    return scores, assignments, usable


def plain_loop(scores, assignments, usable, temperature):
    """Eq. 3 as it is written; pictures without a region are not counted."""
    pictures = [n for n in range(len(usable)) if usable[n].any()]
    total = 0
    for n in pictures:
        for m in range(1, len(scores)):
            regions = [i for i in range(usable.shape[1]) if usable[n, i]]
            inner = sum(
                (assignments[n, i] * torch.log(torch.softmax(scores[m, n, i] / temperature, 0))).sum() for i in regions
            )
            total = total + inner / len(regions)
    return -total / (len(pictures) * (len(scores) - 1))


def test_value_and_gradient_equal_the_loop():
    scores, assignments, usable = inputs()
    (expected,) = torch.autograd.grad(plain_loop(scores, assignments, usable, 0.1), scores)
    loss = swapped_prediction_loss(scores, assignments[usable], usable, temperature=0.1, num_pictures=3)
    (got,) = torch.autograd.grad(loss, scores)
    torch.testing.assert_close(loss, plain_loop(scores, assignments, usable, 0.1))
    torch.testing.assert_close(got, expected)
    assert (got[0] == 0).all() and (got[:, 2] == 0).all()


def test_no_usable_region_at_all_gives_zero_with_a_gradient():
    scores, assignments, usable = inputs()
    none = torch.zeros_like(usable)
    loss = swapped_prediction_loss(scores, assignments[none], none, temperature=0.1, num_pictures=0)
    loss.backward()
    assert loss.item() == 0 and (scores.grad == 0).all()


def test_uniform_predictions_cost_ln_k():
    _, assignments, usable = inputs()
    scores = torch.zeros(2, 4, 6, 5)
    loss = swapped_prediction_loss(scores, assignments[usable].float(), usable, temperature=0.1, num_pictures=3)
    torch.testing.assert_close(loss, torch.log(torch.tensor(5.0)))


def test_parts_of_a_batch_add_up_to_its_loss():
    scores, assignments, usable = inputs()
    whole, *parts = (
        swapped_prediction_loss(scores[:, n], assignments[n][usable[n]], usable[n], temperature=0.1, num_pictures=3)
        for n in (slice(0, 4), slice(0, 1), slice(1, 4))
    )
    torch.testing.assert_close(sum(parts), whole)
