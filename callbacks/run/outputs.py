"""predictions.pt: what `predict_step` returns, where no report writes it."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from callbacks.files import write_then_rename
from callbacks.run.checkpoint_io import as_loadable


class OutputSaver(L.Callback):
    """After `predict`: predictions.pt in the run directory, for `torch.load`.

    It is a list of what `predict_step` returned for each batch, in order; for several loaders, a list of such lists.
    Tensors are on the CPU, in lists, tuples and dicts as they were. Each of several processes writes the batches of its
    own, the first into predictions_0.pt. Beside a BasePredictionWriter nothing is written; outputs that no file can
    hold safely cost one line.
    """

    def __init__(self) -> None:
        self.path: Path | None = None  # of the file, once there is one
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
            self.path = Path(trainer.default_root_dir, f"predictions{of_process}.pt")
            write_then_rename(self.path, lambda temporary: torch.save(outputs, temporary))
            print(f"what predict_step returned, {sum(map(len, self._outputs))} batches, is in {self.path} (torch.load)")


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU; a copy, because a view would bring all that it is a view of into the file."""
    return tensor.detach().cpu().clone()
