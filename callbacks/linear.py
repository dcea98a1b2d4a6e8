"""Coefficients per class and contributions of features, for every model whose logits are x @ W + b.

N rows, D features, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from callbacks.protocols import offers


def class_scores(model: Any, W: Tensor) -> Tensor:
    """From rows of `model.coefficients()[0]` to what a unit of each feature adds to the score of each class, (n, K).

    The score is the log-odds of each of two classes, one-vs-all's logit of the class's own classifier, and otherwise
    the logit above that of the average class.
    """
    if offers(model, "predict_proba_per_class"):
        return W
    if W.shape[1] > 2:
        return W - W.mean(dim=1, keepdim=True)
    log_odds = W if W.shape[1] == 1 else W[:, 1:] - W[:, :1]  # of the second class
    return torch.cat([-log_odds, log_odds], dim=1)


@torch.no_grad()
def contributions(
    x: Tensor, W: Tensor, label: Tensor, scores: Callable[[Tensor], Tensor]
) -> list[list[tuple[int, float]]]:
    """How much each feature of each row raised (> 0) or lowered (< 0) the score of the row's label.

    Args:
        x: (N, D), dense or sparse CSR.
        W: (D, K), or (D, 1) of a binary logit.
        label: class indices, (N,).
        scores: from rows of W to scores (n, K); called for the features that occur, since W may be large.

    Returns:
        For each row, for each feature that contributes: its index and value · scores(W)[feature, label].

    >>> W = torch.tensor([[0.5, 0.0], [9.0, 9.0], [0.0, -3.0]])
    >>> contributions(torch.tensor([[2.0, 0.0, 1.0]]), W, label=torch.tensor([1]), scores=lambda rows: rows)
    [[(2, -3.0)]]
    """
    x, label = x.cpu(), label.cpu()  # not every device has CSR tensors, and lists are made of it anyway
    if x.layout == torch.sparse_csr:
        counts, features, values = x.crow_indices().diff(), x.col_indices(), x.values()  # (N,), (n,), (n,)
    else:
        rows, features = x.nonzero(as_tuple=True)
        counts, values = rows.bincount(minlength=len(x)), x[rows, features]
    rows_of_W = W.index_select(0, features.to(W.device)).cpu()  # (n, K)
    own = scores(rows_of_W).gather(1, label.repeat_interleave(counts).unsqueeze(1))[:, 0]
    sizes = counts.tolist()
    parts = zip(features.split(sizes), (values * own).split(sizes), strict=True)
    return [[(j, a) for j, a in zip(j.tolist(), a.tolist(), strict=True) if a] for j, a in parts]


def name_of(feature_names: Sequence[str], column: int) -> str:
    """The name of a column of x; those that a datamodule derives follow the named ones, and have numbers."""
    return feature_names[column] if column < len(feature_names) else f"column {column + 1}"
