"""Rows of a split, collected batch by batch on every process, for whoever reports on them at its end.

N rows of a batch, K classes.
"""

from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from callbacks.protocols import Classifier, LabelledData, datamodule_of, lack


class RowCollector(L.Callback):
    """Collects tensors over the rows of a split, batch by batch.

    A batch is `(x, target, indices)`, as the datamodules here yield it, where `indices` (N,) are the numbers of its
    rows within their split. Without them, `(x, target)` or a bare `x`, rows are numbered in the order they come.
    """

    def __init__(self) -> None:
        self.clear()

    @staticmethod
    def unmet(model: object, datamodule: object) -> str | None:
        """What this report needs that model or datamodule lacks, in one line with signatures; None if it applies."""
        return lack(model, Classifier) or lack(datamodule, LabelledData)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a model or a datamodule that lacks something, with a ValueError, before anything runs."""
        unmet = self.unmet(pl_module, datamodule_of(trainer))
        if unmet:
            raise ValueError(f"{type(self).__name__} does not apply: {unmet}; add it, or leave this callback out")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.clear()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._batches: list[tuple[Tensor, ...]] = []
        self._num_rows = 0

    def predict(self, trainer: L.Trainer, pl_module: object, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (N, K), labels (N,) and the labels' probabilities (N,)."""
        model = cast(Classifier, pl_module)  # setup has checked
        with trainer.precision_plugin.forward_context():
            proba = model.predict_proba(x)
        label = model.predict_label(proba)
        return proba, label, proba.gather(1, label.unsqueeze(1)).squeeze(1)

    def collect(self, trainer: L.Trainer, indices: Tensor | None, *columns: Tensor) -> None:
        """Keep tensors of N rows each."""
        if indices is None:
            if trainer.world_size > 1:
                raise ValueError(
                    f"{type(self).__name__} expected batches (x, target, indices), got no indices, and several "
                    "processes cannot number their rows without: add them, or use --trainer.devices 1"
                )
            indices = torch.arange(self._num_rows, self._num_rows + len(columns[0]))
        self._num_rows += len(indices)
        self._batches.append((indices, *columns))

    def gather(self) -> tuple[Tensor, ...]:
        """Indices and columns, of all batches and processes, in the order of the indices; empty if there was no row.

        All processes must call it; those that come after it in `collect` are kept for the next call.
        """
        columns = [torch.cat([part.cpu() for part in column]) for column in zip(*self._batches, strict=True)]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            of_process: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(of_process, columns)
            columns = [torch.cat(parts) for parts in zip(*filter(None, of_process), strict=True)]
        self._batches = []
        if not columns or not len(columns[0]):
            return ()
        if bool((columns[0].diff() > 0).all()):  # as one process leaves them; a copy would take as much memory again
            return tuple(columns)
        order = columns[0].argsort()
        return tuple(column[order] for column in columns)


def batch_parts(batch: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x, target and indices of a batch; None for what it lacks."""
    parts = [batch] if isinstance(batch, Tensor) else batch
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= 3:
        raise ValueError(f"expected a batch x, (x, target) or (x, target, indices), got a {type(batch).__name__}")
    x, target, indices = (*parts, None, None)[:3]
    return x, target, indices
