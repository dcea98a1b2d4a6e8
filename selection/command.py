"""Errors in one line and pictures of the selection commands, the latter where callbacks/figures can draw them."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cli.capabilities import is_there
from cli.main import user_errors_in_one_line


def write_picture(path: Path, draw: Callable[[Any], Any]) -> None:
    """Write what `draw` makes of a new figure of matplotlib as a PNG, and print its place, or why there is none."""
    if not is_there("callbacks.figures"):
        print(f"no {path.name}: it needs the folder callbacks/figures/")
    elif import_module("callbacks.figures.canvas").paint(path, draw) is not None:
        print(f"picture: {path}")


def run_as_command(main: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Run a command beside train.py; its errors are those of `main`."""
    try:
        with user_errors_in_one_line():
            main(arguments)
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
