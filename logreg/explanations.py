"""Which features led to a label, for models whose scores are sums over features."""

import torch
from torch import Tensor


@torch.no_grad()
def linear_contributions(x: Tensor, coefficients: Tensor, label: Tensor) -> list[list[tuple[int, float]]]:
    """How much each feature of each row raised (> 0) or lowered (< 0) the score of the row's label.

    Args:
        x: (N, D), dense.
        coefficients: what one unit of each feature adds to the score of each class, (D, K).
        label: class numbers, (N,).

    Returns:
        For each row, for each feature that contributes: its number and value · coefficients[feature, label].

    >>> coefficients = torch.tensor([[0.5, 0.0], [9.0, 9.0], [0.0, -3.0]])
    >>> linear_contributions(torch.tensor([[2.0, 0.0, 1.0]]), coefficients, label=torch.tensor([1]))
    [[(2, -3.0)]]
    """
    amounts = x * coefficients.T[label]  # (N, D)
    return [[(j, amount) for j, amount in enumerate(row) if amount] for row in amounts.tolist()]
