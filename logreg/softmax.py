"""Softmax regression with W and b updated by hand (article 2): no nn.Linear, no optimizer, no CrossEntropyLoss."""

import math
from collections.abc import Callable
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from logreg.distributed import reduces_sparse_gradients, rows_per_process
from logreg.functional import class_weights, cross_entropy, l2_penalty, log_softmax
from logreg.out_of_scope import OutOfScopeMetrics, answer_with_threshold
from logreg.safe_loading import SafeLightningModule

Batch = tuple[Tensor, Tensor, Tensor]


class StepCounter:
    """What Lightning has to see of an optimizer so that it counts updates, saves, stops and shows the rate.

    It does no arithmetic: the update stands in `SoftmaxRegression.training_step`.
    """

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": parameters, "lr": lr}]
        self.defaults: dict[str, Any] = {}
        self.state: dict[Any, Any] = {}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Nothing but what Lightning wraps around it: `trainer.global_step` grows by one."""
        return closure() if closure is not None else None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: `training_step` zeroes."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep: the rate follows from the step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class SoftmaxRegression(SafeLightningModule):
    """K classes, W of shape (D, K) and b of shape (K,), and the five steps by hand in `training_step`.

    Rows may be dense or sparse (CSR). For sparse rows a step costs time in proportion to their non-zeros, whatever D
    is: only the rows of W that the batch touches are read and written. L2 would touch all of W, so its shrinking is
    kept as one number, `decay`: the stored matrix is W / decay until the end of the epoch, when it is multiplied in.

    Args:
        num_features: D; train.py takes it from the datamodule.
        num_classes: K; likewise.
        lr: learning rate at the start, above 0.
        schedule: "constant"; "linear", straight down to 0 at the last step; "cosine", a half wave down to 0.
        l2: strength of the penalty l2 · ΣW² (article 2's l2_lambda), at least 0; the bias is not penalised.
        class_weight: "none", "balanced", or K numbers.
        clip_norm: longest gradient (all of W and b taken together) that is not shortened; None never clips.
        log_every: steps between two points of the training curves.
        seed: of the 0.01 · N(0, 1) that W starts from.
        threshold: "validation" chooses, after every validation, the largest in-scope probability below which a row is
            out of scope; "none" leaves the answer to the out-of-scope class alone; "auto" is "validation" if the data
            has an out-of-scope label.
        oos_class: number of the out-of-scope class; train.py takes it from the datamodule, as the next one.
        class_counts: training rows of each class, for "balanced".

    Raises:
        ValueError: an option out of its range, or a threshold without an out-of-scope class.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        lr: float = 0.1,
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        l2: float = 0.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        clip_norm: float | None = None,
        log_every: int = 10,
        seed: int = 42,
        threshold: Literal["auto", "validation", "none"] = "auto",
        oos_class: int | None = None,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        _require("num_features", num_features, num_features >= 1, "at least 1")
        _require("num_classes", num_classes, num_classes >= 2, "at least 2")
        _require("lr", lr, 0 < lr < math.inf, "above 0")
        _require("l2", l2, l2 >= 0 and 2 * lr * l2 < 1, "at least 0 and less than 1 / (2 · lr), else W changes sign")
        _require("clip_norm", clip_norm, clip_norm is None or clip_norm > 0, "above 0, or null")
        _require("log_every", log_every, log_every >= 1, "at least 1")
        if threshold == "validation" and oos_class is None:
            raise ValueError("threshold 'validation' needs data with an out-of-scope label: set data.oos_label")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.lr, self.schedule, self.l2, self.clip_norm, self.log_every = lr, schedule, l2, clip_norm, log_every
        self.oos_class, self.num_classes = oos_class, num_classes
        self.choose_threshold = oos_class is not None and threshold != "none"
        self.threshold: float | None = None
        self.decay = 1.0  # the true W is decay · table.weight

        # An embedding table is W under another name: the bag of a sparse row is the sum of its features' rows of W,
        # each times its value, which is x @ W. A raw Parameter would do as well, but only of this module does
        # DistributedDataParallel know that its gradients may be sparse.
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.EmbeddingBag.from_pretrained(
            torch.randn(num_features, num_classes, generator=generator).mul_(0.01),
            freeze=False,
            mode="sum",
            sparse=True,
            include_last_offset=True,
        )
        self.b = nn.Parameter(torch.zeros(num_classes))
        self.class_weight = class_weights(class_weight, class_counts, num_classes)  # (K,) or None

        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "macro_f1": MulticlassF1Score(num_classes, average="macro"),
            },
            compute_groups=False,
        )
        self.val_loss, self.val_metrics = MeanMetric(), metrics.clone(prefix="val/")
        self.test_loss, self.test_metrics = MeanMetric(), metrics.clone(prefix="test/")
        if oos_class is not None:
            self.val_scope, self.test_scope = OutOfScopeMetrics(oos_class), OutOfScopeMetrics(oos_class)

    @property
    def W(self) -> Tensor:
        """The weights, (D, K), decay included."""
        return self.table.weight if self.decay == 1.0 else self.table.weight * self.decay

    def forward(self, x: Tensor) -> Tensor:
        """Logits x @ W + b: (N, D), dense or sparse CSR, to (N, K)."""
        if x.layout == torch.sparse_csr:
            product = self.table(x.col_indices(), x.crow_indices(), per_sample_weights=x.values())
        else:
            product = x @ self.table.weight
        return torch.add(self.b, product, alpha=self.decay)  # decay · product + b

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities: (N, D) to (N, K), rows sum to 1."""
        return log_softmax(self(x)).exp()

    def answer(self, proba: Tensor) -> Tensor:
        """The most probable class, or out of scope where no in-scope class is probable enough: (N, K) to (N,)."""
        if self.threshold is None or self.oos_class is None:
            return proba.argmax(dim=1)
        return answer_with_threshold(proba, self.threshold, self.oos_class)

    @torch.no_grad()
    def contributions(self, x: Tensor, label: Tensor) -> Tensor:
        """How much each non-zero of each row raised the score of its label above that of the average class.

        Args:
            x: (N, D) sparse CSR with n non-zeros.
            label: (N,) class numbers.

        Returns:
            (n,), in the order of the non-zeros: value · (W[feature, label] − mean over classes of W[feature]).
        """
        features = x.col_indices()
        label = label.repeat_interleave(x.crow_indices().diff())  # (n,)
        touched = self.table.weight[features]  # (n, K)
        return x.values() * self.decay * (touched.gather(1, label.unsqueeze(1)).squeeze(1) - touched.mean(dim=1))

    def learning_rate(self, step: int) -> float:
        """The rate of update number `step`: a pure function of the step and the planned total, so a resume knows it."""
        done = min(step / self.total_steps, 1.0)
        share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.lr * share[self.schedule]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The five steps: forward, loss, backward, update, zero."""
        x, target, _ = batch
        W, b, lr = self.table.weight, self.b, self.learning_rate(self.global_step)

        logits = self(x)  # 1. forward

        loss = cross_entropy(logits, target, self.class_weight, rows=rows_per_process(target))  # 2. loss

        self.manual_backward(loss)  # 3. backward

        with torch.no_grad():  # 4. update
            if self.clip_norm is not None or self._logs_this_step():
                lr *= self._log_and_clip(loss)
            # The gradient of l2 · ΣW² is 2 · l2 · W, so a step shrinks all of W by one factor; `decay` takes it.
            # W.grad is that of the stored W / decay, hence decay twice: in the gradient and in what is updated.
            before, self.decay = self.decay, self.decay * (1 - 2 * lr * self.l2)
            W.sub_(W.grad, alpha=lr / (before * self.decay))  # type: ignore[arg-type] # W -= lr * W.grad, no copy
            b.sub_(b.grad, alpha=lr)  # type: ignore[arg-type] # b -= lr * b.grad

        W.grad = b.grad = None  # 5. zero

        self._count_step()

    def _log_and_clip(self, loss: Tensor) -> float:
        """Log loss, |W| and |grad| if this step is to be logged; return what clipping multiplies the gradient by."""
        W, grad_W, grad_b = self.table.weight, self.table.weight.grad, self.b.grad
        assert grad_W is not None and grad_b is not None
        square_norm = (self.decay * torch.linalg.vector_norm(W)) ** 2  # |W|²; square().sum() would copy W
        if grad_W.is_sparse:
            grad_W = grad_W.coalesce()
            W, grad_W = W[grad_W.indices()[0]], grad_W.values()
        grad_W = grad_W / self.decay
        # |g + 2·l2·W|² multiplied out, so that no second matrix of W's size is needed
        squares = grad_W.square().sum() + 4 * self.l2 * self.decay * (grad_W * W).sum() + 4 * self.l2**2 * square_norm
        norm = (squares + grad_b.square().sum()).clamp(min=0).sqrt()
        if self._logs_this_step():
            self.log("train/loss", loss + self.l2 * square_norm, prog_bar=True, sync_dist=True, batch_size=1)
            self.log_dict({"train/W_norm": square_norm.sqrt(), "train/grad_norm": norm}, batch_size=1)
        return 1.0 if self.clip_norm is None else min(1.0, self.clip_norm / max(float(norm), 1e-12))

    def _logs_this_step(self) -> bool:
        return (self.global_step + 1) % self.log_every == 0

    def _count_step(self) -> None:
        """Let Lightning count the update, set the next rate, and fold `decay` into W at the end of the epoch."""
        counter = self.optimizers()
        counter.step()  # type: ignore[union-attr]
        counter.param_groups[0]["lr"] = self.learning_rate(self.global_step)  # type: ignore[union-attr]
        # Also long before float32 runs out of range; when depends on nothing but the step, so a resume does the same.
        if self.decay != 1.0 and (self.trainer.is_last_batch or self.decay < 1e-3):
            with torch.no_grad():
                self.table.weight.mul_(self.decay)
            self.decay = 1.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Validation loss and metrics."""
        self._evaluate(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log them; while training, choose the threshold anew, before the checkpoint is written."""
        if self.choose_threshold and self.trainer.state.fn == "fit":
            self.threshold = self.val_scope.choose_threshold()
        self._log_epoch("val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Test loss and metrics; returns the probabilities (N, K) for the report callbacks."""
        return self._evaluate(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Log them."""
        self._log_epoch("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities, (N, K)."""
        return self.predict_proba(batch[0])

    def configure_callbacks(self) -> list[L.Callback]:
        """Add none. Lightning asks before it checks its own options, so here those that can't work are refused."""
        trainer = self.trainer
        for option, value, remedy in (
            ("gradient_clip_val", trainer.gradient_clip_val, "set model.clip_norm instead"),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches > 1, "raise data.batch_size instead"),
            ("precision 16-mixed", trainer.precision == "16-mixed", "use --trainer.precision bf16-mixed"),
        ):
            if value:
                raise ValueError(f"trainer.{option} does not reach an update written by hand: {remedy}")
        return []

    def setup(self, stage: str) -> None:
        """Choose dense gradients where several processes cannot add sparse ones; DDP wants to know before it wraps."""
        self.table.sparse = reduces_sparse_gradients()

    def configure_optimizers(self) -> Any:
        """None that computes: a counter of steps."""
        return StepCounter([self.table.weight, self.b], self.lr)

    def on_fit_start(self) -> None:
        """Let the Trainer write its curves when this model has points for them."""
        self.trainer.log_every_n_steps = self.log_every  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        """Learn how many steps are planned, which fixes the schedule."""
        # Not earlier: asked for before the loops are restored, it would spoil a resume in the middle of an epoch.
        self.total_steps = float(self.trainer.estimated_stepping_batches)
        if self.schedule != "constant" and not math.isfinite(self.total_steps):
            raise ValueError(f"schedule {self.schedule!r} needs an end: set trainer.max_epochs or trainer.max_steps")
        self.optimizers().param_groups[0]["lr"] = self.learning_rate(self.global_step)  # type: ignore[union-attr]

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside W and b, in plain numbers."""
        return {"decay": self.decay, "threshold": self.threshold}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.decay, self.threshold = state["decay"], state["threshold"]

    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        x, target, _ = batch
        logits = self(x)
        proba = log_softmax(logits).exp()
        if len(target):  # a process may hold no row of the last batch
            getattr(self, f"{stage}_loss").update(cross_entropy(logits, target, self.class_weight), len(target))
            getattr(self, f"{stage}_metrics").update(proba.argmax(dim=1), target)
            if self.oos_class is not None:
                getattr(self, f"{stage}_scope").update(proba, target)
        return proba

    def _log_epoch(self, stage: str) -> None:
        loss, metrics = getattr(self, f"{stage}_loss"), getattr(self, f"{stage}_metrics")
        figures = {f"{stage}/loss": loss.compute() + l2_penalty(self.table.weight, self.l2) * self.decay**2}
        figures |= metrics.compute()
        loss.reset(), metrics.reset()
        if self.oos_class is not None:
            scope = getattr(self, f"{stage}_scope")
            figures |= {f"{stage}/{name}": value for name, value in scope.compute().items()}
            if self.threshold is not None:
                at = scope.compute_at(self.threshold)
                figures |= {f"{stage}_at_threshold/{name}": value for name, value in at.items()}
            scope.reset()
        shown = {f"{stage}/loss", f"{stage}/accuracy"}
        for name, value in figures.items():
            self.log(name, value, prog_bar=name in shown, sync_dist=True)


def _require(option: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{option} must be {expected}; got {value}")
