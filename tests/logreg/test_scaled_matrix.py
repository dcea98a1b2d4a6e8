"""W as scale · weight: the arithmetic of a dense matrix, whatever the split between the two numbers."""

import pytest
import torch

from logreg.scaled_matrix import ScaledMatrix


def matrix(scale=1.0, rows=30, columns=4, seed=0):
    W = ScaledMatrix(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))
    W.scale = scale
    return W


def sparse_rows(seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 30, generator=generator)
    return (x * (torch.rand(5, 30, generator=generator) < 0.2)).to_sparse_csr()


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_sparse_and_dense_rows_give_the_product_with_the_dense_matrix(scale):
    W, x = matrix(scale), sparse_rows()
    expected = x.to_dense() @ W.dense()
    torch.testing.assert_close(W(x), expected)
    torch.testing.assert_close(W(x.to_dense()), expected)


@pytest.mark.parametrize("dense", [False, True])
def test_descending_is_gradient_descent_with_a_penalty_on_the_dense_matrix(dense):
    W, x, lr, l2 = matrix(0.5), sparse_rows(), 0.7, 0.1
    x = x.to_dense() if dense else x
    expected = W.dense().detach().clone()
    for _ in range(20):
        W.weight.grad = None
        W(x).square().sum().backward()
        gradient = 2 * x.to_dense().T @ (x.to_dense() @ expected)
        expected = expected - lr * 1e-2 * (gradient + 2 * l2 * expected)
        W.descend_(lr * 1e-2, l2)
    torch.testing.assert_close(W.dense().detach(), expected)


@pytest.mark.parametrize("few", [0, 2**21])
def test_the_squared_norm_is_kept_up_to_date_over_the_rows_that_change(few):
    W, x = matrix(), sparse_rows()
    W.FEW = few
    for step in range(30):
        W.weight.grad = None
        W(x if step % 3 else sparse_rows(step)).square().sum().backward()
        W.descend_(1e-2, 0.05)
        if step % 4 == 0:
            torch.testing.assert_close(W.squared_norm(), W.dense().detach().square().sum())
    W.fold_()
    torch.testing.assert_close(W.squared_norm(), W.dense().detach().square().sum())


def test_the_squared_norm_reads_only_the_rows_that_changed():
    W, x = matrix(), torch.zeros(2, 30)
    W.FEW = 0
    x[0, 3] = x[1, 7] = 1.0
    W.squared_norm()
    W(x.to_sparse_csr()).sum().backward()
    W.descend_(0.1, 0.0)
    untouched = sorted(set(range(30)) - {3, 7})
    with torch.no_grad():
        W.weight[untouched] = float("nan")  # would show, if it were read again
    assert torch.isfinite(W.squared_norm())


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_gradient_norm_is_that_of_the_penalised_loss(scale):
    W, x, l2 = matrix(scale), sparse_rows(), 0.2
    W(x).square().sum().backward()
    dense = W.dense().detach().clone().requires_grad_()
    ((x.to_dense() @ dense).square().sum() + l2 * dense.square().sum()).backward()
    torch.testing.assert_close(W.squared_gradient_norm(l2), dense.grad.square().sum())


def test_a_scale_that_nears_underflow_is_folded_into_the_rows():
    W = matrix()
    W.weight.grad = torch.zeros_like(W.weight)
    before = W.dense().detach().clone()
    for _ in range(30):
        W.descend_(1.0, 0.2)  # shrinks by 0.6
    assert W.scale >= ScaledMatrix.UNDERFLOW
    torch.testing.assert_close(W.dense().detach(), before * 0.6**30)


def test_the_state_is_tensors_alone_and_restores_the_scale():
    W = matrix(0.25)
    state = {name: value.cpu().clone() for name, value in W.state_dict().items()}
    restored = matrix(seed=5)
    restored.load_state_dict(state)
    assert restored.scale == 0.25
    assert torch.equal(restored.dense(), W.dense())
