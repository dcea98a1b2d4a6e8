"""The command line; `python train.py --help` says how to use it."""

import sys

import cli

if __name__ == "__main__":
    if sys.argv[1:] in ([], ["-h"], ["--help"]):
        print(cli.__doc__)  # before torch and Lightning are imported, which takes seconds
        sys.exit(0 if sys.argv[1:] else 2)

    try:
        from cli.main import main

        main()
    except KeyboardInterrupt:  # also while torch is imported; during a fit callbacks/graceful_stop.py is faster
        sys.exit("stopped before anything was trained")
