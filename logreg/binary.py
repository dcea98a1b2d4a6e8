"""The binary logit model: one line through the features, and the probability of being on its far side (article 1)."""

from typing import Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassF1Score,
)

from logreg.classifier_module import ClassifierModule, require
from logreg.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    class_weights,
    l2_penalty,
    log_sigmoid,
    sigmoid,
)


class LogisticRegression(nn.Module):
    """z = wᵀx + b, a single linear layer; no sigmoid inside.

    Args:
        num_features: D.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of class 1: (N, D) to (N,)."""
        return self.linear(x).squeeze(-1)


class MacroF1(MulticlassF1Score):
    """Mean of the F1 scores of class 0 and class 1, from logits of class 1."""

    def __init__(self) -> None:
        super().__init__(2, average="macro")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows: logits (N,) and true classes (N,)."""
        super().update((logits > 0).long(), target)


class BinaryLogit(ClassifierModule):
    """Two classes, one `LogisticRegression`, automatic optimization.

    Args:
        num_features: D; train.py takes it from the datamodule.
        loss: "bce_with_logits" (exact) or "bce" (on probabilities, with article 1's ε); optima differ by 1e-5.
        l2: strength of the penalty l2 · Σw², at least 0.
        class_weight: "none", "balanced", or the weights of class 0 and class 1.
        optimizer: any torch optimizer, in YAML by class_path and init_args, in Python as partial(SGD, lr=0.5).
        lr_scheduler: any torch scheduler that needs no metric, or logreg.optimizers.DecayToZero.
        calibrate: fit a temperature on validation rows, for probabilities to trust, or take this one (calibration.py).
        class_counts: training rows of the two classes, for "balanced"; train.py takes it from the datamodule.

    Raises:
        ValueError: negative l2, class weights that are not two numbers, or data that has not two classes.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        num_features: int,
        loss: Literal["bce_with_logits", "bce"] = "bce_with_logits",
        l2: float = 0.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
        calibrate: bool | float = False,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        require("l2", l2, 0 <= l2 < float("inf"), "at least 0 and finite")
        if class_counts is not None and len(class_counts) != 2:
            raise ValueError(f"BinaryLogit needs data of exactly 2 classes, got {len(class_counts)}; try OneVsAll")
        require("loss", repr(loss), loss in ("bce_with_logits", "bce"), "'bce_with_logits' or 'bce'")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.loss, self.l2, self.optimizer, self.lr_scheduler = loss, l2, optimizer, lr_scheduler
        self.model = LogisticRegression(num_features)
        weight = class_weights(class_weight, class_counts, num_classes=2)  # (2,) or None
        self.register_buffer("class_weight", weight, persistent=False)
        metrics = {
            "accuracy": BinaryAccuracy(),
            "precision": BinaryPrecision(),
            "recall": BinaryRecall(),
            "f1": BinaryF1Score(),
            "macro_f1": MacroF1(),
            "auroc": BinaryAUROC(),
        }
        self.evaluate_with(metrics, calibrate)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of class 1: (N, D) to (N,)."""
        return self.model(x)

    def log_proba(self, logits: Tensor) -> Tensor:
        """log(1 − σ(z)) = log σ(−z) of class 0 and log σ(z) of class 1: (N,) to (N, 2)."""
        return log_sigmoid(torch.stack([-logits, logits], dim=1))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """w and b of the logit x @ w + b: (D, 1) and (1,)."""
        return self.model.linear.weight.T, self.model.linear.bias

    def nll(self, logits: Tensor, target: Tensor, denominator: Tensor | float, weight: Tensor | None = None) -> Tensor:
        """The negative log-likelihood by the chosen formula, weighted by class and row, divided by `denominator`."""
        if self.class_weight is not None:
            of_class = self.class_weight[target]
            weight = of_class if weight is None else of_class * weight
        if self.loss == "bce":
            return binary_cross_entropy(sigmoid(logits), target, weight, denominator=denominator)
        return binary_cross_entropy_with_logits(logits, target, weight, denominator=denominator)

    def penalty(self) -> Tensor:
        return l2_penalty(self.model.linear.weight, self.l2)

    def preds(self, logits: Tensor, log_proba: Tensor) -> Tensor:
        return sigmoid(logits)
