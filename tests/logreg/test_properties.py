"""What must hold for every input, not only for those we thought of: hypothesis looks for one that breaks it.

By default 60 inputs per property, in the slow twin 2,000. The bounds, for float32, whose largest number is 3.4e38:

* binary cross-entropy from logits, |z| ≤ 1e30: log(1 + exp(z)) ≤ |z| + log 2 is below 1e31 in each of some dozens of
  terms, so loss and gradient are finite.
* softmax cross-entropy, |z| ≤ 1e30: z − max z is above −2e30, likewise.
* article 1's form on probabilities, p = 0 and p = 1 included: a row's loss is at most −log ε ≈ 16.2.
"""

import math
from collections import namedtuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.sampler import BatchIndices
from logreg.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    sigmoid,
)
from tests.logreg.helpers import without_trainer

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
THOROUGH = settings(QUICK, max_examples=2000)
LARGEST = float(torch.tensor(1e30))  # as near as float32 comes

finite = st.floats(-LARGEST, LARGEST, width=32)
logits_of_any_size = finite | st.floats(-50, 50, width=32) | st.sampled_from([0.0, -0.0, 1e-45, LARGEST, -LARGEST])

properties = []


def twice(prop):
    """Collect a property, for the two tests at the end of this file."""
    properties.append(prop)
    return prop


@st.composite
def scored_rows(draw, columns=None):
    """Logits (N, K) and targets (N,)."""
    rows = draw(st.integers(1, 6))
    classes = draw(st.integers(2, 5)) if columns is None else columns
    numbers = draw(st.lists(logits_of_any_size, min_size=rows * classes, max_size=rows * classes))
    target = draw(st.lists(st.integers(0, max(classes - 1, 1)), min_size=rows, max_size=rows))
    return torch.tensor(numbers, dtype=torch.float32).reshape(rows, classes), torch.tensor(target)


Step = namedtuple("Step", "indptr indices data target lr l2 scale clip bias seed features classes")


@st.composite
def steps(draw):
    """A CSR batch, with empty rows, unsorted and repeated columns, and the options of an update."""
    features, classes = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(st.integers(0, features - 1), max_size=6), min_size=1, max_size=6))
    indices = [column for row in rows for column in row]
    value = st.floats(-10, 10, width=32)
    return Step(
        indptr=[sum(map(len, rows[:end])) for end in range(len(rows) + 1)],
        indices=indices,
        data=draw(st.lists(value, min_size=len(indices), max_size=len(indices))),
        target=draw(st.lists(st.integers(0, classes - 1), min_size=len(rows), max_size=len(rows))),
        lr=draw(st.floats(1e-3, 10)),
        l2=draw(st.sampled_from([0.0, 1e-4, 0.02])),
        scale=draw(st.sampled_from([1.0, 0.9, 0.01])),
        clip=draw(st.sampled_from([None, 0.1, 1e6])),
        bias=draw(st.sampled_from([1.0, 0.05])),
        seed=draw(st.integers(0, 2**31)),
        features=features,
        classes=classes,
    )


def matrix(step):
    """The batch as scipy's CSR."""
    import numpy as np
    from scipy.sparse import csr_matrix

    data = np.array(step.data, dtype=np.float32)
    shape = (len(step.indptr) - 1, step.features)
    return csr_matrix(
        (data, np.array(step.indices, dtype=np.int32), np.array(step.indptr, dtype=np.int32)), shape=shape
    )


def softmax_and_rows(step):
    """The class SoftmaxRegression and the batch as SparseRows gives it, where they were not deleted with text."""
    model = pytest.importorskip("logreg.softmax").SoftmaxRegression
    rows = pytest.importorskip("datamodules.text.sparse_rows").SparseRows(matrix(step))
    return model, rows.gather(BatchIndices(torch.arange(len(step.target)), epoch=0))


def updated(step):
    """A model and the dense W and b it started from, and the model after one training_step on the batch."""
    SoftmaxRegression, x = softmax_and_rows(step)
    options = {"lr": step.lr, "l2": step.l2, "clip_norm": step.clip, "bias_lr_factor": step.bias, "seed": step.seed}
    model = SoftmaxRegression(step.features, step.classes, **options)
    model.W.scale = step.scale
    with torch.no_grad():
        model.b.copy_(torch.randn(step.classes, generator=torch.Generator().manual_seed(step.seed)))
        model.W.weight.mul_(100)
    W, b = model.W.dense().detach().clone(), model.b.detach().clone()
    with without_trainer(SoftmaxRegression, step.lr) as counter:
        model.training_step((x, torch.tensor(step.target)), 0)
    assert counter.steps == 1
    return W, b, model


# Losses


@twice
@given(scored_rows())
def softmax_loss_and_gradient_are_finite(rows):
    logits, target = rows
    logits.requires_grad_()
    loss = cross_entropy(logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss >= 0
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() <= 1 + 1e-6  # (p − y) / N
    proba = log_softmax(logits.detach()).exp()
    torch.testing.assert_close(proba.sum(dim=1), torch.ones(len(target)), atol=1e-5, rtol=0)


@twice
@given(scored_rows(columns=1))
def binary_loss_from_logits_and_its_gradient_are_finite(rows):
    logits, target = rows[0].squeeze(1), rows[1]
    logits.requires_grad_()
    loss = binary_cross_entropy_with_logits(logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss >= 0
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().max() <= 1 + 1e-6


@twice
@given(scored_rows(columns=1))
def article_1s_loss_and_its_gradient_are_finite_even_where_a_probability_is_0_or_1(rows):
    logits, target = rows[0].squeeze(1), rows[1]
    logits.requires_grad_()
    proba = sigmoid(logits)
    assert ((proba >= 0) & (proba <= 1)).all()
    loss = binary_cross_entropy(proba, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert -1e-6 <= loss <= -math.log(1e-7) + 1e-3
    assert torch.isfinite(logits.grad).all()


# The update


@twice
@given(steps())
def logits_of_any_csr_batch_are_those_of_the_dense_product(step):
    SoftmaxRegression, sparse = softmax_and_rows(step)
    model = SoftmaxRegression(step.features, step.classes, seed=step.seed)
    model.W.scale = step.scale
    dense = torch.from_numpy(matrix(step).toarray())
    with torch.no_grad():
        torch.testing.assert_close(model(sparse), dense @ model.W.dense() + model.b, atol=1e-5, rtol=1e-5)


@twice
@given(steps())
def one_update_on_any_csr_batch_is_the_dense_closed_form(step):
    """W ← W − lr · c · (xᵀ(p − y)/N + 2 · l2 · W), b ← b − lr · c · f · mean(p − y).

    c is what clipping leaves, and f the bias's share of the rate.
    """
    W, b, model = updated(step)
    x, target = torch.from_numpy(matrix(step).toarray()).double(), torch.tensor(step.target)
    W, b = W.double(), b.double()
    error = (x @ W + b).softmax(dim=1)
    error[torch.arange(len(target)), target] -= 1
    grad_W, grad_b = x.T @ error / len(target) + 2 * step.l2 * W, error.mean(dim=0)
    norm = float((grad_W.square().sum() + grad_b.square().sum()).sqrt())
    shortened = 1.0 if step.clip is None else min(1.0, step.clip / max(norm, 1e-12))
    size = max(1.0, float(W.abs().max()), step.lr * norm)
    torch.testing.assert_close(model.W.dense().double(), W - step.lr * shortened * grad_W, atol=1e-5 * size, rtol=0)
    moved = step.bias * step.lr * shortened * grad_b
    torch.testing.assert_close(model.b.double(), b - moved, atol=1e-5 * size, rtol=0)


@twice
@given(steps())
def an_update_leaves_features_that_the_batch_lacks_to_the_penalty_alone(step):
    before, _, model = updated(step)
    absent = [column for column in range(step.features) if column not in step.indices]
    if step.clip is None:
        expected = before[absent] * (1 - 2 * step.lr * step.l2)
        torch.testing.assert_close(model.W.dense()[absent], expected, atol=1e-5, rtol=1e-5)
    if step.l2 == 0:
        assert torch.equal(model.W.dense()[absent], before[absent])


@pytest.mark.parametrize("prop", properties, ids=lambda prop: prop.__name__)
def test_for_every_input(prop):
    QUICK(prop)()


@pytest.mark.nightly
@pytest.mark.parametrize("prop", properties, ids=lambda prop: prop.__name__)
def test_for_two_thousand_inputs(prop):
    THOROUGH(prop)()
