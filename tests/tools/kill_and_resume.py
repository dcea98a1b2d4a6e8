"""Kill a training run at random moments, resume it, and compare with the run that nobody killed, bit for bit.

python tests/tools/kill_and_resume.py --kills 20 --save-every 5 -- --config configs/iris_ova.yaml --trainer.max_epochs 8
python tests/tools/kill_and_resume.py --kills 10 --at times -- --config configs/iris_binary.yaml

What stands after `--` goes to `train.py fit`. Every run is a process of its own, forked from one that has imported
everything; with --ranks 2 it is two, that train together.
"""

import argparse
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

sys.path.insert(0, str(Path(__file__).parent))

from forked_cli import run_cli

from callbacks.run.stopping import GracefulStop
from tests.tools.runs import checkpoint, differences, read_csv


def die_at(step: int) -> None:
    """Let the process kill itself before update number `step` (even ones) or right after it (odd ones)."""

    def die(callback: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if step % 2:
        ordinary = GracefulStop.on_train_batch_end

        def die_after(callback: Any, trainer: Any, *rest: Any) -> None:
            ordinary(callback, trainer, *rest)
            die(callback, trainer)

        GracefulStop.on_train_batch_end = die_after
    else:
        GracefulStop.on_train_batch_start = die


def die_in_validation(step: int) -> None:
    """Let the process kill itself in the first validation after that many updates."""

    def die(callback: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step >= step and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)

    GracefulStop.on_validation_batch_start = die


def die_in_save(step: int) -> None:
    """Let the process kill itself half-way through the first checkpoint after that many updates."""
    save = torch.save

    def die(checkpoint: dict[str, Any], path: Any, *rest: Any) -> None:
        save(checkpoint, path, *rest)
        if checkpoint["global_step"] >= step:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = die  # type: ignore[assignment]


def die_after(seconds: float) -> None:
    """Let the process end after some time, wherever it is: nothing handles SIGALRM, so it kills like SIGKILL."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


MOMENTS = {"steps": die_at, "validations": die_in_validation, "saves": die_in_save, "times": die_after}


def read_events(run: Path) -> EventAccumulator:
    """All of TensorBoard's events of a run, file by file in the order in which the files were begun.

    TensorBoard reads them in the order of their names, which tell the second, the process and a number without leading
    zeros: of two files of one second and process, those of uid 9 and 10, it would read the second one first.
    """
    begun = {
        path: next((event.wall_time for event in EventFileLoader(str(path)).Load()), math.inf)
        for path in run.glob("events.out.tfevents.*")
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(sorted(begun, key=begun.__getitem__)):
            Path(folder, f"events.out.tfevents.{number:010}").symlink_to(path.resolve())
        return EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0}).Reload()


def outcome(run: Path) -> dict[str, Any]:
    """All that a run must reproduce: checkpoints, curves in metrics.csv and TensorBoard, pictures, no other file."""
    found: dict[str, Any] = {}
    for name in ("best", "last"):
        state = found[name] = checkpoint(run, name)
        for callback in state["callbacks"].values():  # their paths name the run
            for key in ("best_model_path", "kth_best_model_path", "last_model_path", "dirpath", "best_k_models"):
                callback.pop(key, None)
        state["callbacks"] = {key.split("{")[0]: value for key, value in state["callbacks"].items()}
        state.pop("loops")  # its counters tell how often a loop was started
    found["curves"] = [{key: value for key, value in row.items() if value} for row in read_csv(run / "metrics.csv")]
    found["files"] = sorted(path.name for path in [*run.glob("[!.e]*"), *run.glob("checkpoints/[!.]*")])
    board = read_events(run)
    found["scalars"] = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    found["images"] = {
        tag: [(e.step, e.encoded_image_string) for e in board.Images(tag)] for tag in board.Tags()["images"]
    }
    found["figures"] = {path.name: path.read_bytes() for path in (run / "figures").glob("[!.]*")}
    return found


def kill_and_resume(
    arguments: list[str], folder: Path, kills: int, save_every: int, ranks: int = 1, at: str = "steps"
) -> list[str]:
    """What differed, one line for each killed and resumed run that did not end like the straight one."""
    arguments = ["fit", *arguments, "--checkpoint.every_n_train_steps", str(save_every)]
    arguments += ["--trainer.enable_progress_bar", "false"]
    straight, started = folder / "straight", time.monotonic()
    if any(run_cli([*arguments, "--trainer.default_root_dir", str(straight)], folder / "straight.log", ranks)):
        raise RuntimeError((folder / "straight.log").read_text())
    seconds = time.monotonic() - started
    expected = outcome(straight)
    total = expected["last"]["global_step"]
    moments: Sequence[float]
    if at == "times":
        moments = [random.Random(number).uniform(0, seconds) for number in range(kills)]
    else:
        moments = random.Random(0).sample(range(save_every + 1, total), kills)
    failures = []
    for moment in sorted(moments):
        run, log = folder / f"killed_at_{moment}", folder / f"killed_at_{moment}.log"
        place = ["--trainer.default_root_dir", str(run)]
        died = run_cli([*arguments, *place], log, ranks, first=partial(MOMENTS[at], moment))
        last = run / "checkpoints" / "last.ckpt"
        if at == "times" and not last.is_file():  # killed before it had saved: it starts again
            shutil.rmtree(run, ignore_errors=True)
            resumed = run_cli([*arguments, *place], log, ranks)
        else:
            resumed = run_cli([*arguments, *place, "--ckpt_path", str(last)], log, ranks)
        # Of a random time the run may just have ended.
        expected_statuses = {signal.SIGALRM, 0} if at == "times" else {signal.SIGKILL}
        if not set(died) <= expected_statuses or any(resumed):
            failures.append(f"{at} {moment}: statuses {died} and {resumed}\n{log.read_text()[-2000:]}")
            continue
        failures += [f"{at} {moment}: {difference}" for difference in differences(expected, outcome(run))[:3]]
    return failures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs to kill, each at a step of its own")
    parser.add_argument("--at", choices=MOMENTS, default="steps", help="when to kill")
    parser.add_argument("--save-every", type=int, default=5, help="steps between two checkpoints")
    parser.add_argument("--ranks", type=int, default=1, help="processes per run")
    parser.add_argument("arguments", nargs="+", help="arguments of train.py fit, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failures = kill_and_resume(
            options.arguments, Path(folder), options.kills, options.save_every, options.ranks, options.at
        )
    print(*failures, sep="\n")
    bad = len({failure.split(":")[0] for failure in failures})
    print(f"{options.kills - bad} of {options.kills} bit-identical")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
