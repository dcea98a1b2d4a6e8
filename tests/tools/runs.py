"""What a run left in its directory, a quiet Trainer, events within a fit, and commands in a process of their own."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""}
NO_BAR = ("--trainer.enable_progress_bar", "false")
QUIET = (*NO_BAR, "--trainer.enable_model_summary", "false")


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files, by their paths below the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoint(run: Path, name: str = "last") -> dict[str, Any]:
    """One of the run's checkpoints, on the CPU."""
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True, map_location="cpu")


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's state_dict."""
    state = checkpoint(run, name)["state_dict"]
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested structures of tensors and plain values differ in any bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(set(one) | set(other), key=str)
        return [d for key in keys for d in differences(one.get(key), other.get(key), f"{where}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [d for n, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{where}/{n}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
    else:
        same = type(one) is type(other) and (one == other or (one != one and other != other))
    return [] if same else [f"{where}: {str(one)[:60]} != {str(other)[:60]}"]


def assert_same_state(run: Path, other: Path, *names: str) -> None:
    """Compare weights, what else the model keeps and the number of steps, of last.ckpt or those named, to the bit."""
    for name in names or ("last",):
        one, two = checkpoint(run, name), checkpoint(other, name)
        assert differences(one["state_dict"], two["state_dict"], name) == []
        assert one["global_step"] == two["global_step"], name


def assert_close_weights(run: Path, other: Path, atol: float, rtol: float = 0.0) -> None:
    """Compare the weights of two runs that may differ by rounding."""
    found, expected = weights(run), weights(other)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=atol, rtol=rtol)


def metrics(run: Path) -> dict[str, float]:
    """What `test` wrote."""
    return json.loads((run / "test_metrics.json").read_text(encoding="utf-8"))


def records(run: Path) -> list[dict[str, Any]]:
    """What `predict` wrote. A text may hold any of Unicode's other separators, at which splitlines() would split."""
    *lines, rest = (run / "predictions.jsonl").read_bytes().decode("utf-8").split("\n")
    assert rest == ""
    return [json.loads(line) for line in lines]


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def quiet_trainer(folder: Path | None, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    """A Trainer on the CPU that prints nothing, without a logger unless the options name one."""
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    quiet |= {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 1}
    return L.Trainer(**quiet | {"default_root_dir": folder, "callbacks": [*callbacks]} | options)


class At(L.Callback):
    """Does something as a batch of the fit begins; the first one is number 1. `seen` are epochs and numbers of batches.

    Args:
        batch: number of the batch; -1 for none.
        what: "stop" as Timer does where max_time is over, "kill" as good as one can within a process, or a signal.
    """

    seen: ClassVar[list[tuple[int, int]]] = []

    def __init__(self, batch: int = -1, what: str = "SIGTERM") -> None:
        self.batch, self.what = batch, what

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen.clear()

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch_idx))
        if len(self.seen) != self.batch:
            return
        if self.what == "stop":
            trainer.should_stop = True
        elif self.what == "kill":
            raise RuntimeError("as good as killed")
        else:
            signal.raise_signal(signal.Signals[self.what])


def at(batch: int = -1, what: str = "SIGTERM") -> tuple[str, dict[str, Any]]:
    """The name and arguments of an `At`."""
    return f"{__name__}.At", {"batch": batch, "what": what}


def with_callbacks(*given: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    """The option --trainer.callbacks, of names and their arguments."""
    return "--trainer.callbacks", json.dumps([{"class_path": name, "init_args": options} for name, options in given])


def finish(*command: object, seconds: int = 600, **environment: str) -> str:
    """Run Python with these arguments; its output, once it has ended well."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        **{"cwd": ROOT, "env": ENVIRONMENT | environment, "timeout": seconds},
        **{"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout
