"""Whether the counts of epochs, batches and steps in a checkpoint can all be true, so that a fit can go on."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from cli.checkpoint_schema import require
from datamodules.batches import BatchedDataModule

STAGES = ("completed", "processed", "started", "ready")  # of a piece of work, from its end to its beginning


def require_progress(checkpoint: dict[str, Any] | None, trainer: L.Trainer, data: L.LightningDataModule) -> None:
    """Refuse to resume where one count contradicts another: batches would be taken twice, or left out.

    Args:
        checkpoint: with the outline that `require_outline` asks for; None, or one without loops, passes.
        trainer: its own loops are the example of what Lightning keeps.
        data: whose loaders keep how far they were.

    Raises:
        ValueError: names the key, what was expected there and what came.
    """
    if checkpoint is None or "loops" not in checkpoint:
        return
    whole = (
        checkpoint["pytorch-lightning_version"] == L.__version__
    )  # another version may keep less, and count otherwise
    loop = checkpoint["loops"].get("fit_loop")
    _require_like(loop, trainer.fit_loop.state_dict(), "loops.fit_loop", whole)
    if not whole:
        return
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        begun = [_begun(loop[name][span]) for span in ("total", "current")]
        require(begun[0] == begun[1], f"loops.fit_loop.{name}", "the same work begun in total and current", loop[name])
    by_optimizer = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    steps = by_optimizer + loop["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
    require(checkpoint["global_step"] == steps, "global_step", f"{steps}, as in loops", checkpoint["global_step"])
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    changes = any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if trainer.accumulate_grad_batches == 1 and not changes:
        # Lightning counts a batch as stepped after its checkpoint, and after its validation
        stepped = batches["total"]["ready"] - (epochs["processed"] < epochs["ready"])
        found = loop["epoch_loop.state_dict"]["_batches_that_stepped"]
        require(found == stepped, "loops.fit_loop.epoch_loop.state_dict._batches_that_stepped", f"{stepped}", found)
    _require_loaders(loop, batches, isinstance(data, BatchedDataModule) and not trainer.overfit_batches)  # type: ignore[attr-defined]


def _require_loaders(loop: dict[str, Any], batches: dict[str, Any], resumable: bool) -> None:
    """Within an epoch, the loader of a `BatchedDataModule` has yielded the batches that the loop has taken."""
    loaders, key = loop["state_dict"].get("combined_loader", []), "loops.fit_loop.state_dict.combined_loader"
    require(isinstance(loaders, list), key, "a list", loaders)
    done = 0 if batches["is_last_batch"] else batches["current"]["ready"]
    if resumable and (loaders or done):
        require(
            repr(loaders) == repr([{"batches_yielded": done}]), key, f"batches_yielded {done}, as in loops", loaders
        )


def _begun(counts: dict[str, int]) -> list[int]:
    """How many were begun, up to each stage, that have not ended."""
    return [counts[stage] - counts["completed"] for stage in ("ready", "started", "processed")]


def _require_like(found: Any, example: Any, key: str, whole: bool) -> None:
    """The keys and types of an example, counts from 0, and at most one at a time begun and not ended."""
    require(isinstance(found, dict), key, "a map", found)
    for name in found:
        require(name in example or key.endswith("state_dict"), f"{key}.{name!s:.100}", "no such key", found[name])
    for name, like in example.items():
        value, inner = found.get(name), f"{key}.{name}"
        if name not in found and not whole:
            continue
        if isinstance(like, dict):
            _require_like(value, like, inner, whole)
        else:
            counts = type(value) is type(like) and 0 <= value < 2**53
            require(counts, inner, f"a value of type {type(like).__name__}, not below 0", value)
    stages = [found[stage] for stage in STAGES if stage in example and stage in found]
    if stages:
        in_order = stages == sorted(stages) and stages[-1] <= stages[0] + 1
        require(in_order, key, "at most one at a time begun and not ended", found)
