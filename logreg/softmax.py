"""Softmax regression with W and b updated by hand (article 2): no nn.Linear, no optim.SGD, no CrossEntropyLoss."""

from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from logreg.calibration import TemperatureScaling
from logreg.classifier_module import ClassifierModule, require
from logreg.decision import OutOfScopeMetrics, RejectBelowThreshold
from logreg.distributed import row_weights, supports_sparse_allreduce
from logreg.evaluation import Evaluation
from logreg.functional import class_weights, cross_entropy
from logreg.optimizers import HandUpdate
from logreg.scaled_matrix import ScaledMatrix


class SoftmaxRegression(ClassifierModule):
    """K classes, W of shape (D, K), b of shape (K,), and the five steps of article 2 by hand in `training_step`.

    Args:
        num_features: D; train.py takes it from the datamodule.
        num_classes: K; train.py takes it from the datamodule.
        lr: learning rate at the start, above 0.
        lr_scheduler: any torch scheduler that needs no metric, or logreg.optimizers.DecayToZero.
        l2: strength of the penalty l2 · ΣW² (article 2's l2_lambda), at least 0; the bias is not penalised.
        class_weight: "none", "balanced", or K numbers.
        bias_lr_factor: the rate of b as a share of W's, above 0. On sparse rows a lower one is steadier, because all
            rows move b and few move any one weight (scikit-learn's SGD: 0.01; Bottou 2012); the optimum is the same.
        clip_norm: maximum norm of the gradient over W and b together; null disables clipping.
        seed: of the 0.01 · N(0, 1) that W starts from; null takes the run's seed.
        threshold: below which largest in-scope probability, in [0, 1], a row is out of scope. "validation" chooses it
            after every validation, "none" takes the most probable class, "auto" is the former if there is an oos_class.
        oos_class: number of the out-of-scope class; train.py takes it from the datamodule.
        calibrate: fit a temperature on validation rows, for probabilities to trust, or take this one (calibration.py).
        class_counts: training rows of each class, for "balanced"; train.py takes it from the datamodule.

    Raises:
        ValueError: an option out of its range, or a threshold without an out-of-scope class.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        lr: float = 0.1,
        lr_scheduler: LRSchedulerCallable | None = None,
        l2: float = 0.0,
        bias_lr_factor: float = 1.0,
        class_weight: Literal["none", "balanced"] | list[float] = "none",
        clip_norm: float | None = None,
        seed: int | None = None,
        threshold: Literal["auto", "validation", "none"] | float = "auto",
        oos_class: int | None = None,
        calibrate: bool | float = False,
        class_counts: list[int] | None = None,
    ) -> None:
        super().__init__()
        require("num_features", num_features, num_features >= 1, "at least 1")
        require("num_classes", num_classes, num_classes >= 2, "at least 2")
        require("lr", lr, 0 < lr < float("inf"), "above 0")
        require("l2", l2, l2 >= 0 and 2 * lr * l2 < 1, "at least 0 and less than 1 / (2 · lr), else W changes sign")
        require("bias_lr_factor", bias_lr_factor, 0 < bias_lr_factor < float("inf"), "above 0")
        require("clip_norm", clip_norm, clip_norm is None or clip_norm > 0, "above 0, or null")
        self.save_hyperparameters(ignore=["lr_scheduler"])
        self.automatic_optimization = False  # Lightning leaves backward and update to training_step
        self.optimizer, self.lr_scheduler = partial(HandUpdate, lr=lr), lr_scheduler
        self.l2, self.bias_lr_factor, self.clip_norm = l2, bias_lr_factor, clip_norm
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.W = ScaledMatrix(torch.randn(num_features, num_classes, generator=generator).mul_(0.01))
        self.b = nn.Parameter(torch.zeros(num_classes))
        self.class_weight = class_weights(class_weight, class_counts, num_classes)  # (K,) or None
        self.decision = RejectBelowThreshold(oos_class, threshold)
        metrics: dict[str, Any] = {"accuracy": MulticlassAccuracy(num_classes, average="micro")}
        metrics["macro_f1"] = MulticlassF1Score(num_classes, average="macro")
        metrics |= {} if oos_class is None else {"out_of_scope": OutOfScopeMetrics(oos_class)}
        self.calibration = TemperatureScaling(calibrate)
        self.val, self.test = self.calibration.evaluations(metrics, oos_class)

    def forward(self, x: Tensor) -> Tensor:
        """Logits x @ W + b: (N, D), dense or sparse CSR, to (N, K)."""
        return self.W(x) + self.b

    def predict_label(self, proba: Tensor) -> Tensor:
        """The most probable class, or out of scope where no in-scope class is probable enough: (N, K) to (N,)."""
        return self.decision(proba)

    @property
    def threshold(self) -> float | None:  # None where the most probable class is the answer
        return self.decision.threshold

    def coefficients(self) -> Tensor:
        """W less the mean of each row, (D, K): what a feature adds to a logit above that of the average class."""
        return self.W.dense() - self.W.dense().mean(dim=1, keepdim=True)

    def contributions(self, x: Tensor, label: Tensor) -> list[list[tuple[int, float]]]:
        """Which features raised or lowered the logit of each row's label; see `ScaledMatrix.contributions`."""
        return self.W.contributions(x, label)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, target = batch[:2]
        W, b, lr = self.W, self.b, self.optimizers().param_groups[0]["lr"]

        logits = W(x) + b  # 1. forward
        loss = cross_entropy(logits, target, self.class_weight, **row_weights(batch))  # 2. loss
        self.manual_backward(loss)  # 3. backward
        self.log_step(loss)
        with torch.no_grad():  # 4. update
            lr *= self.clip_factor()
            W.descend_(lr, self.l2)  # W -= lr * (W.grad + 2 * l2 * W)
            b -= lr * self.bias_lr_factor * b.grad
        W.weight.grad = b.grad = None  # 5. zero
        self.count_step()

    def log_step(self, loss: Tensor) -> None:
        """Log loss, |W| and |gradient| before the update, every `trainer.log_every_n_steps`: curves and metrics.csv."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            square_norm = self.W.squared_norm()
            self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=1)
            self.log("train/objective", loss + self.l2 * square_norm, sync_dist=True, batch_size=1)
            self.log_dict({"train/W_norm": square_norm.sqrt(), "train/grad_norm": self.gradient_norm()}, batch_size=1)

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of the objective's gradient over W and b together, a scalar."""
        return (self.W.squared_gradient_norm(self.l2) + self.b.grad.square().sum()).sqrt()

    def clip_factor(self) -> float:
        """What to multiply the gradient by so that its norm is at most `clip_norm`."""
        return 1.0 if self.clip_norm is None else min(1.0, self.clip_norm / max(float(self.gradient_norm()), 1e-12))

    def evaluate(self, evaluation: Evaluation, x: Tensor, target: Tensor) -> None:
        logits = self(x)
        loss, log_proba = cross_entropy(logits, target, self.class_weight), self.log_proba(logits)
        label, proba = log_proba.argmax(dim=1), self.calibration(log_proba)
        evaluation.update(loss, preds=label, proba=proba, log_proba=log_proba, target=target)

    def penalty(self) -> Tensor:
        return self.l2 * self.W.squared_norm()

    def log_evaluation(self, evaluation: Evaluation) -> None:
        self.calibration.fit_and_log(self, evaluation)
        self.decision.choose_and_log(self, evaluation)  # by the probabilities at the new temperature
        evaluation.log(self, self.penalty())

    def setup(self, stage: str) -> None:
        """Choose dense gradients where several processes cannot add sparse ones, before DDP wraps the model."""
        self.W.sparse = supports_sparse_allreduce()
