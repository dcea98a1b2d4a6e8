"""One-vs-all: K binary logits side by side, each for "this class, or any other" (article 1's trio)."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelAccuracy,
)

from logreg.binary import LogisticRegression
from logreg.classifier_module import ClassifierModule, require
from logreg.evaluation import multiclass_metrics
from logreg.functional import (
    binary_cross_entropy_with_logits,
    class_weights,
    l2_penalty,
    log_sigmoid,
    log_softmax,
    sigmoid,
)


class PerClassAccuracy(MultilabelAccuracy):
    """The accuracy of each classifier, as `accuracy_{class name}`."""

    def __init__(self, class_names: list[str]) -> None:
        super().__init__(len(class_names), average="none")
        self.class_names = class_names

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows: logits (N, K) and true classes (N,)."""
        super().update(sigmoid(logits), nn.functional.one_hot(target, len(self.class_names)))

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        return {f"accuracy_{name}": a for name, a in zip(self.class_names, super().compute(), strict=True)}


class OneVsAll(ClassifierModule):
    """K classifiers, each a `LogisticRegression` of one class against the rest; automatic optimization.

    The classifiers share no weight, so one optimizer over the sum of their losses trains each as if it were alone (and
    `trainer.global_step` counts a batch once, where K optimizers would count it K times).

    Args:
        num_features: D; train.py takes it from the datamodule.
        num_classes: K; train.py takes it from the datamodule.
        class_names: K names for the classifiers' metrics; train.py takes them from the datamodule. None numbers them.
        l2: strength of each classifier's penalty l2 · Σw², at least 0.
        class_weight: "none"; "balanced", which lets each class weigh as much as all the others together; or K numbers,
            how much more each class weighs than the rest in its own classifier.
        optimizer: any torch optimizer, in YAML by class_path and init_args, in Python as partial(SGD, lr=0.5).
        lr_scheduler: any torch scheduler that needs no metric, or logreg.optimizers.DecayToZero.
        calibrate: fit a temperature on validation rows, for probabilities to trust, or take this one (calibration.py).
        class_counts: training rows of each class, for "balanced"; train.py takes it from the datamodule.

    Raises:
        ValueError: negative l2, fewer than 2 classes, or class weights that are not K numbers.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        class_names: list[str] | None = None,
        l2: float = 0.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
        calibrate: bool | float = False,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        require("l2", l2, 0 <= l2 < float("inf"), "at least 0 and finite")
        require("num_classes", num_classes, num_classes >= 2, "at least 2")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.l2, self.optimizer, self.lr_scheduler, self.num_classes = l2, optimizer, lr_scheduler, num_classes
        self.classifiers = nn.ModuleList(LogisticRegression(num_features) for _ in range(num_classes))
        weight = _loss_weights(class_weight, class_counts, num_classes)  # (2, K) or None
        self.register_buffer("class_weight", weight, persistent=False)
        metrics = {
            **multiclass_metrics(num_classes),
            "precision": MulticlassPrecision(num_classes),
            "recall": MulticlassRecall(num_classes),
            "auroc": MulticlassAUROC(num_classes),
            "per_class": PerClassAccuracy(class_names or [str(label) for label in range(num_classes)]),
        }
        self.evaluate_with(metrics, calibrate)

    def forward(self, x: Tensor) -> Tensor:
        """The classifiers' logits: (N, D) to (N, K)."""
        W, b = self.coefficients()
        return x @ W + b

    def predict_proba_per_class(self, x: Tensor) -> Tensor:
        """Each classifier's own sigmoid, (N, K); rows do not sum to 1, and all may say "the rest"."""
        return sigmoid(self(x))

    def log_proba(self, logits: Tensor) -> Tensor:
        """Logs of the sigmoids, divided by their sum: (N, K) to (N, K)."""
        # From log σ(z), so that a row whose sigmoids all underflow to 0 still has a most probable class.
        return log_softmax(log_sigmoid(logits))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """W and b of the classifiers' logits x @ W + b: (D, K) and (K,)."""
        layers: Any = [classifier.linear for classifier in self.classifiers]
        return torch.cat([layer.weight for layer in layers]).T, torch.cat([layer.bias for layer in layers])

    def nll(self, logits: Tensor, target: Tensor, denominator: Tensor | float, weight: Tensor | None = None) -> Tensor:
        """The K classifiers' losses, summed; each divided by `denominator`."""
        positive = nn.functional.one_hot(target, self.num_classes)  # (N, K): 1 where the row is of the column's class
        weight = None if weight is None else weight[:, None].expand_as(logits)
        if self.class_weight is not None:
            of_class = self.class_weight.gather(0, positive)
            weight = of_class if weight is None else of_class * weight
        return binary_cross_entropy_with_logits(logits, positive, weight, denominator=denominator)

    def penalty(self) -> Tensor:
        return l2_penalty(self.coefficients()[0], self.l2)

    def preds(self, logits: Tensor, log_proba: Tensor) -> Tensor:
        return log_proba.exp()


def _loss_weights(choice: str | list[float], class_counts: list[int] | None, num_classes: int) -> Tensor | None:
    """The weights of "any other" and "this class" in each classifier's loss, (2, K), or None."""
    if choice == "balanced" and class_counts:
        pairs = [class_weights("balanced", [sum(class_counts) - own, own], num_classes=2) for own in class_counts]
        return torch.stack(pairs, dim=1)  # type: ignore[arg-type]  # of a balanced choice none is None
    own = class_weights(choice, class_counts, num_classes)
    return None if own is None else torch.stack([torch.ones(num_classes), own])
