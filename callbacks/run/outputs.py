"""Files of an evaluation: test_metrics.json, and predictions.pt where no report writes what `predict_step` returns."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import CombinedLoader
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from callbacks.files import as_json, atomic_write_text, write_then_rename
from callbacks.run.checkpoint_io import as_loadable
from callbacks.run.loggers import logged_steps


def evaluated_part(trainer: L.Trainer) -> str | None:
    """How many of the batches a validation, test or prediction took, "1 of 2 batches"; None if all."""
    kind = {"validate": "val", "test": "test", "predict": "predict"}[trainer.state.fn]  # type: ignore[index]
    taken: list[int | float] = getattr(trainer, f"num_{kind}_batches")
    loaders = CombinedLoader(getattr(trainer, f"{kind}_dataloaders"), "sequential").flattened
    lengths = [float("inf") if (length := sized_len(loader)) is None else length for loader in loaders]
    if taken == lengths:
        return None
    of_all = "" if float("inf") in lengths else f" of {sum(lengths)}"
    return f"{sum(taken)}{of_all} batches (trainer.limit_{kind}_batches)"


class MetricsWriter(L.Callback):
    """After `test`: test_metrics.json, all metrics that it logged.

    Of a part of the rows the file has a further entry, "partial". Loggers get the metrics at the checkpoint's step.
    """

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = logged_steps(checkpoint)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        metrics: dict[str, float | str] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if (part := evaluated_part(trainer)) is not None:
            metrics["partial"] = part
        atomic_write_text(Path(trainer.default_root_dir, "test_metrics.json"), as_json(metrics, indent=2) + "\n")


class OutputSaver(L.Callback):
    """After `predict`: predictions.pt in the run directory, for `torch.load`.

    It is a list of what `predict_step` returned for each batch, in order; for several loaders, a list of such lists.
    Tensors are on the CPU, in lists, tuples and dicts as they were. Each of several processes writes the batches of its
    own, the first into predictions_0.pt. Beside a BasePredictionWriter nothing is written; outputs that no file can
    hold safely cost one line.
    """

    def __init__(self) -> None:
        self._outputs: list[list[Any]] = []
        self._problem = ""

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        if outputs is None or self._problem:
            return
        try:
            kept = as_loadable(apply_to_collection(outputs, Tensor, _copy), "predict_step's output")
        except ValueError as error:
            self._problem, self._outputs = str(error), []
            return
        self._outputs += [[] for _ in range(loader + 1 - len(self._outputs))]
        self._outputs[loader].append(kept)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if trainer.fast_dev_run or any(isinstance(other, BasePredictionWriter) for other in callbacks):  # type: ignore[attr-defined]
            return
        if self._problem:
            print(f"`predict` saves nothing: {self._problem}")
        elif self._outputs:
            outputs = self._outputs if len(self._outputs) > 1 else self._outputs[0]
            of_process = "" if trainer.world_size == 1 else f"_{trainer.global_rank}"
            path = Path(trainer.default_root_dir, f"predictions{of_process}.pt")
            write_then_rename(path, lambda temporary: torch.save(outputs, temporary))
            print(f"what predict_step returned, {sum(map(len, self._outputs))} batches, is in {path} (torch.load)")


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU; a copy, because a view would bring all that it is a view of into the file."""
    return tensor.detach().cpu().clone()
