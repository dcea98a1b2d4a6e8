"""Out-of-scope decision: "none of these", as in Larson et al., EMNLP 2019 (arXiv 1909.02027).

Two predictions are measured side by side. One treats out-of-scope as one more class and takes the most probable class.
The other rejects a row, that is, calls it out of scope, where the largest in-scope probability lies below a threshold
that is chosen on validation rows (Chow's reject option, 1970).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc

from logreg.evaluation import Collected


def max_in_scope_proba(proba: Tensor, oos_class: int) -> tuple[Tensor, Tensor]:
    """The largest in-scope probability and its class: (N, K) to (N,) and (N,)."""
    in_scope = proba.clone()
    in_scope[:, oos_class] = -1
    return in_scope.max(dim=1)


def best_threshold(confidence: Tensor, label: Tensor, target: Tensor, oos_class: int) -> float:
    """The threshold with the most right predictions over all rows, out-of-scope counted as an intent of its own.

    That is the paper's rule. Followed strictly it is unsteady: with 100 out-of-scope rows among 3,100 the accuracy is
    flat near its top, and chance picks the spot. So every accuracy within one standard error of the highest,
    √(a·(1 − a)/N), counts as best, and the middle of the thresholds that reach it is taken (the one-standard-error rule
    of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984).

    Args:
        confidence: largest in-scope probability, (N,).
        label: its class, (N,).
        target: the true class, (N,).
        oos_class: number of the out-of-scope class.

    Returns:
        A threshold in [0, 1].
    """
    confidence, label, target = confidence.cpu(), label.cpu(), target.cpu()  # some accelerators have no float64
    confidence, order = confidence.double().sort()
    right_if_kept = (label == target)[order].long()  # the row is in scope, and of that class
    right_if_rejected = (target == oos_class)[order].long()
    zero = right_if_kept.new_zeros(1)
    # right[i]: right predictions if the i rows with the lowest confidence are rejected
    right = torch.cat([zero, right_if_rejected.cumsum(0)])
    right += right_if_kept.sum() - torch.cat([zero, right_if_kept.cumsum(0)])
    edges = torch.cat([confidence.new_zeros(1), confidence, confidence.new_ones(1)])
    threshold = (edges[1:] + edges[:-1]) / 2  # threshold[i] lies between the i least confident rows and the others ...
    possible = torch.cat([right_if_kept.new_ones(1).bool(), confidence[1:] > confidence[:-1], confidence[-1:] < 1])
    accuracy = (right.double() / max(len(confidence), 1))[possible]  # ... unless the two beside it are equal
    best = accuracy.max()
    near = threshold[possible][accuracy >= best - (best * (1 - best) / max(len(confidence), 1)).sqrt()]
    return float((near.min() + near.max()) / 2)


MOST_PROBABLE, ANOTHER, OUT_OF_SCOPE = range(3)  # of the in-scope classes the most probable one; any of the others


class OutOfScopeMetrics(Collected):
    """The paper's metrics (its Table 2), for the most probable class and for any threshold; keeps 6 bytes a row.

    Of the classes only those three kinds are kept: no metric depends on more.

    Args:
        oos_class: number of the out-of-scope class.
    """

    columns = ("confidence", "predicted", "target")

    def __init__(self, oos_class: int) -> None:
        super().__init__()
        self.oos_class = oos_class

    def update(self, proba: Tensor, target: Tensor) -> None:
        """Add rows: probabilities (N, K) and true classes (N,)."""
        confidence, label = max_in_scope_proba(proba, self.oos_class)
        kind = torch.where(target == label, MOST_PROBABLE, ANOTHER).masked_fill(target == self.oos_class, OUT_OF_SCOPE)
        predicted = (proba.argmax(dim=1) == self.oos_class) * OUT_OF_SCOPE
        self.add(confidence, predicted.byte(), kind.byte())

    def compute(self) -> dict[str, Tensor]:
        """Metrics of the most probable class; AUROC: how well confidence ranks in-scope above out-of-scope rows."""
        confidence, predicted, target = self.rows()
        metrics = self._metrics(predicted, target)
        oos = target == OUT_OF_SCOPE
        if oos.any() and not oos.all():  # else there is nothing to rank
            metrics["oos_auroc"] = binary_auroc(1 - confidence, oos.long())
        return metrics

    def compute_at(self, threshold: float) -> dict[str, Tensor]:
        """Metrics of the prediction with a threshold."""
        confidence, _, target = self.gather()
        return self._metrics(torch.where(confidence < threshold, OUT_OF_SCOPE, MOST_PROBABLE), target)

    def best_threshold(self) -> float:
        """The threshold for the rows seen; see the function of this name."""
        confidence, _, target = self.gather()
        return best_threshold(confidence, torch.full_like(target, MOST_PROBABLE), target, OUT_OF_SCOPE)

    def _metrics(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Accuracy over in-scope rows, recall and precision of out-of-scope; of rows that are not there, none."""
        oos, predicted_oos = target == OUT_OF_SCOPE, predicted == OUT_OF_SCOPE
        right = (predicted == target).float()
        metrics = {}
        if not oos.all():
            metrics["in_scope_accuracy"] = (right * ~oos).sum() / (~oos).sum()
        if oos.any():
            metrics["oos_recall"] = (right * oos).sum() / oos.sum()
            metrics["oos_precision"] = (right * oos).sum() / predicted_oos.sum().clamp(min=1)
        return metrics


class RejectBelowThreshold(nn.Module):
    """The decision from probabilities to a label; a checkpoint keeps its threshold.

    Args:
        oos_class: number of the out-of-scope class; None where the data has none.
        threshold: a number in [0, 1]; "validation" chooses one after every validation; "none" takes the most probable
            class; "auto" is "validation" where the data has an out-of-scope class, else "none".

    Raises:
        ValueError: a threshold without an out-of-scope class, or out of range.
    """

    def __init__(self, oos_class: int | None, threshold: Literal["auto", "validation", "none"] | float) -> None:
        super().__init__()
        if threshold == "auto":
            threshold = "none" if oos_class is None else "validation"
        if threshold != "none" and oos_class is None:
            raise ValueError(f"threshold {threshold!r} needs data with an out-of-scope label: set data.oos_label")
        self.oos_class, self.chosen_on_validation = oos_class, threshold == "validation"
        self.threshold = None if threshold in ("validation", "none") else float(threshold)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must lie in [0, 1], got {threshold}")

    def forward(self, proba: Tensor) -> Tensor:
        """The most probable in-scope class, out of scope where it lies below the threshold: (N, K) to (N,)."""
        if self.threshold is None or self.oos_class is None:
            return proba.argmax(dim=1)
        confidence, label = max_in_scope_proba(proba, self.oos_class)
        return torch.where(confidence < self.threshold, self.oos_class, label)

    def metrics(self) -> dict[str, OutOfScopeMetrics]:
        """Metrics that need an out-of-scope class, by name."""
        return {} if self.oos_class is None else {"out_of_scope": OutOfScopeMetrics(self.oos_class)}

    def choose(self, metrics: Any) -> None:
        """Choose the threshold on validation rows, which an `OutOfScopeMetrics` has collected."""
        if self.chosen_on_validation:
            self.threshold = metrics["out_of_scope"].best_threshold()

    def get_extra_state(self) -> Tensor:
        """The threshold; an empty tensor for none."""
        return torch.tensor([] if self.threshold is None else self.threshold, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore a threshold that was chosen on validation; one that is configured wins over the checkpoint's."""
        if self.chosen_on_validation:
            self.threshold = float(state) if state.numel() > 0 else None
