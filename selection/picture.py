"""Pictures of a command, where callbacks/figures is there to draw them."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cli.capabilities import is_there


def write_picture(path: Path, draw: Callable[[Any], Any]) -> None:
    """Write what `draw` makes of a new figure of matplotlib as a PNG, and print its place, or why there is none."""
    if not is_there("callbacks.figures"):
        print(f"no {path.name}: it needs the folder callbacks/figures/")
    elif import_module("callbacks.figures.canvas").paint(path, draw) is not None:
        print(f"picture: {path}")
