import numpy as np
import pytest
import torch
from torch import nn

from vice.evaluate.counters import raw_draws
from vice.evaluate.evaluators.held_out import held_out
from vice.evaluate.evaluators.sgd import fit_by_sgd
from vice.evaluate.options import SgdSettings

SETTINGS = SgdSettings(learning_rates=(0.01, 1.0), iterations=60, batch_size=32)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.Generator(np.random.Philox(key=8))
    labels = draws.integers(0, 3, 400).astype(np.uint16)
    vectors = np.eye(6, dtype=np.float32)[labels] + 0.4 * draws.standard_normal((400, 6)).astype(np.float32)
    return vectors, labels, np.repeat(np.arange(20, dtype=np.int32), 20)


@pytest.mark.parametrize("rate", SETTINGS.learning_rates)
def test_a_probe_is_what_torch_s_own_sgd_gives(data, rate):
    vectors, labels, pictures = data
    fits = fit_by_sgd(vectors, labels, pictures, num_classes=3, settings=SETTINGS, seed=4)
    kept = ~held_out(pictures)
    x, y = torch.from_numpy(vectors[kept]), torch.from_numpy(labels[kept].astype(np.int64))
    layer = nn.Linear(6, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimiser, SETTINGS.iterations, power=0.9)
    for iteration in range(SETTINGS.iterations):
        batch = (raw_draws(4, "batches", iteration, SETTINGS.batch_size) % np.uint64(len(x))).astype(np.int64)
        optimiser.zero_grad()
        nn.functional.cross_entropy(layer(x[batch]), y[batch]).backward()
        optimiser.step()
        schedule.step()
    assert kept.sum() == 360
    head = fits[f"lr-{rate:g}"].head
    np.testing.assert_allclose(head.weight, layer.weight.detach().numpy(), atol=2e-5)
    np.testing.assert_allclose(head.bias, layer.bias.detach().numpy(), atol=2e-5)


def test_the_best_rate_is_the_one_that_held_out_pictures_like(data):
    vectors, *labelled = data
    # off the origin one small step is not enough: the smallest rate must lose by much more than by a pixel or two
    off_origin = vectors + np.float32(1)
    settings = SETTINGS._replace(learning_rates=(1e-7, 1.0))
    fits = fit_by_sgd(off_origin, *labelled, num_classes=3, settings=settings, seed=0)
    assert list(fits) == ["", "lr-1e-07", "lr-1"]
    assert fits[""].told["learning_rate"] == 1.0
    assert fits["lr-1"].told["miou_on_held_out_pixels"] > fits["lr-1e-07"].told["miou_on_held_out_pixels"]


def test_one_rate_needs_no_held_out_pictures(data):
    fits = fit_by_sgd(*data, num_classes=3, settings=SETTINGS._replace(learning_rates=(0.1,)), seed=0)
    assert list(fits) == [""]
    assert "miou_on_held_out_pixels" not in fits[""].told


def test_repeating_gives_equal_bits_and_another_seed_others(data):
    first, again, other = (
        fit_by_sgd(*data, num_classes=3, settings=SETTINGS, seed=seed)["lr-1"].head.weight for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
