"""ClassifierModule: the hooks of the Trainer, so that the models' own files are left with the mathematics."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateFinder, ModelPruning, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from logreg.calibration import CalibrationMetrics, TemperatureScaling
from logreg.distributed import mean_local_batch_size
from logreg.evaluation import Evaluation
from logreg.functional import cross_entropy, log_softmax
from logreg.loading import load_safely, require_state
from logreg.optimizers import build_optimizers, plan_decay, prefer_configured_options

UNSUPPORTED_CALLBACKS = {  # what a callback would do to an update by hand
    WeightAveraging: "average scale · weight",
    StochasticWeightAveraging: "average scale · weight",
    ModelPruning: "prune scale · weight",
    LearningRateFinder: "set the rate of an update written by hand",
}
FORMAT = 2  # of what a model keeps in a checkpoint; raised when older files can no longer be read


class ClassifierModule(L.LightningModule):
    """Training, evaluation, prediction, optimizers and checkpoints of a model that maps rows to logits.

    The Trainer owns the loop and calls these methods by their names: `configure_optimizers` once, `training_step` for
    each batch, and after each epoch `validation_step` for each batch, then `on_validation_epoch_end`; the others in
    `test`, in `predict` and around checkpoints. What goes to `self.log` comes out in TensorBoard and metrics.csv.

    A model sets `optimizer` and `lr_scheduler`, calls `evaluate_with` in `__init__`, and implements `forward`, from
    rows to logits. It overrides what is not as here: `nll`, `log_proba`, `penalty`, `preds`, or all of `training_step`.
    Its batches are (x, target) or (x, target, anything else).
    """

    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None
    # DDP would send these, which are equal on all processes, before every forward.
    _ddp_params_and_buffers_to_ignore = ("class_weight", "neg_weight", "pos_weight")

    def evaluate_with(self, metrics: Mapping[str, Metric], calibrate: bool | float, decision: Any = None) -> None:
        """Set what probabilities and labels are made by, and judged by.

        Args:
            metrics: of "val" and "test", by name; added to are those of the decision, and of the probabilities: for
                "val" only where a temperature is fitted.
            calibrate: see `TemperatureScaling`.
            decision: a rule to reject rows with low probabilities; None for the most probable class.
        """
        self.decision, self.calibration = decision, TemperatureScaling(calibrate)
        oos_class = None
        if decision is not None:
            metrics, oos_class = {**metrics, **decision.metrics()}, decision.oos_class
        judged = {**metrics, "calibration": CalibrationMetrics(oos_class)}
        self.val = Evaluation("val", judged if self.calibration.calibrate else metrics)
        self.test = Evaluation("test", judged)

    def nll(
        self, logits: Tensor, target: Tensor, denominator: Tensor | float, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The summed negative log-likelihood of logits for classes target (N,), divided by `denominator`.

        Args:
            sample_weight: by which each row counts, (N,); None counts every row once.
        """
        return cross_entropy(logits, target, denominator=denominator, sample_weight=sample_weight)

    def penalty(self) -> Tensor | None:
        """The part of the objective beside the loss; None for nothing."""
        return None

    def compute_loss(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The mean negative log-likelihood over the batch, which several processes may share."""
        return self.nll(logits, target, mean_local_batch_size(target), sample_weight)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The objective, which Lightning differentiates and hands to the optimizer."""
        x, target = batch[:2]
        objective = loss = self.compute_loss(self(x), target, getattr(batch, "weight", None))
        if (penalty := self.penalty()) is not None:
            objective = loss + penalty
        if self.is_logged:
            self.log("train/loss", loss, sync_dist=True, batch_size=len(target))
            if penalty is not None:
                self.log("train/objective", objective, sync_dist=True, batch_size=len(target))
        return objective

    def log_proba(self, logits: Tensor) -> Tensor:
        """Log-probabilities (N, K) as trained, before calibration, from what `forward` returns."""
        return log_softmax(logits)

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities: (N, D) to (N, K), rows sum to 1."""
        return self.calibration(self.log_proba(self(x)))

    @property
    def temperature(self) -> float:
        """T of these probabilities; 1 where they are as trained."""
        return self.calibration.temperature

    def predict_label(self, proba: Tensor) -> Tensor:
        """The most probable class, or out of scope where no in-scope class is probable enough: (N, K) to (N,)."""
        return proba.argmax(dim=1) if self.decision is None else self.decision(proba)

    @property
    def threshold(self) -> float | None:
        """Below which largest in-scope probability a row is out of scope; None for the most probable class."""
        return None if self.decision is None else self.decision.threshold

    def preds(self, logits: Tensor, log_proba: Tensor) -> Tensor:
        """The `preds` that torchmetrics' metrics of the model take."""
        return logits

    def evaluate(self, evaluation: Evaluation, x: Tensor, target: Tensor) -> Tensor:
        """Update `evaluation` with the mean loss and the scores of rows x (N, D) of classes target (N,).

        Returns:
            Probabilities (N, K), as `predict_proba` gives them.
        """
        logits = self(x)
        loss, log_proba = self.nll(logits, target, max(len(target), 1)), self.log_proba(logits)
        scores = {"preds": self.preds(logits, log_proba), "logits": logits, "log_proba": log_proba}
        proba = self.calibration(log_proba)
        evaluation.update(loss, **scores, proba=proba, target=target)
        return proba

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log the loss and the metrics of a split, at the end of its epoch."""
        self.calibration.fit_and_log(self, evaluation)
        if self.decision is not None:  # by the probabilities at the new temperature
            self.decision.choose_and_log(self, evaluation)
        evaluation.log(self, self.penalty())

    @property
    def is_logged(self) -> bool:
        """Whether Lightning logs this step, or an epoch ends with it; in others a value logged costs time in vain."""
        trainer: Any = self._trainer  # None for a step by hand
        return trainer is None or (self.global_step + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate(self.val, *batch[:2])

    def on_validation_epoch_end(self) -> None:
        self.log_evaluation(self.val)

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities (N, K), for reports and pictures."""
        return self.evaluate(self.test, *batch[:2])

    def on_test_epoch_end(self) -> None:
        self.log_evaluation(self.test)

    def count_step(self) -> None:
        """After an update by hand: let Lightning count it, and set the next rate before a checkpoint is written."""
        self.optimizers().step()  # type: ignore[union-attr]  # there is one
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == "step" or self.trainer.is_last_batch:
                config.scheduler.step()  # type: ignore[call-arg]  # build_optimizers takes none that needs a metric

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities (N, K) of a batch of rows, or of a tuple that begins with them."""
        return self.predict_proba(batch if isinstance(batch, Tensor) else batch[0])

    def configure_optimizers(self) -> Any:
        return build_optimizers(self.optimizer, self.lr_scheduler, self.parameters())

    def configure_callbacks(self) -> list[L.Callback]:
        """Reject Trainer options that a hand-written update cannot honour, naming the remedy."""
        # Of Lightning's hooks the one that runs before its own checks, which name none.
        trainer = self.trainer
        for option, value, remedy in (
            ("gradient_clip_val", trainer.gradient_clip_val, "set model.clip_norm instead"),
            ("accumulate_grad_batches", trainer.accumulate_grad_batches > 1, "raise data.batch_size instead"),
            ("precision 16-mixed", trainer.precision == "16-mixed", "use --trainer.precision bf16-mixed"),
        ):
            if value and not self.automatic_optimization:
                raise ValueError(f"trainer.{option} does not reach an update written by hand: {remedy}")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for kind, effect in UNSUPPORTED_CALLBACKS.items():
                if isinstance(callback, kind) and not self.automatic_optimization:
                    name = type(callback).__name__
                    raise ValueError(f"{name} cannot {effect}: leave it out, or use a model with optimizer")
        return []

    def on_train_start(self) -> None:
        # Not in configure_optimizers: asking before the loops are restored would spoil a resume in mid-epoch.
        plan_decay(self.lr_schedulers(), self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["format_version"] = FORMAT

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what is not this model's with a ValueError; let configured optimizer options win over the file's."""
        found = checkpoint.get("format_version")
        if type(found) is not int or found != FORMAT:
            raise ValueError(
                f"the checkpoint has format version {found!s:.100}, this code reads {FORMAT}: it was written by "
                f"{'an earlier' if found is None else 'another'} version of the project; train again"
            )
        require_state(self, checkpoint)
        if "optimizer_states" in checkpoint and self.trainer.state.fn == "fit":
            prefer_configured_options(checkpoint, self.optimizer, self.lr_scheduler, self.parameters())

    load_from_checkpoint = classmethod(load_safely)  # type: ignore[assignment]


def require(option: str, value: object, holds: bool, expected: str) -> None:
    """Raise a ValueError that names the option, what was expected and what came, unless `holds`."""
    if not holds:
        raise ValueError(f"{option} must be {expected}, got {value}")
