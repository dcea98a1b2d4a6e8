"""ClassifierModule: the hooks of the Trainer, so that the models' own files are left with the mathematics."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import LearningRateFinder, ModelPruning, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from checkpoint_file import load_checkpoint
from logreg.calibration import CalibrationMetrics, TemperatureScaling
from logreg.distributed import mean_local_batch_size
from logreg.evaluation import Evaluation
from logreg.functional import cross_entropy, log_softmax
from logreg.optimizers import build_optimizers, plan_decay, prefer_configured_options

# Callbacks that expect weights as they are and an optimizer that moves them: not `scale · weight`, moved by hand.
UNSUPPORTED_CALLBACKS = (WeightAveraging, StochasticWeightAveraging, ModelPruning, LearningRateFinder)
FORMAT = 2  # of what a model keeps in a checkpoint; raised when older files can no longer be read
OBJECTS = ("net", "optimizer", "lr_scheduler")  # arguments that are no plain values: the caller's, never the file's
OF_DATA = ("num_features", "num_classes", "class_names", "class_counts", "oos_class")


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
    # DDP would send this one, which is equal on all processes, before every forward.
    _ddp_params_and_buffers_to_ignore = ("class_weight",)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Lightning inspects its arguments in every step, which without this takes a fifteenth of a small one.
        cls.training_step.__signature__ = inspect.signature(cls.training_step)  # type: ignore[attr-defined]

    def evaluate_with(self, metrics: Mapping[str, Metric], calibrate: bool | float, decision: Any = None) -> None:
        """Set calibration, decision and metrics.

        Args:
            metrics: of "val" and "test", by name. The decision's own are added, and those of calibration: to "val" only
                where a temperature is fitted.
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

    def nll(self, logits: Tensor, target: Tensor, denominator: Tensor | float, weight: Tensor | None = None) -> Tensor:
        """The summed negative log-likelihood, each row times its weight (N,), divided by `denominator`."""
        return cross_entropy(logits, target, denominator=denominator, sample_weight=weight)

    def penalty(self) -> Tensor | None:
        """The part of the objective beside the loss; None for nothing."""
        return None

    def compute_loss(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean negative log-likelihood over the batch, which several processes may share."""
        return self.nll(logits, target, mean_local_batch_size(target), weight)

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

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Log |W| and |gradient| before an update of an optimizer, every `trainer.log_every_n_steps`."""
        trainer, coefficients = cast(Any, self.trainer), cast(Any, getattr(self, "coefficients", None))
        if self.automatic_optimization and (self.global_step + 1) % trainer.log_every_n_steps == 0:
            gradients = [weight.grad.norm() for weight in self.parameters() if weight.grad is not None]
            self.log("train/grad_norm", torch.stack(gradients).norm())
            if coefficients is not None:
                self.log("train/W_norm", coefficients()[0].detach().norm())

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning's, set 44 times a step; torch's own way takes 5 % of a small one
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

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
        evaluation.update(loss, **scores, proba=proba, target=target, temperature=self.temperature)
        return proba

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log the loss and the metrics of a split at the end of its epoch; in a fit choose T and threshold before."""
        if evaluation is self.val and self.trainer.state.fn == "fit":
            self.calibration.fit(evaluation.metrics)
            if self.decision is not None:  # by the probabilities at the new T
                self.decision.choose(evaluation.metrics)
        if self.temperature != 1 and "calibration" in evaluation.metrics:
            evaluation.log_at(self, "calibration", "calibrated", temperature=self.temperature)
        if self.threshold is not None:
            evaluation.log_at(self, "out_of_scope", "at_threshold", threshold=self.threshold)
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
        """Refuse what would change an update written by hand, with a ValueError; Lightning itself refuses the rest."""
        if self.automatic_optimization:
            return []
        if self.trainer.precision == "16-mixed":
            raise ValueError("trainer.precision 16-mixed does not reach an update written by hand: use bf16-mixed")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, UNSUPPORTED_CALLBACKS):
                name = type(callback).__name__
                raise ValueError(
                    f"{name} does not apply to an update written by hand: leave it out, or use a model with optimizer"
                )
        return []

    def on_train_start(self) -> None:
        # Not in configure_optimizers: asking before the loops are restored would spoil a resume in mid-epoch.
        plan_decay(self.lr_schedulers(), self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["format_version"] = FORMAT

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """On a resume, let configured optimizer options win over the checkpoint's.

        Raises:
            ValueError: another format, or a model that was built for other data.
        """
        if (version := checkpoint.get("format_version")) != FORMAT:
            raise ValueError(
                f"expected a checkpoint of format version {FORMAT}, got {version!s:.100}: it was written by another "
                "version of the project; train again"
            )
        saved = checkpoint.get("hyper_parameters", {})
        for name in OF_DATA:
            if name in saved and name in self.hparams and saved[name] != self.hparams[name]:
                raise ValueError(
                    f"hyper_parameters.{name}: expected {self.hparams[name]!s:.200}, as the data has, "
                    f"got {saved[name]!s:.200}; use the run's config.yaml"
                )
        if "optimizer_states" in checkpoint and self._trainer is not None and self.trainer.state.fn == "fit":
            num_parameters = len(list(self.parameters()))
            prefer_configured_options(checkpoint, self.optimizer, self.lr_scheduler, num_parameters)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; a ValueError of one line refuses other names or shapes, and numbers that are not finite."""
        try:
            loaded = super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            mismatch = str(error).splitlines()[1].strip()  # torch has a line for each
            raise ValueError(f"state_dict: {mismatch[:300]}; use the run's config.yaml") from error
        for name, weight in self.named_parameters():
            if not weight.isfinite().all():
                raise ValueError(f"the checkpoint holds {name} with numbers that are not finite: train again")
        return loaded

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", weights_only: bool | None = True, **options: Any
    ) -> Any:
        """Build a model from the tensors and plain values of a file, without running anything that it names.

        Lightning's own lets the file choose what to instantiate (`hyper_parameters["_instantiator"]` and every
        `class_path` below it), and an environment variable whether pickled code may run.

        Args:
            checkpoint_path: a local path.
            map_location: the device that the model goes to, from the CPU: not every device has the file's float64.
            weights_only: False is refused.
            options: as for `from_checkpoint`.

        Raises:
            ValueError: weights_only=False, or a file that is no checkpoint or holds more than tensors and plain values.
        """
        if weights_only is False:
            raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
        return cls.from_checkpoint(load_checkpoint(checkpoint_path), **options).to(map_location)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], strict: bool = True, **options: Any) -> Any:
        """Build a model from what a checkpoint file holds.

        Args:
            checkpoint: tensors and plain values.
            strict: whether the names of the weights must match exactly.
            options: arguments of the class that replace the file's.

        Raises:
            ValueError: hyperparameters that the class does not take, or a state that does not fit.
        """
        saved = checkpoint.get("hyper_parameters", {})
        signatures = [inspect.signature(parent.__init__).parameters for parent in cls.__mro__]  # type: ignore[misc]
        known = {name for signature in signatures for name in signature} - {"self", *OBJECTS}
        for name in saved:
            if name not in known:
                raise ValueError(f"hyper_parameters: expected plain options of {cls.__name__}, got {name!r}")
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signatures[0].values())
        arguments = {name: value for name, value in saved.items() if takes_any or name in signatures[0]} | options
        model = cls(**arguments)
        model.on_load_checkpoint(checkpoint | {"hyper_parameters": arguments})
        model.load_state_dict(checkpoint["state_dict"], strict=strict)
        return model


def require(option: str, value: object, holds: bool, expected: str) -> None:
    """Raise a ValueError that names the option, what was expected and what came, unless `holds`."""
    if not holds:
        raise ValueError(f"{option} must be {expected}, got {value}")
