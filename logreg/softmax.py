"""Softmax regression with W and b updated by hand (article 2): no nn.Linear, no optim.SGD, no CrossEntropyLoss."""

# mypy: disable-error-code="union-attr, operator, misc, attr-defined, call-arg"
# Gradients and optimizers are unions to mypy; the six steps stay as the article writes them.

from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable
from torch import Tensor, nn

from logreg.classifier_module import ClassifierModule, require
from logreg.decision import RejectBelowThreshold
from logreg.distributed import supports_sparse_allreduce
from logreg.evaluation import multiclass_metrics
from logreg.functional import class_weights, cross_entropy
from logreg.optimizers import HandUpdate
from logreg.scaled_matrix import ScaledMatrix


class SoftmaxRegression(ClassifierModule):
    """K classes, W of shape (D, K), b of shape (K,), and the six steps of article 2 by hand in `training_step`.

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

    class_weight: Tensor | None

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
        weight = class_weights(class_weight, class_counts, num_classes)  # (K,) or None
        self.register_buffer("class_weight", weight, persistent=False)
        self.evaluate_with(multiclass_metrics(num_classes), calibrate, RejectBelowThreshold(oos_class, threshold))

    def forward(self, x: Tensor) -> Tensor:
        """Logits x @ W + b: (N, D), dense or sparse CSR, to (N, K)."""
        return self.W(x) + self.b

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """W and b, (D, K) and (K,)."""
        return self.W.dense(), self.b

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, target = batch[:2]  # 1. shuffle: the sampler draws the rows in a new order each epoch
        logits = self.forward(x)  # 2. forward: x @ W + b
        loss = self.compute_loss(logits, target, getattr(batch, "weight", None))  # 3. loss: how wrong are we?
        self.manual_backward(loss)  # 4. backward: autograd computes d(loss)/d(W) and d(loss)/d(b)
        self.log_step(loss)
        lr, bias_lr = self.rates()
        with torch.no_grad():  # 5. update: step opposite to the gradient
            self.W.descend_(lr, self.l2)  # W -= lr * (W.grad + 2 * l2 * W)
            self.b -= bias_lr * self.b.grad
        self.W.weight.grad = self.b.grad = None  # 6. zero the gradients, otherwise they accumulate
        self.count_step()

    def rates(self) -> tuple[float, Any]:
        """The rates of W and of b, so low that no step is longer than one along a gradient of norm `clip_norm`."""
        lr = self.optimizers().param_groups[0]["lr"]
        if self.clip_norm is not None:
            lr *= min(1.0, self.clip_norm / max(float(self.gradient_norm()), 1e-12))
        return lr, lr * self.bias_lr_factor

    def log_step(self, loss: Tensor) -> None:
        """Log loss, |W| and |gradient| before the update, every `trainer.log_every_n_steps`: curves and metrics.csv."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:
            square_norm = self.W.squared_norm()
            self.log("train/loss", loss, sync_dist=True, batch_size=1)
            self.log("train/objective", loss + self.l2 * square_norm, sync_dist=True, batch_size=1)
            self.log_dict({"train/W_norm": square_norm.sqrt(), "train/grad_norm": self.gradient_norm()}, batch_size=1)

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of the objective's gradient over W and b together, a scalar."""
        return (self.W.squared_gradient_norm(self.l2) + self.b.grad.square().sum()).sqrt()

    def nll(self, logits: Tensor, target: Tensor, denominator: Tensor | float, weight: Tensor | None = None) -> Tensor:
        """The summed cross-entropy, weighted by class and row, divided by `denominator`."""
        return cross_entropy(logits, target, self.class_weight, denominator=denominator, sample_weight=weight)

    def penalty(self) -> Tensor:
        return self.l2 * self.W.squared_norm()

    def preds(self, logits: Tensor, log_proba: Tensor) -> Tensor:
        return log_proba.argmax(dim=1)

    def setup(self, stage: str) -> None:
        """Choose dense gradients where several processes cannot add sparse ones, before DDP wraps the model."""
        self.W.sparse = supports_sparse_allreduce()
