"""Start-up: how long until `train.py` answers, beside importing Lightning?

Each is a process of its own, from its start to its end, with standard output thrown away. `train.py --help` answers
before anything is imported; `fit --help` can't, for it lists the options of what it imports.
"""

import subprocess
import sys
import tempfile

from benchmarks import measure

QUESTION = "Start-up: seconds of a whole process"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import lightning'": ["-c", "import lightning"],
    "train.py --help": ["train.py", "--help"],
    "train.py fit --help": ["train.py", "fit", "--help"],
    "train.py fit, one batch": [
        "train.py",
        "fit",
        "--config",
        "configs/iris_binary.yaml",
        "--trainer.fast_dev_run",
        "1",
    ],
}


def run(command: list[str], folder: str) -> None:
    """Run it here, with nothing of it to be seen unless it fails."""
    extra = ["--trainer.default_root_dir", folder] if "--config" in command else []
    done = subprocess.run([sys.executable, *command, *extra], cwd=measure.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended in {done.returncode}: {done.stderr[-2000:]}")


def main() -> None:
    """Measure, print, write."""
    arguments = measure.options(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        race = {
            name: (lambda command=command: measure.seconds(lambda: run(command, folder)))  # type: ignore[misc]
            for name, command in COMMANDS.items()
        }
        taken = measure.interleaved(race, arguments.rounds, warm_up=False)
    figures = [measure.figure(name, "s", times) for name, times in taken.items()]
    over = measure.ratio(taken["train.py --help"], taken["python -c 'import lightning'"])
    goals = [measure.Goal("train.py --help / import lightning", over, at_most=1.0)]
    measure.publish("start_up", QUESTION, figures, goals, arguments.out)


if __name__ == "__main__":
    main()
