"""Pictures of a model while it learns: one every few epochs, one of its best state, and a GIF of the former."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L

from callbacks.figures.canvas import one_line_for, publish
from callbacks.files import write_then_rename
from callbacks.rows import evaluating
from callbacks.run.checkpoint_io import weights_of
from callbacks.run.checkpoints import own_checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_MS, LAST_FRAME_MS = 500, 2500


class Animation(L.Callback):
    """Draws the start, the state after some epochs and after the last one, and the best state.

    Writes figures/NAME_epoch_00030.png in the run directory, where 30 is the number of epochs completed, and at the end
    of training figures/NAME.gif, made of all of them, and figures/NAME_best.png of the state in best.ckpt. The same
    pixels go to the loggers, as TAG and TAG_best. A subclass sets `name` and `tag`, decides in `setup` whether this
    process draws (`self.draws`), and implements `scene`.

    Args:
        every_n_epochs: draw after every so many epochs; null after 1, 2, 3, 5, 8, 13, ... epochs, because a model moves
            most at first. The start and the last epoch are drawn in any case.

    Raises:
        ValueError: the argument is out of range.
    """

    name: str
    tag: str
    draws = False

    def __init__(self, every_n_epochs: int | None = None) -> None:
        super().__init__()
        if every_n_epochs is not None and every_n_epochs < 1:
            raise ValueError(f"expected every_n_epochs of at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self._start: float = math.inf  # epochs completed before this fit, once it trains
        self._drawn: set[int] = set()

    def scene(self, trainer: L.Trainer, model: Any, state: str) -> Callable[[Figure], Any]:
        """Look at the model, in evaluation mode, and return what draws it; `state` is "Epoch 30", for the title."""
        raise NotImplementedError

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember the first epoch, so that frames left by an abandoned run stay out of the GIF."""
        self._start = trainer.current_epoch  # epochs completed
        if trainer.global_step == 0:
            self._draw_epoch(trainer, pl_module, 0)

    # Lightning calls this after the epoch's validation and before the hooks of checkpoint callbacks. So when a
    # checkpoint counts an epoch as completed, its frame is on the disk, and a run resumed from there misses none.
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        is_last = trainer.should_stop or epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if is_last or (epoch % self.every_n_epochs == 0 if self.every_n_epochs else is_fibonacci(epoch)):
            self._draw_epoch(trainer, pl_module, epoch)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last epoch, if a callback that came after this one ended the training with it."""
        if trainer.current_epoch not in self._drawn:
            self._draw_epoch(trainer, pl_module, trainer.current_epoch)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the best state and make the GIF; also where a resume finds that the training had been completed."""
        if not self.draws:
            return
        best = own_checkpoint(trainer)
        if best is not None and best.best_model_path:
            with weights_of(best.best_model_path, pl_module):
                self._draw(trainer, pl_module, f"Best, {best.best_state}", "best", trainer.global_step)
        gif = Path(trainer.default_root_dir, "figures", f"{self.name}.gif")
        ended = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # number of epochs
        with one_line_for(gif):
            self._write_gif(gif, ended)

    def _draw_epoch(self, trainer: L.Trainer, model: L.LightningModule, epoch: int) -> None:
        if self.draws:
            step = max(trainer.global_step - 1, 0)  # loss curves count steps from 0
            self._draw(trainer, model, f"Epoch {epoch}", f"epoch_{epoch:05d}", step)
            self._drawn.add(epoch)

    def _draw(self, trainer: L.Trainer, model: L.LightningModule, state: str, which: str, step: int) -> None:
        with evaluating(model):
            draw = self.scene(trainer, model, state)
        publish(trainer, f"{self.name}_{which}", draw, step, self.tag + ("_best" if which == "best" else ""))

    def _write_gif(self, path: Path, last: int) -> None:
        from PIL import Image

        frames = []
        for frame in sorted(path.parent.glob(f"{self.name}_epoch_*.png")):
            epoch = int(frame.stem.rpartition("_")[2])
            if epoch <= min(self._start, last) or epoch in self._drawn:
                with Image.open(frame) as image:
                    frames.append(image.quantize(256, dither=Image.Dither.NONE))
        if frames:
            durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
            options = {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
            write_then_rename(path, lambda temporary: frames[0].save(temporary, "GIF", **options))


def is_fibonacci(number: int) -> bool:
    """Whether a number is one of 0, 1, 2, 3, 5, 8, 13, ...

    >>> [number for number in range(40) if is_fibonacci(number)]
    [0, 1, 2, 3, 5, 8, 13, 21, 34]
    """
    a, b = 0, 1
    while a < number:
        a, b = b, a + b
    return a == number
