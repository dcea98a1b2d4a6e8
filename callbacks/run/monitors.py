"""Monitored metrics: the loss that decides by itself, and names that are never logged."""

import re
from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

AUTO = "auto"
OF_VALIDATION = re.compile(r"(?i)(^|[^a-z])val(id|idation)?([^a-z]|$)")  # in the name of a metric
OF_LATER_LOADER = re.compile(r"/dataloader_idx_[1-9]\d*$")


def validation_loss(logged: Iterable[str]) -> str | None:
    """Of metrics that a validation has logged val/loss, or else the only loss, or None; of several loaders the first.

    >>> validation_loss({"val_acc", "val_loss", "val_loss_epoch"})
    'val_loss'
    >>> validation_loss({"val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"})
    'val_loss/dataloader_idx_0'
    """
    losses = {name for name in logged if "loss" in name.lower() and not OF_LATER_LOADER.search(name)}
    losses = {name for name in losses if name.removesuffix("_epoch") not in losses - {name}}
    for name in ("val/loss", "val/loss/dataloader_idx_0"):
        if name in losses:
            return name
    return losses.pop() if len(losses) == 1 else None


def require_logged(trainer: L.Trainer, own: ModelCheckpoint, of_validation: bool = False) -> None:
    """Refuse, with a ValueError, the name of a metric that something waits for, but nothing logs.

    `own` is what the section `checkpoint` configures; before an epoch has ended, only metrics `of_validation` can be
    missed.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    waiting: list[tuple[Any, Any]] = [(c, c) for c in callbacks if isinstance(c, EarlyStopping | ModelCheckpoint)]
    waiting += [(config.scheduler, config) for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
    for one, options in waiting:
        name = options.monitor
        if name in (None, AUTO, *trainer.callback_metrics) or not getattr(options, "strict", True):
            continue
        if of_validation and not (trainer.callback_metrics and OF_VALIDATION.search(name)):
            continue  # a model that logs nothing in the sanity check may leave it out on purpose
        option = "checkpoint.monitor" if one is own else f"monitor of {type(one).__name__}"
        found = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
        later = "; if it is logged after the sanity check: --trainer.num_sanity_val_steps 0"
        remedy = later if trainer.sanity_checking else ""
        raise ValueError(f"expected {name} ({option}) to be logged, got only: {found}{remedy}")
