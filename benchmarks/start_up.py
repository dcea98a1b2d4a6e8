"""Start-up: how long do the commands take, from the shell to the prompt, compared with importing Lightning?

Each is a process of its own, from its start to its end, with its output discarded. `train.py --help` answers before
anything is imported. `fit`, `test` and `predict`
of one sentence are those of configs/clinc150.yaml on a CPU; what they spend their time on is recorded in the same runs
by timed_command.py, and each part's share of the whole is beside it.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.timed_command import measure_parts

QUESTION = "From the shell to the prompt: seconds of a whole process"
CLINC150 = ["--config", "configs/clinc150.yaml", "--trainer.accelerator", "cpu"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import lightning'": ["-c", "import lightning"],
    "train.py --help": ["train.py", "--help"],
}
IN_PARTS = {
    "train.py fit": ["fit", *CLINC150],
    "train.py test": ["test", *CLINC150],
    "train.py predict, one sentence": ["predict", *CLINC150, "--data.predict_inputs", '["will it snow"]'],
}
SMALLEST_SHARE = 0.01  # of a whole command: parts below it are not listed


def run(command: list[str]) -> None:
    """Run `python command...` in the project's root, its output discarded.

    Raises:
        RuntimeError: the command failed; with the end of what it wrote to standard error.
    """
    process = subprocess.run([sys.executable, *command], cwd=measure.ROOT, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended in {process.returncode}: {process.stderr[-2000:]}")


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in IN_PARTS}  # of each command, one per round

    def run_in_parts(name: str, folder: Path) -> float:
        runs = folder / name.replace(" ", "_")
        where = ["--trainer.default_root_dir", str(runs)]
        trained = [] if "fit" in name else ["--ckpt_path", str(folder / "trained/checkpoints/best.ckpt")]
        parts[name].append(measure_parts([*IN_PARTS[name], *where, *trained], folder))
        return sum(parts[name][-1].values())

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        quick = ["--figures.enabled", "false", "--trainer.default_root_dir", str(folder / "trained")]
        measure_parts([*IN_PARTS["train.py fit"], *quick], folder)
        contestants: dict[str, Callable[[], float]] = {
            name: partial(measure.seconds, partial(run, command)) for name, command in COMMANDS.items()
        }
        contestants |= {name: partial(run_in_parts, name, folder) for name in IN_PARTS}
        values = measure.interleaved(contestants, arguments.rounds, warm_up=False)

    measurements = [measure.summarize(name, "s", times) for name, times in values.items()]
    for name, of_rounds in parts.items():
        for part in of_rounds[0]:
            row = measure.summarize(f"{name}: {part}", "s", [of_round[part] for of_round in of_rounds])
            share = measure.ratio([of_round[part] for of_round in of_rounds], values[name])
            if share >= SMALLEST_SHARE:
                row.note = f"{100 * share:.0f} %"
                measurements.append(row)
    lightning, predict = values["python -c 'import lightning'"], values["train.py predict, one sentence"]
    help_ratio = measure.ratio(values["train.py --help"], lightning)
    pictures = statistics.median(of_round["pictures"] for of_round in parts["train.py test"])
    goals = [
        measure.Goal("train.py --help / import lightning", help_ratio, at_most=1.0),
        measure.Goal(
            "train.py predict, one sentence / import lightning", measure.ratio(predict, lightning), at_most=1.15
        ),
        measure.Goal("pictures of train.py test, s", pictures, at_most=6.0),
    ]
    measure.publish("start_up", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
