"""A progress bar and a profiler that cost a step next to nothing."""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn, MetricsTextColumn
from lightning.pytorch.profilers import PassThroughProfiler
from rich import get_console
from rich.progress import TextColumn, TimeRemainingColumn
from rich.text import Text

NOTHING: AbstractContextManager[None] = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Lightning's default profiler without its work: a generator for each of some sixty actions of every step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return NOTHING


class ThrottledProgressBar(RichProgressBar):
    """One line for a whole fit, test or prediction, on a terminal alone, updated five times a second.

    Updated after every batch, Lightning's own bar takes a sixth of a fit whose steps last a millisecond or two. The bar
    of a fit stays with its last metrics, those of other commands go. A validation within a fit gets a bar of its own
    once it has lasted for two seconds.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=5)
        self._updated = self._validating_since = -math.inf  # times

    @property
    def is_enabled(self) -> bool:
        console = get_console()
        return super().is_enabled and (console.is_terminal or console.is_jupyter)

    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        """Description, bar and time left, narrow enough for three metrics in 80 columns."""
        self._metric_component = MetricsInOneLine(trainer)  # Lightning puts it last
        bar = CustomBarColumn(bar_width=max(8, min(40, get_console().width - 72)))
        return [TextColumn("{task.description}"), bar, TimeRemainingColumn(compact=True, elapsed_when_finished=True)]

    def _init_progress(self, trainer: L.Trainer) -> None:
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = trainer.state.fn != "fit"

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the one bar, which counts the batches of all epochs."""
        if self.is_enabled and self.progress is not None:
            if self.train_progress_bar_id is None:
                self._initialize_train_progress_bar_id()
            else:
                description = self._get_train_description(trainer.current_epoch)
                self.progress.update(self.train_progress_bar_id, description=description)

    def _initialize_train_progress_bar_id(self) -> None:
        trainer = self.trainer
        epochs = math.inf if self._is_endless else trainer.max_epochs
        batches = self.total_train_batches * epochs  # type: ignore[operator]  # one that is not None
        if trainer.max_steps > 0:
            batches = min(batches, trainer.max_steps * trainer.accumulate_grad_batches)
        self.train_progress_bar_id = self._add_task(batches, self._get_train_description(trainer.current_epoch))

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch + 1}" + ("" if self._is_endless else f"/{self.trainer.max_epochs}")

    @property
    def _is_endless(self) -> bool:
        return self.trainer.max_epochs in (None, -1)

    def _update(self, progress_bar_id: Any, current: int, visible: bool = True, hard: bool = False) -> None:
        if progress_bar_id == self.train_progress_bar_id:
            current = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
        super()._update(progress_bar_id, current, visible, hard)

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Forward the hook at most `refresh_rate` times per second, and after an epoch's last batch."""
        now = time.monotonic()
        if now - self._updated >= 1 / self.refresh_rate or trainer.is_last_batch:
            self._updated = now
            super().on_train_batch_end(trainer, *rest)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validating_since = time.monotonic()
        super().on_validation_start(trainer, pl_module)

    def on_validation_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        if trainer.state.fn != "fit" or time.monotonic() - self._validating_since > 2:
            super().on_validation_batch_end(trainer, *rest)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End the bar, full also after an early stop, before anything is printed below it."""
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, total=self.train_progress_bar.completed)
        self._stop_progress()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        if trainer.state.fn != "fit":
            self._stop_progress()

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_progress()

    on_predict_epoch_end = on_test_epoch_end

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Add the last train/loss: logged for the bar, it would be read, and a GPU waited for, at every step."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the run's path tells it
        loss = trainer.callback_metrics.get("train/loss")
        return metrics if loss is None else {"train/loss": float(loss)} | metrics


class MetricsInOneLine(MetricsTextColumn):
    """The metrics at the end of a bar, cut where the terminal ends."""

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer, style="", text_delimiter=" ", metrics_format=".3f")

    def render(self, task: Any) -> Text:
        shows = task.id == getattr(self._trainer.progress_bar_callback, "train_progress_bar_id", None)
        texts = [text.replace(": ", " ") for text in self._generate_metrics_texts()] if shows else []
        return Text(self._text_delimiter.join(texts), no_wrap=True, overflow="ellipsis")
