"""What the Trainer asks of every model here, so that the models' own files are left with the mathematics."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateFinder, ModelPruning, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from logreg.calibration import TemperatureScaling
from logreg.evaluation import Evaluation
from logreg.functional import log_softmax
from logreg.loading import load_safely, require_state
from logreg.optimizers import build_optimizers, plan_decay, prefer_configured_options

BEYOND_REACH = {  # what a callback would do to an update by hand
    WeightAveraging: "average scale · weight",
    StochasticWeightAveraging: "average scale · weight",
    ModelPruning: "prune scale · weight",
    LearningRateFinder: "set the rate of an update written by hand",
}
FORMAT = 2  # of what a model keeps in a checkpoint; raised when older files can no longer be read


class ClassifierModule(L.LightningModule):
    """Evaluation, prediction, optimizers and checkpoints around a model's `training_step`.

    The Trainer owns the loop and calls these methods by their names: `configure_optimizers` once, `training_step` for
    each batch, and after each epoch `validation_step` for each batch, then `on_validation_epoch_end`; the others in
    `test`, in `predict` and around checkpoints. What goes to `self.log` comes out in TensorBoard and metrics.csv.

    A model sets the five attributes below in `__init__`, and implements `forward`, from rows to logits, `training_step`
    and `evaluate`; one whose probabilities are not the softmax of its logits also `log_proba`, one with a penalty also
    `penalty`. Its batches are (x, target) or (x, target, anything else).
    """

    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None
    calibration: TemperatureScaling
    val: Evaluation
    test: Evaluation
    # DDP would send these, which are equal on all processes, before every forward.
    _ddp_params_and_buffers_to_ignore = ("class_weight", "neg_weight", "pos_weight")

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

    def evaluate(self, evaluation: Evaluation, x: Tensor, target: Tensor) -> Tensor:
        """Update `evaluation` with the mean loss and the scores of rows x (N, D) of classes target (N,).

        Returns:
            Probabilities (N, K), as `predict_proba` gives them.
        """
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What the objective adds to the loss; None for nothing."""
        return None

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log what `evaluation` holds, at the end of its epoch."""
        self.calibration.fit_and_log(self, evaluation)
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
            for kind, what in BEYOND_REACH.items():
                if isinstance(callback, kind) and not self.automatic_optimization:
                    name = type(callback).__name__
                    raise ValueError(f"{name} cannot {what}: leave it out, or use a model with optimizer")
        return []

    def on_train_start(self) -> None:
        # Not in configure_optimizers: asking before the loops are restored would spoil a resume in mid-epoch.
        plan_decay(self.lr_schedulers(), self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the format version."""
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
