"""The canvas of every picture: palette, style, fonts, new figures, saving.

A new picture is a function that draws on a `Figure`, and a callback that gives it to `publish`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.loggers import Logger

from callbacks.files import write_then_rename

# matplotlib, Pillow and numpy are imported where they are used, to keep `train.py --help` fast.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): eight colours that colour-blind people can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
BLUE, ORANGE = COLOURS[0], COLOURS[1]  # differ in lightness too, so a grey print keeps them apart
INK, GREY = "#222222", "#777777"
MARKS: dict[str, Any] = {"linestyle": "none", "markersize": 9, "markeredgecolor": "white", "zorder": 4}
CHANCE: dict[str, Any] = {"color": GREY, "linewidth": 1.2, "linestyle": "dashed"}
DPI = 150
STYLE: dict[str, Any] = {
    **{"figure.figsize": (7.5, 5.0), "figure.constrained_layout.use": True, "figure.titlesize": 14},
    **{"axes.titlelocation": "left", "axes.titlesize": 14, "axes.titlepad": 10, "axes.labelsize": 12},
    **{"axes.spines.top": False, "axes.spines.right": False, "xtick.labelsize": 10, "ytick.labelsize": 10},
    **{"legend.frameon": False, "legend.fontsize": 10, "lines.linewidth": 2},
    "axes.prop_cycle": f"cycler(color={[*COLOURS]})",
    "text.parse_math": False,  # a `$` in a name begins no formula
}
FONTS = (  # that common systems have for scripts which matplotlib's own font lacks
    *("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei", "Malgun Gothic"),
    *("Noto Sans Thai", "Noto Sans Devanagari", "Noto Sans Arabic", "Arial Unicode MS"),
)


@contextmanager
def one_line_for(path: Path) -> Iterator[None]:
    """Let a picture that fails cost one line, not the run; a full disk ends that, as for any other file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # left out, it would be missing after the resume
            raise
        print(f"left out {path.name}: {type(error).__name__}: {' '.join(str(error).split()):.200}")


def paint(path: Path, draw: Callable[[Figure], Any]) -> Any:
    """Draw on a new figure, write it as a PNG, and return its pixels (height, width, 3).

    The style is this file's over matplotlib's defaults, whatever the user's matplotlibrc says. A picture that fails
    costs one line, not the run: the return value is None.
    """
    with one_line_for(path):
        import numpy as np
        from matplotlib import font_manager, style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        there = set(font_manager.get_font_names())
        fonts = {"font.family": ["sans-serif", *(font for font in FONTS if font in there)]}
        with style.context(STYLE | fonts, after_reset=True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # it is drawn as a box
            figure = Figure(dpi=DPI)  # a bare one has no global state, unlike pyplot's
            canvas = FigureCanvasAgg(figure)
            draw(figure)
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba())[..., :3]
            write_then_rename(path, lambda temporary: Image.fromarray(pixels).save(temporary, "PNG"))
            return pixels
    return None


def publish(trainer: L.Trainer, name: str, draw: Callable[[Figure], Any], step: int, tag: str | None = None) -> bool:
    """Draw figures/NAME.png of the run and send it to all loggers, as `tag` or NAME; false where it fails.

    Call it on the first process alone.
    """
    pixels = paint(Path(trainer.default_root_dir, "figures", f"{name}.png"), draw)
    for logger in trainer.loggers if pixels is not None else []:
        log_image(logger, tag or name, pixels, step)
    return pixels is not None


def log_image(logger: Logger, tag: str, pixels: Any, step: int) -> None:
    """Give a picture, (height, width, 3), to a logger that takes any, by Lightning's method or its client's."""
    if hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(tag, [pixels], step)
        return
    client = logger.experiment  # type: ignore[attr-defined]
    if hasattr(client, "add_image"):  # TensorBoard
        client.add_image(tag, pixels, step, dataformats="HWC")
    elif hasattr(client, "log_image") and hasattr(logger, "run_id"):  # MLflow
        client.log_image(logger.run_id, pixels, key=tag, step=step)
    elif hasattr(client, "log_image"):  # Comet
        client.log_image(pixels, name=tag, step=step)


def without_unit(name: str) -> str:
    """A feature's name where the model takes it standardised, so that its weight is not in its unit.

    >>> without_unit("petal length (cm)"), without_unit("f(x) of x")
    ('petal length', 'f(x) of x')
    """
    return re.sub(r" \([^()]*\)$", "", name)
