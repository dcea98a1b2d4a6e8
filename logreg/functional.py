"""The mathematics of logistic regression, without state and without torch.nn.

Two articles teach it line by line, article 1 and article 2 below: "Logistic Regression from Scratch in PyTorch"
(a practice page: binary, one-vs-all, XOR) and "Logistic Regression from Scratch in PyTorch: Every Line Explained"
(softmax, by hand).

Letters, here and everywhere in this project: N rows, D features, K classes. `logits` are raw scores, `proba` are
probabilities, `target` are class numbers 0..K-1; no function guesses one from another.

The objective that every model minimises is

    mean over rows of (class weight · negative log-likelihood)  +  l2 · ΣW²

without the usual ½ before l2 (article 2) and without a penalty on the bias. scikit-learn's
`LogisticRegression(C=...)` has the same optimum at C = 1 / (2 · N · l2).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-7  # keeps log(0) away, and biases the loss where p comes near 0 or 1 (article 1)


def sigmoid(logits: Tensor) -> Tensor:
    """σ(z) = 1 / (1 + exp(−z)), the probability of class 1 (article 1).

    Computed as exp(−log(1 + exp(−z))): the same number, but exp(−z) may overflow without harming value or gradient.

    Args:
        logits: any shape.

    Returns:
        Probabilities in [0, 1], same shape.

    Examples:
        >>> sigmoid(torch.tensor([-1000.0, 0.0, 1000.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return log_sigmoid(logits).exp()


def log_sigmoid(logits: Tensor) -> Tensor:
    """log σ(z) = −log(1 + exp(−z)), which stays finite where σ(z) is 0 in floating point; any shape."""
    return -torch.logaddexp(torch.zeros_like(logits), -logits)


def binary_cross_entropy(
    proba: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    eps: float = EPSILON,
    denominator: Tensor | float | None = None,
) -> Tensor:
    """Loss on probabilities: −(y·log(p + ε) + (1 − y)·log(1 − p + ε)), averaged (article 1).

    The ε that keeps log(0) away also caps the loss of one row at −log ε ≈ 16 and flattens its gradient there, so
    confidently misclassified rows get almost no gradient. `binary_cross_entropy_with_logits` has no such limit.

    Args:
        proba: probabilities of class 1, (N,) or (N, K) for K separate questions.
        target: 0 or 1, same shape.
        weight: weight of each row's loss, same shape; None counts every row once.
        eps: ε, 0 < ε ≪ 1.
        denominator: what to divide the sum by; None means the number of rows N.

    Returns:
        The loss, a scalar; for (N, K) the sum of K means.

    Raises:
        ValueError: shapes differ; broadcasting would silently compare every row with every other.

    Examples:
        >>> binary_cross_entropy(torch.tensor([0.9, 0.2]), torch.tensor([1, 0]))  # (−log 0.9 − log 0.8) / 2
        tensor(0.1643)
    """
    _require_same_shape(proba, target)
    y = target.to(proba.dtype)
    loss = -(y * torch.log(proba + eps) + (1 - y) * torch.log(1 - proba + eps))
    return _mean_over_rows(loss, weight, denominator)


def binary_cross_entropy_with_logits(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, denominator: Tensor | float | None = None
) -> Tensor:
    """The same loss from logits, exact for every finite logit: log(1 + exp(z)) − y·z, averaged.

    Args:
        logits: raw scores, never probabilities (a second sigmoid would hide inside), (N,) or (N, K).

    The other arguments, the result and the error are those of `binary_cross_entropy`.

    Examples:
        >>> binary_cross_entropy_with_logits(torch.tensor([0.0, 1e4]), torch.tensor([1, 0]))  # (log 2 + 10,000) / 2
        tensor(5000.3467)
    """
    _require_same_shape(logits, target)
    loss = torch.logaddexp(torch.zeros_like(logits), logits) - target.to(logits.dtype) * logits
    return _mean_over_rows(loss, weight, denominator)


def log_softmax(logits: Tensor) -> Tensor:
    """log(softmax(z)) by the log-sum-exp identity: z − max z − log Σ exp(z − max z) (article 2).

    After the shift the largest term is exp(0) = 1, so nothing overflows and the sum is at least 1.

    Args:
        logits: (N, K).

    Returns:
        Log-probabilities, (N, K); exp of each row sums to 1.

    Examples:
        >>> log_softmax(torch.tensor([[2.0, 1.0, -1.0]])).exp()
        tensor([[0.7054, 0.2595, 0.0351]])
    """
    shifted = _shifted(logits)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    denominator: Tensor | float | None = None,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Mean negative log-probability of the right class (article 2).

    Args:
        logits: (N, K).
        target: class numbers in 0..K-1, (N,).
        weight: weight of each class, (K,); None weighs all alike. The sum is divided by N, not by the sum of the
            weights, as in scikit-learn: the length of a step then does not depend on the batch's mix of classes.
        denominator: what to divide the sum by; None means the number of rows N.
        sample_weight: weight of each row, (N,); None counts every row once.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: logits are not (N, K) or target is not (N,).

    Examples:
        >>> cross_entropy(torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([0]))  # −log 0.7054
        tensor(0.3490)
    """
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy expected logits (N, K) and target (N,), got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    # −log softmax(z)[y] = log Σ exp(z) − z[y], shifted as in log_softmax: one of the K log-probabilities is needed.
    # The index takes from row 0 column target[0], from row 1 column target[1], ...
    shifted = _shifted(logits)
    nll = shifted.exp().sum(dim=1).log() - shifted[torch.arange(len(target), device=target.device), target]  # (N,)
    nll = nll if sample_weight is None else nll * sample_weight.to(nll.dtype)
    return _mean_over_rows(nll, None if weight is None else weight[target], denominator)


def l2_penalty(weight: Tensor, l2: float) -> Tensor:
    """l2 · ΣW², of the weights alone: a bias only shifts the boundary, so it is not penalised (article 2).

    Args:
        weight: any shape.
        l2: strength, ≥ 0. scikit-learn's C is 1 / (2 · N · l2).

    Examples:
        >>> l2_penalty(torch.tensor([[3.0], [4.0]]), 0.1)
        tensor(2.5000)
    """
    return l2 * torch.linalg.vector_norm(weight) ** 2  # as weight.square().sum(), without a copy of weight


def class_weights(choice: str | Sequence[float], class_counts: Sequence[int] | None, num_classes: int) -> Tensor | None:
    """The weight of each class in the loss (article 1: "use class weights in the loss").

    Args:
        choice: "none", "balanced" (N / (K · count), scikit-learn's rule: every class adds up to the same weight; a
            class without rows gets 0), or K numbers ≥ 0.
        class_counts: training rows of each class, K numbers; only "balanced" needs them.
        num_classes: K.

    Returns:
        (K,), or None for "none".

    Raises:
        ValueError: an unknown word, a list that is not K non-negative numbers, or "balanced" without counts.

    Examples:
        >>> class_weights("balanced", [90, 10], num_classes=2)
        tensor([0.5556, 5.0000])
    """
    if choice == "none":
        return None
    if choice == "balanced":
        if not class_counts:
            raise ValueError("class_weight 'balanced' needs class_counts, the training rows of each class; got none")
        total = sum(class_counts)
        return torch.tensor([total / (num_classes * count) if count else 0.0 for count in class_counts])
    if isinstance(choice, str):
        raise ValueError(f"class_weight must be 'none', 'balanced' or one number per class, got {choice!r}")
    if len(choice) != num_classes or not all(0 <= w < math.inf for w in choice) or not any(choice):
        raise ValueError(
            f"class_weight must not be all 0, but one finite number of at least 0 for each of {num_classes} classes, "
            f"got {list(choice)}"
        )
    return torch.tensor([float(w) for w in choice])


def _shifted(logits: Tensor) -> Tensor:
    """z − max z of each row: a constant per row, whose gradient cancels out."""
    return logits - logits.detach().amax(dim=-1, keepdim=True)


def _mean_over_rows(loss: Tensor, weight: Tensor | None, denominator: Tensor | float | None) -> Tensor:
    """Weigh, sum, divide by `denominator` (by default the number of rows)."""
    if weight is not None:
        loss = loss * weight.to(loss.dtype)
    return loss.sum() / (len(loss) if denominator is None else denominator)


def _require_same_shape(scores: Tensor, target: Tensor) -> None:
    if scores.shape != target.shape:
        raise ValueError(
            f"expected scores and target of the same shape, got {tuple(scores.shape)} and {tuple(target.shape)}; "
            "(N, 1) against (N,) would broadcast to (N, N): squeeze the scores first"
        )
