import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.evaluate.evaluators import softmax_regression
from vice.evaluate.evaluators.heads import predict
from vice.evaluate.evaluators.softmax_regression import fit_linear
from vice.evaluate.options import ProbeSettings


def gaussians(num_classes: int, spread: float, *, per_class: int = 200, depth: int = 5):
    draws = np.random.Generator(np.random.Philox(key=11))
    centres = draws.standard_normal((num_classes, depth)) * 4
    labels = np.repeat(np.arange(num_classes), per_class)
    vectors = centres[labels] + spread * draws.standard_normal((len(labels), depth))
    return vectors.astype(np.float32), labels.astype(np.uint16)


def test_separable_data_are_recovered_without_a_mistake():
    vectors, labels = gaussians(4, spread=0.3)
    fit = fit_linear(vectors, labels, num_classes=4, l2=1e-5)
    assert fit.told["converged"]
    np.testing.assert_array_equal(fit.head.assign(vectors), labels)


def test_the_fit_is_a_minimum_of_the_stated_loss():
    vectors, labels = gaussians(3, spread=6.0)
    settings, l2 = ProbeSettings(loss_tolerance=1e-9), 1e-2
    fit = fit_linear(vectors, labels, num_classes=3, l2=l2, settings=settings)
    mean, std = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64)
    standard = torch.from_numpy((vectors - mean) / std)
    weight = torch.from_numpy(fit.head.weight * std).double().requires_grad_()
    bias = torch.from_numpy(fit.head.bias + fit.head.weight @ mean).double().requires_grad_()
    loss = F.cross_entropy(standard @ weight.T + bias, torch.from_numpy(labels.astype(np.int64)))
    loss = loss + l2 / 2 * weight.square().sum()
    loss.backward()
    assert fit.told["loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert weight.grad.abs().max() < 1e-4
    assert bias.grad.abs().max() < 1e-4


def test_scale_and_shift_of_the_embedding_do_not_matter():
    vectors, labels = gaussians(3, spread=4.0)
    plain = fit_linear(vectors, labels, num_classes=3, l2=1e-5)
    moved = fit_linear(vectors * np.float32(256) + np.float32(64), labels, num_classes=3, l2=1e-5)
    assert moved.told["loss"] == pytest.approx(plain.told["loss"], rel=1e-3)
    assert (moved.head.assign(vectors * np.float32(256) + np.float32(64)) == plain.head.assign(vectors)).mean() > 0.99


def test_repeating_gives_equal_bits():
    vectors, labels = gaussians(3, spread=4.0)
    first, second = (fit_linear(vectors, labels, num_classes=3, l2=1e-5) for _ in range(2))
    np.testing.assert_array_equal(first.head.weight, second.head.weight)
    np.testing.assert_array_equal(first.head.bias, second.head.bias)


def test_parts_give_what_the_whole_gives(monkeypatch):
    vectors, labels = gaussians(3, spread=4.0)
    whole = fit_linear(vectors, labels, num_classes=3, l2=1e-5)
    monkeypatch.setattr(softmax_regression, "VECTORS_AT_ONCE", 64)
    parts = fit_linear(vectors, labels, num_classes=3, l2=1e-5)
    assert parts.told["loss"] == pytest.approx(whole.told["loss"], rel=1e-4)


def test_a_class_without_vectors_is_never_predicted_not_even_on_an_upsampled_map():
    vectors, labels = gaussians(2, spread=3.0)
    fit = fit_linear(vectors, labels * 2, num_classes=3, l2=1e-5)
    embedding = np.random.Generator(np.random.Philox(key=1)).standard_normal((5, 6, 6), np.float32) * 100
    assert set(np.unique(predict(fit.head, embedding, stride=4, picture_size=(24, 24), size=(24, 24)))) == {0, 2}


def test_a_constant_dimension_does_no_harm():
    vectors, labels = gaussians(3, spread=0.3)
    vectors[:, 2] = 7.0
    fit = fit_linear(vectors, labels, num_classes=3, l2=1e-5)
    assert np.isfinite(fit.head.weight).all()
    np.testing.assert_array_equal(fit.head.assign(vectors), labels)
