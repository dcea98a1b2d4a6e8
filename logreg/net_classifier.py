"""Classifier around any network with K logits, with the loss and the metrics of the linear models."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from logreg.classifier_module import ClassifierModule, require
from logreg.evaluation import multiclass_metrics


class MLP(nn.Module):
    """Two linear layers with a ReLU between them (article 2: "swap X @ W + b for nn.Linear layers").

    Args:
        num_features: D.
        num_classes: K.
        hidden: units between the layers.
    """

    def __init__(self, num_features: int, num_classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (N, D) to (N, K)."""
        return self.layers(x)


class NetClassifier(ClassifierModule):
    """Softmax over the logits of any `net`; automatic optimization.

    Args:
        net: maps rows (N, D) to logits (N, K), in YAML by class_path and init_args; train.py takes num_features and
            num_classes from the datamodule where its class has these arguments.
        num_classes: K; train.py takes it from the datamodule.
        optimizer: any torch optimizer, in YAML by class_path and init_args, in Python as partial(Adam, lr=0.01); its
            weight_decay is the penalty.
        lr_scheduler: any torch scheduler that needs no metric, or logreg.optimizers.DecayToZero.
        calibrate: fit a temperature on validation rows, for probabilities to trust, or take this one (calibration.py).
        num_features: D, for which `net` is tried at once; train.py takes it from the datamodule; None tries nothing.

    Raises:
        ValueError: fewer than 2 classes, or a net that does not map D features to K logits.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        calibrate: bool | float = False,
        num_features: int | None = None,
    ) -> None:
        super().__init__()
        require("num_classes", num_classes, num_classes >= 2, "at least 2")
        if num_features is not None:
            _require_sizes(net, num_features, num_classes)
        # The net is the caller's, on loading too, and with it the size of its rows.
        self.save_hyperparameters(ignore=["net", "optimizer", "lr_scheduler", "num_features"])
        self.net, self.optimizer, self.lr_scheduler = net, optimizer, lr_scheduler
        self.evaluate_with(multiclass_metrics(num_classes), calibrate)

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (N, D) to (N, K)."""
        return self.net(x)

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()  # the run's, or whatever the process was seeded with

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let what the net draws, as dropout does, follow from the batch's number: a resumed run draws the same."""
        number = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed((self._seed + 1_000_003 * number + self.global_rank) % 2**63)


def _require_sizes(net: nn.Module, num_features: int, num_classes: int) -> None:
    """Try the net on two rows, in evaluation mode: dropout takes no random number, batch norm learns nothing."""
    was_training, reason = net.training, None
    try:
        with torch.no_grad():
            got = f"(2, {num_features}) to {tuple(net.eval()(torch.zeros(2, num_features)).shape)}"
    except RuntimeError as error:  # torch's, for shapes that do not fit
        got, reason = f"an error: {error}", error
    net.train(was_training)
    expected = f"(2, {num_features}) to (2, {num_classes})"
    if got != expected:
        raise ValueError(f"model.net: expected one that maps rows {expected}, as the data has, got {got}") from reason
