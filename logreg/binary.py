"""The binary logit model: one line through the features, and the probability of being on its far side (article 1)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    MulticlassF1Score,
)

from logreg.distributed import rows_per_process
from logreg.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    class_weights,
    l2_penalty,
    sigmoid,
)
from logreg.optimizers import OptimizerFactory, SchedulerFactory, configured, prefer_configured_options
from logreg.safe_loading import SafeLightningModule


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


class BinaryLogit(SafeLightningModule):
    """Two classes, one `LogisticRegression`, automatic optimization.

    Args:
        num_features: D; train.py takes it from the datamodule.
        loss: "bce_with_logits" (exact) or "bce" (on probabilities, with article 1's ε); the same optimum.
        l2: strength of the penalty l2 · Σw², at least 0.
        class_weight: "none", "balanced", or the weights of class 0 and class 1.
        optimizer: any torch optimizer, in YAML by class_path and init_args.
        lr_scheduler: any torch scheduler that steps once per epoch without a metric, likewise.
        class_counts: training rows of the two classes, for "balanced"; train.py takes it from the datamodule.

    Raises:
        ValueError: negative l2, class weights that are not two numbers, or data that has not two classes.
    """

    def __init__(
        self,
        num_features: int,
        loss: Literal["bce_with_logits", "bce"] = "bce_with_logits",
        l2: float = 0.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        optimizer: OptimizerFactory = torch.optim.SGD,
        lr_scheduler: SchedulerFactory | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        if not l2 >= 0:
            raise ValueError(f"l2 must be at least 0, got {l2}")
        if class_counts is not None and len(class_counts) != 2:
            raise ValueError(f"BinaryLogit needs data of exactly 2 classes, got {len(class_counts)}; try OneVsAll")
        if loss not in ("bce_with_logits", "bce"):
            raise ValueError(f"loss must be 'bce_with_logits' or 'bce', got {loss!r}")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.loss, self.l2, self.optimizer, self.lr_scheduler = loss, l2, optimizer, lr_scheduler
        self.model = LogisticRegression(num_features)
        self.class_weight = class_weights(class_weight, class_counts, num_classes=2)  # (2,) or None
        metrics = MetricCollection(
            {
                "accuracy": BinaryAccuracy(),
                "precision": BinaryPrecision(),
                "recall": BinaryRecall(),
                "f1": BinaryF1Score(),
                "macro_f1": MulticlassF1Score(2, average="macro"),
                "auroc": BinaryAUROC(),
            },
            compute_groups=False,
        )
        self.val_loss, self.val_metrics = MeanMetric(), metrics.clone(prefix="val/")
        self.test_loss, self.test_metrics = MeanMetric(), metrics.clone(prefix="test/")

    def forward(self, x: Tensor) -> Tensor:
        """Logits of class 1: (N, D) to (N,)."""
        return self.model(x)

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities of class 0 and class 1: (N, D) to (N, 2)."""
        positive = sigmoid(self(x))
        return torch.stack([1 - positive, positive], dim=1)

    def answer(self, proba: Tensor) -> Tensor:
        """The more probable class: (N, 2) to (N,)."""
        return proba.argmax(dim=1)

    def data_loss(self, logits: Tensor, target: Tensor, rows: Tensor | int) -> Tensor:
        """The negative log-likelihood by the chosen formula, weighted by class, divided by `rows`."""
        weight = None if self.class_weight is None else self.class_weight.to(logits.device)[target]
        if self.loss == "bce":
            return binary_cross_entropy(sigmoid(logits), target, weight, rows=rows)
        return binary_cross_entropy_with_logits(logits, target, weight, rows=rows)

    def penalty(self) -> Tensor:
        """l2 · Σw²."""
        return l2_penalty(self.model.linear.weight, self.l2)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss that Lightning differentiates and hands to the optimizer."""
        x, target, _ = batch
        loss = self.data_loss(self(x), target, rows_per_process(target)) + self.penalty()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(target))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Validation loss and metrics."""
        self._evaluate(batch, "val", self.val_loss, self.val_metrics)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Test loss and metrics; returns the probabilities (N, 2) for the report callbacks."""
        return self._evaluate(batch, "test", self.test_loss, self.test_metrics)

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Probabilities, (N, 2)."""
        return self.predict_proba(batch[0])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Options of optimizer and scheduler that were changed for a resume win over the checkpoint's."""
        prefer_configured_options(checkpoint, self.optimizer, self.lr_scheduler)

    def configure_optimizers(self) -> Any:
        """The optimizer and scheduler of the configuration."""
        return configured(self.optimizer, self.lr_scheduler, self.parameters())

    def _evaluate(
        self, batch: tuple[Tensor, Tensor, Tensor], stage: str, loss: MeanMetric, metrics: MetricCollection
    ) -> Tensor:
        x, target, _ = batch
        logits = self(x)
        proba = self.predict_proba(x)
        if len(target):  # a process may hold no row of the last batch
            loss.update(self.data_loss(logits, target, len(target)) + self.penalty(), len(target))
            for name, metric in metrics.items(keep_base=True):
                metric.update(proba if name == "macro_f1" else proba[:, 1], target)
        self.log(f"{stage}/loss", loss, prog_bar=True)
        self.log_dict(metrics)
        return proba
