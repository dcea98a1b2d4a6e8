"""The screen of a run: the shapes of a model before a fit, metrics after a test, and what to do next after a fit."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.nn.parameter import is_lazy

from callbacks.terminal import four_digits, print_table, relative

# Metrics in the order of a screen, by the last part of their names; others follow by the alphabet.
ORDER = (
    *("accuracy", "in_scope_accuracy", "oos_recall", "precision", "recall", "f1", "macro_f1", "auroc"),
    *("loss", "objective", "nll", "ece"),
)
# Pictures of a fit, those first that are worth opening first.
PICTURES = (
    *("boundary.gif", "weights.gif", "loss.png", "loss_surface.png", "val_confusion.png", "val_confused_pairs.png"),
    "val_top_features.png",
)
MOST_PICTURES = 2  # in a line of 80 columns


def shapes(model: nn.Module) -> str:
    """A linear model as "W (4, 3), b (3,): 15 parameters", any other with the number of its layers.

    A layer is a module with parameters of its own; parameters that have no shape yet are not counted.
    """
    parameters = [parameter for parameter in model.parameters() if not is_lazy(parameter)]
    number = sum(parameter.numel() for parameter in parameters)
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    if hasattr(type(model), "coefficients") and len(parameters) == 2:
        weight, bias = sorted((parameter.numel() for parameter in parameters), reverse=True)
        what = f"W ({weight // bias}, {bias}), b ({bias},)"
    else:
        layers = sum(any(True for _ in module.parameters(recurse=False)) for module in model.modules())
        what = f"{type(model).__name__} of {layers} layer{'' if layers == 1 else 's'}"
    return f"{what}: {number:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "")


class ShapesSummary(ModelSummary):
    """One line of shapes before a fit, in place of Lightning's table of submodules."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            print(shapes(pl_module))


class PrintedMetrics(L.Callback):
    """After `test` or `validate`: what it has logged, with four digits and in a fixed order."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = sorted(trainer.callback_metrics.items(), key=lambda item: _place(item[0]))
        if metrics and trainer.is_global_zero:
            print_table(("metric", "value"), [(name, four_digits(float(value))) for name, value in metrics])

    on_validation_end = on_test_end


def _place(name: str) -> tuple[str, int, str]:
    group, _, last = name.rpartition("/")
    return group, ORDER.index(last) if last in ORDER else len(ORDER), last


def print_end_of_fit(trainer: L.Trainer, best: str, run: Path, command: str | None) -> None:
    """Print the line on the best state, the run directory, pictures worth opening, and commands to go on with.

    `command` is the next one, None where another fit follows by itself.
    """
    print(best)
    print(f"run directory: {run}")
    if command is None:
        return
    pictures = [name for name in PICTURES if (run / "figures" / name).is_file()][:MOST_PICTURES]
    if pictures:
        print(f"pictures: {', '.join(pictures)} in {run / 'figures'}")
    boards: list[Any] = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    for line in (command, *(f"tensorboard --logdir {relative(board.log_dir)}" for board in boards[:1])):
        print(f"next: {line}")
