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
