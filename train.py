"""The command line; `python train.py --help` says how to use it."""

import gc
import sys
from collections.abc import Callable

import cli


def load_main() -> Callable[[], None]:
    """Import the command line; imports leave a million objects that stay, so none of them is searched for garbage."""
    gc.disable()
    from cli.main import main

    gc.freeze()
    gc.enable()
    return main


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(cli.__doc__)  # before torch and Lightning are imported, which takes seconds
        sys.exit(0 if sys.argv[1:] else 2)

    try:
        load_main()()
    except KeyboardInterrupt:  # also while torch is imported; during a fit callbacks/run/stopping.py is faster
        sys.exit("stopped before anything was trained")
