"""Start-up: how long does `train.py` take to answer, compared with importing Lightning?

Each is a process of its own, from its start to its end, with its output discarded. `train.py --help` answers before
anything is imported; `fit --help` cannot, because it lists the options of what it imports.
"""

import subprocess
import sys
import tempfile
from functools import partial

from benchmarks import measure

QUESTION = "Start-up: seconds of a whole process"
ONE_BATCH = ["train.py", "fit", "--config", "configs/iris_binary.yaml", "--trainer.fast_dev_run", "1"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import lightning'": ["-c", "import lightning"],
    "train.py --help": ["train.py", "--help"],
    "train.py fit --help": ["train.py", "fit", "--help"],
    "train.py fit, one batch": ONE_BATCH,
}


def run(command: list[str], folder: str) -> None:
    """Run `python command...` in the project's root, its output discarded.

    Raises:
        RuntimeError: the command failed; with the end of what it wrote to standard error.
    """
    run_directory = ["--trainer.default_root_dir", folder] if "--config" in command else []
    process = subprocess.run(
        [sys.executable, *command, *run_directory], cwd=measure.ROOT, capture_output=True, text=True
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended in {process.returncode}: {process.stderr[-2000:]}")


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            name: partial(measure.seconds, partial(run, command, folder)) for name, command in COMMANDS.items()
        }
        values = measure.interleaved(contestants, arguments.rounds, warm_up=False)
    measurements = [measure.summarize(name, "s", times) for name, times in values.items()]
    ratio = measure.ratio(values["train.py --help"], values["python -c 'import lightning'"])
    goals = [measure.Goal("train.py --help / import lightning", ratio, at_most=1.0)]
    measure.publish("start_up", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
