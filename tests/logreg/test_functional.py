"""The formulas, against paper, against autograd, against torch and scikit-learn, and against their own identities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from logreg.functional import (
    EPSILON,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    class_weights,
    cross_entropy,
    l2_penalty,
    log_softmax,
    sigmoid,
)

FORMS = {
    "proba": lambda logits, target, *weight: binary_cross_entropy(sigmoid(logits), target, *weight, eps=0.0),
    "logits": binary_cross_entropy_with_logits,
}
each_form = pytest.mark.parametrize("loss", FORMS.values(), ids=FORMS)


def problem(num_classes, num_rows=7, num_features=3, scale=1.0):
    """Seeded x (N, D), weight (D, K), bias (K,) and target (N,), in float64."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(num_rows, num_features, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(num_features, num_classes, generator=generator, dtype=torch.float64)
    bias = torch.randn(num_classes, generator=generator, dtype=torch.float64)
    return x, weight, bias, torch.randint(num_classes, (num_rows,), generator=generator)


# By hand


@each_form
def test_three_rows_worked_by_hand(loss):
    """One feature, w = 2, b = -1, three rows.

    x      = 0.5   1     0
    z      = 2·0.5-1 = 0    2·1-1 = 1    2·0-1 = -1
    y      = 1              1            0
    p      = 1/2            1/(1+1/e) = e/(1+e)             1/(1+e)
    -log   = log 2          log(1+e) - 1                    -log(1 - 1/(1+e)) = -log(e/(1+e)) = log(1+e) - 1
    loss   = (log 2 + 2·(log(1+e) - 1)) / 3 = (0.693147 + 2·0.313262) / 3 = 0.439890
    """
    x, y = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64), torch.tensor([1, 1, 0])
    logits = 2 * x - 1
    assert logits.tolist() == [0.0, 1.0, -1.0]
    expected = (math.log(2) + 2 * (math.log(1 + math.e) - 1)) / 3
    assert expected == pytest.approx(0.439890, abs=1e-6)
    assert float(loss(logits, y)) == pytest.approx(expected, abs=1e-12)


def test_gradient_of_the_three_rows_worked_by_hand():
    """dL/dz = (p - y)/N, so dL/dw = Σ x·(p - y)/N and dL/db = Σ (p - y)/N.

    p - y = 1/2 - 1 = -1/2      e/(1+e) - 1 = -1/(1+e)      1/(1+e)
    dL/db = (-1/2 - 1/(1+e) + 1/(1+e)) / 3 = -1/6
    dL/dw = (0.5·(-1/2) + 1·(-1/(1+e)) + 0) / 3 = -(1/4 + 0.268941) / 3 = -0.172980
    """
    x, y = torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64), torch.tensor([1, 1, 0])
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    b = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    binary_cross_entropy_with_logits(w * x + b, y).backward()
    assert float(b.grad) == pytest.approx(-1 / 6, abs=1e-12)
    assert float(w.grad) == pytest.approx(-(1 / 4 + 1 / (1 + math.e)) / 3, abs=1e-12)
    assert float(w.grad) == pytest.approx(-0.172980, abs=1e-6)


def test_two_softmax_rows_worked_by_hand():
    """Logits that are logarithms, so that the probabilities are fractions.

    row 0: (log 1, log 2, log 5), target 2: p = 5/8, -log p = log 8/5
    row 1: (log 3, log 1, log 6), target 0: p = 3/10, -log p = log 10/3
    loss = (log 8/5 + log 10/3) / 2 = log(16/3) / 2 = 0.836988
    """
    logits = torch.tensor([[1.0, 2.0, 5.0], [3.0, 1.0, 6.0]], dtype=torch.float64).log()
    loss = cross_entropy(logits, torch.tensor([2, 0]))
    assert float(loss) == pytest.approx(math.log(16 / 3) / 2, abs=1e-12)
    assert float(loss) == pytest.approx(0.836988, abs=1e-6)


# Against independent implementations


def test_sigmoid_and_its_gradient_are_torchs_also_far_out():
    logits = torch.linspace(-30, 30, 241, dtype=torch.float64)
    torch.testing.assert_close(sigmoid(logits), torch.sigmoid(logits), rtol=1e-13, atol=0)
    logits = torch.tensor([-1e4, -100.0, -1.0, 0.0, 2.0, 100.0, 1e4], dtype=torch.float64, requires_grad=True)
    gradients = (torch.autograd.grad(proba(logits).sum(), logits)[0] for proba in (sigmoid, torch.sigmoid))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-40)


@each_form
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_losses_and_gradients_are_torchs(loss, weighted):
    x, weight, bias, target = problem(1)
    target = torch.arange(len(x)) % 2
    row_weight = torch.linspace(0.5, 2, len(x), dtype=torch.float64) if weighted else None
    logits = (x @ weight + bias).squeeze(1).requires_grad_()
    ours = loss(logits, target, row_weight)
    theirs = F.binary_cross_entropy_with_logits(logits, target.double(), row_weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(value, logits)[0] for value in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_log_softmax_and_cross_entropy_are_torchs():
    x, weight, bias, target = problem(4)
    logits = (x @ weight + bias).requires_grad_()
    torch.testing.assert_close(log_softmax(logits), F.log_softmax(logits, dim=1), rtol=1e-12, atol=1e-14)
    ours, theirs = cross_entropy(logits, target), F.cross_entropy(logits, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(value, logits)[0] for value in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_class_weights_in_cross_entropy_are_divided_by_rows_as_scikit_learn_does_and_torch_does_not():
    x, weight, bias, target = problem(3)
    logits, weights = x @ weight + bias, torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    per_row = F.cross_entropy(logits, target, weights, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, target, weights), per_row.sum() / len(target))
    torch_divides_by = weights[target].sum()
    assert not math.isclose(float(torch_divides_by), len(target))
    torch.testing.assert_close(F.cross_entropy(logits, target, weights), per_row.sum() / torch_divides_by)


def test_softmax_gradient_is_the_closed_form_with_l2_on_the_weights_alone():
    x, weight, bias, target = problem(4)
    weight.requires_grad_()
    bias.requires_grad_()
    logits = x @ weight + bias
    loss = cross_entropy(logits, target) + l2_penalty(weight, 0.3)
    gradients = torch.autograd.grad(loss, (weight, bias))
    difference = torch.softmax(logits, dim=1) - F.one_hot(target, 4)  # P - Y, (N, K)
    torch.testing.assert_close(gradients[0], x.T @ difference / len(x) + 2 * 0.3 * weight)
    torch.testing.assert_close(gradients[1], difference.mean(dim=0))


@pytest.mark.parametrize(
    "function",
    [
        lambda z, y: binary_cross_entropy(sigmoid(z[:, 0]), (y > 0).long()),
        lambda z, y: binary_cross_entropy_with_logits(z[:, 0], (y > 0).long()),
        lambda z, y: binary_cross_entropy_with_logits(z, F.one_hot(y, 3), torch.full_like(z, 0.7), denominator=5),
        lambda z, y: cross_entropy(z, y, torch.tensor([0.5, 1.0, 2.0], dtype=z.dtype)),
        lambda z, y: log_softmax(z)[:, 1].sum(),
        lambda z, y: l2_penalty(z, 0.4),
    ],
    ids=["bce", "bce_with_logits", "weighted classifiers", "cross_entropy", "log_softmax", "l2_penalty"],
)
def test_gradients_are_finite_differences(function):
    x, weight, bias, target = problem(3)
    logits = (x @ weight + bias).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: function(z, target), logits, rtol=1e-6, atol=1e-8)
    (gradient,) = torch.autograd.grad(function(logits, target), logits)
    assert gradient.abs().max() > 1e-3


# Identities and limits

finite_logits = st.floats(-50, 50)


@given(st.lists(st.tuples(finite_logits, finite_logits, st.integers(0, 1)), min_size=1, max_size=8))
def test_softmax_over_two_classes_is_the_logit_of_the_difference(rows):
    a, b, y = (torch.tensor(column) for column in zip(*rows, strict=True))
    two = torch.stack([a, b], dim=1).double()
    one = two[:, 1] - two[:, 0]
    torch.testing.assert_close(cross_entropy(two, y), binary_cross_entropy_with_logits(one, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(log_softmax(two).exp()[:, 1], sigmoid(one), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("constant", [-1000.0, 3.0, 1e6])
def test_a_constant_added_to_all_logits_changes_nothing(constant):
    x, weight, bias, target = problem(3)
    logits = x @ weight + bias
    torch.testing.assert_close(log_softmax(logits + constant), log_softmax(logits), rtol=0, atol=1e-9)
    torch.testing.assert_close(cross_entropy(logits + constant, target), cross_entropy(logits, target))


def test_logit_form_is_exact_where_the_naive_formula_overflows():
    logits, target = torch.tensor([1e4, -1e4]), torch.tensor([0, 1])
    assert float(binary_cross_entropy_with_logits(logits, target)) == 1e4
    assert float(binary_cross_entropy_with_logits(logits, 1 - target)) == 0.0
    assert torch.isinf(torch.log(1 + torch.exp(logits))).any()


def test_loss_of_know_nothing_is_log_of_the_number_of_classes():
    binary = binary_cross_entropy_with_logits(torch.zeros(5), torch.tensor([0, 1, 1, 0, 1]))
    assert float(binary) == pytest.approx(math.log(2))
    assert float(cross_entropy(torch.zeros(5, 7), torch.arange(5))) == pytest.approx(math.log(7))


def test_a_row_of_weight_two_counts_as_two_rows():
    logits, target = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1, 0, 0])
    twice = binary_cross_entropy_with_logits(logits[[0, 0, 1, 2]], target[[0, 0, 1, 2]], denominator=3)
    weighted = binary_cross_entropy_with_logits(logits, target, torch.tensor([2.0, 1.0, 1.0]))
    torch.testing.assert_close(weighted, twice)


def test_losses_of_several_questions_add_up():
    logits, target = torch.tensor([[0.3, -1.2], [2.0, 0.1]]), torch.tensor([[1, 0], [0, 1]])
    for loss in FORMS.values():
        torch.testing.assert_close(loss(logits, target), sum(loss(logits[:, k], target[:, k]) for k in (0, 1)))


def test_unequal_shares_of_a_batch_add_up_to_the_whole_when_told_its_rows():
    x, weight, bias, target = problem(3)
    logits = x @ weight + bias
    parts = cross_entropy(logits[:2], target[:2], denominator=7) + cross_entropy(logits[2:], target[2:], denominator=7)
    torch.testing.assert_close(parts, cross_entropy(logits, target))
    empty = cross_entropy(logits[:0], target[:0], denominator=3.5)
    assert float(empty) == 0.0


def test_penalty_is_l2_times_the_sum_of_squares_without_a_half():
    assert float(l2_penalty(torch.tensor([[3.0], [4.0]]), 0.1)) == pytest.approx(2.5)
    assert float(l2_penalty(torch.ones(2, 2), 0.0)) == 0.0


# Where the two other forms go wrong


def test_epsilon_form_is_biased_where_the_model_is_surely_wrong():
    """At z = 20, y = 0 the true loss is 20. In float64, 1 - p = 2e-9 is far below ε = 1e-7, so the ε form says 16.1."""
    z, y = torch.tensor([20.0], dtype=torch.float64), torch.tensor([0])
    exact, biased = binary_cross_entropy_with_logits(z, y), binary_cross_entropy(sigmoid(z), y)
    assert float(exact) == pytest.approx(20.0, abs=1e-6)
    assert float(biased) == pytest.approx(-math.log(EPSILON), abs=0.1)


@pytest.mark.parametrize(("z", "dtype", "most"), [(25.0, torch.float64, 0.01), (30.0, torch.float32, 1e-5)])
def test_epsilon_form_has_almost_no_gradient_where_the_model_is_surely_wrong(z, dtype, most):
    """And none at all once float32 rounds p to 1."""
    logits, target = torch.tensor([z], dtype=dtype, requires_grad=True), torch.tensor([0])
    (exact,) = torch.autograd.grad(binary_cross_entropy_with_logits(logits, target), logits)
    (weak,) = torch.autograd.grad(binary_cross_entropy(sigmoid(logits), target), logits)
    assert float(exact) == pytest.approx(1.0, abs=1e-6)
    assert 0 <= float(weak) < most


def test_epsilon_form_lets_the_loss_of_a_perfect_answer_fall_below_zero():
    perfect = binary_cross_entropy(torch.ones(1, dtype=torch.float64), torch.tensor([1]))
    assert float(perfect) == pytest.approx(-EPSILON, rel=1e-3)


def test_both_forms_agree_where_no_probability_is_extreme():
    logits, target = torch.linspace(-4, 4, 9, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 0])
    exact = binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(binary_cross_entropy(sigmoid(logits), target), exact, rtol=1e-5, atol=0)


# What is refused


@each_form
@pytest.mark.parametrize(("shape", "target_shape"), [((3, 1), (3,)), ((3,), (3, 1)), ((3,), (1,)), ((3, 2), (3,))])
def test_shapes_that_would_broadcast_are_refused(loss, shape, target_shape):
    with pytest.raises(ValueError, match=r"target of the same shape, got \(3.*would broadcast .*: squeeze the scores"):
        loss(torch.zeros(shape), torch.zeros(target_shape, dtype=torch.long))


@pytest.mark.parametrize(("shape", "target_shape"), [((3,), (3,)), ((3, 2), (3, 1)), ((3, 2), (3, 2)), ((3, 2), (2,))])
def test_cross_entropy_refuses_targets_that_are_no_class_numbers_of_the_rows(shape, target_shape):
    with pytest.raises(ValueError, match=r"expected logits \(N, K\) and target \(N,\), got \(3"):
        cross_entropy(torch.zeros(shape), torch.zeros(target_shape, dtype=torch.long))


def test_class_weights_are_scikit_learns_if_balanced_and_else_those_given():
    target = np.array([0] * 7 + [1] * 2 + [2] * 4)
    expected = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=target)).float()
    torch.testing.assert_close(class_weights("balanced", [7, 2, 4], num_classes=3), expected)
    assert class_weights("balanced", [4, 0], num_classes=2).tolist() == [0.5, 0.0]  # without rows 0, and not infinite
    assert class_weights([0.5, 2], [3, 4], num_classes=2).tolist() == [0.5, 2.0]
    assert class_weights("none", [3, 4], num_classes=2) is None


@pytest.mark.parametrize(
    ("choice", "counts", "message"),
    [
        ("balance", [3, 4], "'none', 'balanced' or one number per class, got 'balance'"),
        ([1.0], [3, 4], r"for each of 2 classes, got \[1.0\]"),
        ([1.0, -1.0], [3, 4], r"finite number of at least 0 .* got \[1.0, -1.0\]"),
        ([1.0, math.nan], [3, 4], "finite number of at least 0"),
        ([1.0, math.inf], [3, 4], "finite number of at least 0"),
        ("balanced", [], "'balanced' needs class_counts"),
    ],
)
def test_class_weights_that_make_no_sense_are_refused(choice, counts, message):
    with pytest.raises(ValueError, match=message):
        class_weights(choice, counts, num_classes=2)
