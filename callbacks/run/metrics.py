"""test_metrics.json, and the share of the rows that an evaluation took."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities import CombinedLoader

from callbacks.files import as_json, atomic_write_text


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
    """After `test`: test_metrics.json, all metrics of names that begin with "test".

    Of a part of the rows the file has a further entry, "partial". Loggers get the metrics at the checkpoint's step.
    """

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = checkpoint.get("global_step", 0)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = trainer.callback_metrics.items()
        metrics: dict[str, float | str] = {name: float(value) for name, value in found if name.startswith("test")}
        if (part := evaluated_part(trainer)) is not None:
            metrics["partial"] = part
        atomic_write_text(Path(trainer.default_root_dir, "test_metrics.json"), as_json(metrics, indent=2) + "\n")
