"""Saying "none of these": the out-of-scope answer of the CLINC150 paper (Larson et al., EMNLP 2019).

Two answers are measured side by side. The trained one treats out-of-scope as one more class and takes the most probable
class. The other one looks at the largest in-scope probability and says "out of scope" where it lies below a threshold
that is chosen on validation rows.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc
from torchmetrics.utilities import dim_zero_cat


def answer_with_threshold(proba: Tensor, threshold: float, oos_class: int) -> Tensor:
    """The most probable in-scope class, or `oos_class` where its probability lies below the threshold.

    Args:
        proba: (N, K), the out-of-scope class among them.
        threshold: in [0, 1].
        oos_class: number of the out-of-scope class.

    Returns:
        Class numbers, (N,).
    """
    score, label = best_in_scope(proba, oos_class)
    return torch.where(score < threshold, oos_class, label)


def best_in_scope(proba: Tensor, oos_class: int) -> tuple[Tensor, Tensor]:
    """The largest in-scope probability and its class: (N, K) to (N,) and (N,)."""
    in_scope = proba.clone()
    in_scope[:, oos_class] = -1
    return in_scope.max(dim=1)


def best_threshold(score: Tensor, label: Tensor, target: Tensor, oos_class: int) -> float:
    """The threshold with the most right answers over all rows, out-of-scope counted as an intent of its own.

    That is the paper's rule. Taken to the letter it is unsteady: with 100 out-of-scope rows among 3,100 the accuracy is
    flat near its top, and chance picks the spot. So all thresholds count as best whose accuracy lies within one
    standard error of the highest, √(a·(1 − a)/N), and the middle of their range is taken (the one-standard-error rule
    of Breiman et al., 1984).

    Args:
        score: largest in-scope probability, (N,).
        label: its class, (N,).
        target: the true class, (N,).
        oos_class: number of the out-of-scope class.

    Returns:
        A threshold in [0, 1].
    """
    score, label, target = score.cpu(), label.cpu(), target.cpu()  # some accelerators have no float64
    score, order = score.double().sort()
    right_if_kept = (label == target)[order].long()  # the row is in scope, and of that class
    right_if_dropped = (target == oos_class)[order].long()
    zero = right_if_kept.new_zeros(1)
    # right[i]: right answers if the i rows with the lowest scores are said to be out of scope
    right = torch.cat([zero, right_if_dropped.cumsum(0)])
    right += right_if_kept.sum() - torch.cat([zero, right_if_kept.cumsum(0)])
    edges = torch.cat([score.new_zeros(1), score, score.new_ones(1)])
    threshold = (edges[1:] + edges[:-1]) / 2  # threshold[i] lies between the i lowest scores and the others ...
    possible = torch.cat([right_if_kept.new_ones(1).bool(), score[1:] > score[:-1], score[-1:] < 1])
    accuracy = (right.double() / max(len(score), 1))[possible]  # ... unless the scores on its two sides are equal
    best = accuracy.max()
    near = threshold[possible][accuracy >= best - (best * (1 - best) / max(len(score), 1)).sqrt()]
    return float((near.min() + near.max()) / 2)


class OutOfScopeMetrics(Metric):
    """The paper's figures, for the trained answer and for any threshold.

    Args:
        oos_class: number of the out-of-scope class.
    """

    full_state_update = False
    score: list[Tensor]
    label: list[Tensor]
    said: list[Tensor]
    target: list[Tensor]

    def __init__(self, oos_class: int) -> None:
        super().__init__()
        self.oos_class = oos_class
        for name in ("score", "label", "said", "target"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, proba: Tensor, target: Tensor) -> None:
        """Add rows: probabilities (N, K) and true classes (N,)."""
        score, label = best_in_scope(proba, self.oos_class)
        self.score.append(score)
        self.label.append(label)
        self.said.append(proba.argmax(dim=1))
        self.target.append(target)

    def compute(self) -> dict[str, Tensor]:
        """Figures of the trained answer, and how well the score ranks in-scope above out-of-scope rows."""
        target = dim_zero_cat(self.target)
        figures = self._figures(dim_zero_cat(self.said), target)
        oos = target == self.oos_class
        if oos.any() and not oos.all():  # else there is nothing to rank
            figures["oos_auroc"] = binary_auroc(1 - dim_zero_cat(self.score), oos.long())
        return figures

    def compute_at(self, threshold: float) -> dict[str, Tensor]:
        """Figures of the answer with a threshold."""
        score, label, target = self._gathered()
        return self._figures(torch.where(score < threshold, self.oos_class, label), target)

    def choose_threshold(self) -> float:
        """The best threshold on the rows seen; see `best_threshold`."""
        return best_threshold(*self._gathered(), self.oos_class)

    def _gathered(self) -> tuple[Tensor, Tensor, Tensor]:
        with self.sync_context(should_sync=self._to_sync):
            return dim_zero_cat(self.score), dim_zero_cat(self.label), dim_zero_cat(self.target)

    def _figures(self, answer: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Accuracy over in-scope rows, recall and precision of out-of-scope; 0 where there is no such row."""
        oos, said_oos = target == self.oos_class, answer == self.oos_class
        right = (answer == target).float()
        return {
            "in_scope_accuracy": (right * ~oos).sum() / (~oos).sum().clamp(min=1),
            "oos_recall": (right * oos).sum() / oos.sum().clamp(min=1),
            "oos_precision": (right * oos).sum() / said_oos.sum().clamp(min=1),
        }
