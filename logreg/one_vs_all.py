"""One-vs-all: K binary logits side by side, each asking "this class, or any other?" (article 1's trio)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelAccuracy,
)

from logreg.binary import LogisticRegression
from logreg.distributed import rows_per_process
from logreg.functional import (
    binary_cross_entropy_with_logits,
    class_weights,
    l2_penalty,
    log_softmax,
    sigmoid,
)
from logreg.optimizers import OptimizerFactory, SchedulerFactory, configured, prefer_configured_options
from logreg.safe_loading import SafeLightningModule


class OneVsAll(SafeLightningModule):
    """K members, each a `LogisticRegression` of one class against the rest; automatic optimization.

    The members share no weight, so one optimizer over the sum of their losses trains each as if it were alone (and
    `trainer.global_step` counts a batch once, which K optimizers would count K times).

    Args:
        num_features: D; train.py takes it from the datamodule.
        num_classes: K; likewise.
        class_names: K names for the members' metrics; likewise. None numbers them.
        l2: strength of each member's penalty l2 · Σw², at least 0.
        class_weight: "none"; "balanced", which lets each member's class weigh as much as all the others together; or
            K numbers, how much more each member's own class weighs than the rest.
        optimizer: any torch optimizer, in YAML by class_path and init_args.
        lr_scheduler: any torch scheduler that steps once per epoch without a metric, likewise.
        class_counts: training rows of each class, for "balanced"; train.py takes it from the datamodule.

    Raises:
        ValueError: negative l2, fewer than 2 classes, or class weights that are not K numbers.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        class_names: list[str] | None = None,
        l2: float = 0.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        optimizer: OptimizerFactory = torch.optim.SGD,
        lr_scheduler: SchedulerFactory | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        if not l2 >= 0:
            raise ValueError(f"l2 must be at least 0, got {l2}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self.l2, self.optimizer, self.lr_scheduler = l2, optimizer, lr_scheduler
        self.num_classes = num_classes
        self.class_names = class_names or [str(label) for label in range(num_classes)]
        self.members = nn.ModuleList(LogisticRegression(num_features) for _ in range(num_classes))
        self.rest_weight, self.own_weight = _member_weights(class_weight, class_counts, num_classes)
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "precision": MulticlassPrecision(num_classes),
                "recall": MulticlassRecall(num_classes),
                "macro_f1": MulticlassF1Score(num_classes),
                "auroc": MulticlassAUROC(num_classes),
            },
            compute_groups=False,
        )
        self.val_loss, self.val_metrics = MeanMetric(), metrics.clone(prefix="val/")
        self.test_loss, self.test_metrics = MeanMetric(), metrics.clone(prefix="test/")
        # Each member's own question: is the raw sigmoid on the right side of 0.5?
        self.val_members = MultilabelAccuracy(num_classes, average="none")
        self.test_members = MultilabelAccuracy(num_classes, average="none")

    def forward(self, x: Tensor) -> Tensor:
        """The members' logits: (N, D) to (N, K)."""
        return torch.stack([member(x) for member in self.members], dim=1)

    def member_proba(self, x: Tensor) -> Tensor:
        """Each member's own sigmoid, (N, K); rows do not sum to 1, and all may say "the rest"."""
        return sigmoid(self(x))

    def predict_proba(self, x: Tensor) -> Tensor:
        """The sigmoids, divided by their sum: (N, D) to (N, K), rows sum to 1.

        Computed from log σ(z), so that a row whose sigmoids all underflow to 0 still has a most probable class.
        """
        log_sigmoid = -torch.logaddexp(torch.zeros((), device=x.device, dtype=x.dtype), -self(x))
        return log_softmax(log_sigmoid).exp()

    def answer(self, proba: Tensor) -> Tensor:
        """The class of the surest member: (N, K) to (N,)."""
        return proba.argmax(dim=1)

    def data_loss(self, logits: Tensor, target: Tensor, rows: Tensor | int) -> Tensor:
        """The K members' losses, summed; each a mean over the rows."""
        own = nn.functional.one_hot(target, self.num_classes)  # (N, K): 1 where the row is of the member's class
        weight = None
        if self.own_weight is not None and self.rest_weight is not None:
            weight = torch.where(own.bool(), self.own_weight.to(logits.device), self.rest_weight.to(logits.device))
        return binary_cross_entropy_with_logits(logits, own, weight, rows=rows)

    def penalty(self) -> Tensor:
        """l2 · Σw² over all members."""
        weights = torch.cat([member.linear.weight for member in self.members])  # type: ignore[union-attr, misc]
        return l2_penalty(weights, self.l2)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The summed loss that Lightning differentiates and hands to the one optimizer."""
        x, target, _ = batch
        loss = self.data_loss(self(x), target, rows_per_process(target)) + self.penalty()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(target))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Validation loss and metrics."""
        self._evaluate(batch, self.val_loss, self.val_metrics, self.val_members)
        self.log("val/loss", self.val_loss, prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Test loss and metrics; returns the probabilities (N, K) for the report callbacks."""
        proba = self._evaluate(batch, self.test_loss, self.test_metrics, self.test_members)
        self.log("test/loss", self.test_loss)
        return proba

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Probabilities, (N, K)."""
        return self.predict_proba(batch[0])

    def on_validation_epoch_end(self) -> None:
        """Log how often each member answers its own question rightly."""
        self._log_members("val", self.val_members)

    def on_test_epoch_end(self) -> None:
        """Likewise for the test rows."""
        self._log_members("test", self.test_members)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Options of optimizer and scheduler that were changed for a resume win over the checkpoint's."""
        prefer_configured_options(checkpoint, self.optimizer, self.lr_scheduler)

    def configure_optimizers(self) -> Any:
        """The optimizer and scheduler of the configuration."""
        return configured(self.optimizer, self.lr_scheduler, self.parameters())

    def _evaluate(
        self,
        batch: tuple[Tensor, Tensor, Tensor],
        loss: MeanMetric,
        metrics: MetricCollection,
        members: MultilabelAccuracy,
    ) -> Tensor:
        x, target, _ = batch
        logits = self(x)
        proba = self.predict_proba(x)
        if len(target):  # a process may hold no row of the last batch
            loss.update(self.data_loss(logits, target, len(target)) + self.penalty(), len(target))
            metrics.update(proba, target)
            members.update(sigmoid(logits), nn.functional.one_hot(target, self.num_classes))
        self.log_dict(metrics)
        return proba

    def _log_members(self, stage: str, members: MultilabelAccuracy) -> None:
        accuracy = members.compute()  # (K,), over all processes
        members.reset()
        self.log_dict({f"{stage}/accuracy_{n}": a for n, a in zip(self.class_names, accuracy, strict=True)})


def _member_weights(
    choice: str | list[float], class_counts: list[int] | None, num_classes: int
) -> tuple[Tensor | None, Tensor | None]:
    """What "any other" and "this class" weigh in each member's loss: (K,) and (K,), or None twice."""
    if choice == "none":
        return None, None
    if choice == "balanced" and class_counts:
        rest_own = [class_weights("balanced", [sum(class_counts) - own, own], num_classes=2) for own in class_counts]
        rest, own = torch.stack([pair for pair in rest_own if pair is not None]).unbind(dim=1)
        return rest, own
    return torch.ones(num_classes), class_weights(choice, class_counts, num_classes)
