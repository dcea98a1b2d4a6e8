"""Single edits of a shipped config, each tried in a forked process: it trains, or it is refused in one line.

    python -m tests.tools.config_fuzz NUMBER CONFIG ...

tries NUMBER edits of each, such as `500 iris_binary`, prints what went wrong and the figures, and fails if any went
wrong.
"""

import copy
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from callbacks.run.divergence import StopOnDivergence
from cli.main import main

ROOT = Path(__file__).parents[2]
STEPS = 6  # of training, then a Ctrl-C
MEMORY = 4 << 30  # bytes of addresses more than the imports take: a MemoryError instead of the machine's last page
SECONDS = 30

WORDS = ["", "x", "../x", "~", "/nowhere/x", "os.system", "torch.optim.Adam", "torch.nn.ReLU", "null", "1e3"]
WORDS += ["ü\u202e\x1b[2J"]
NUMBERS = [0, -1, 1, 2, 10**9, -(10**30), 10**30, 0.5, -0.5, 1e-300, 1e308, float("inf"), float("-inf"), float("nan")]
GARBAGE = [None, True, False, [], {}, [[]], [None], [1, "x"], {"x": {"y": [{}]}}, {"class_path": "x"}, "x" * 100_000]
NESTED = [{"class_path": "os.system", "init_args": {"command": "true"}}, {"class_path": "logreg.BinaryLogit"}]
VALUES = [*WORDS, *NUMBERS, *GARBAGE, *NESTED]

Site = tuple[str | int, ...]


def sites(value: Any, place: Site = ()) -> Iterator[Site]:
    """Every place in a configuration."""
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from sites(inner, (*place, key))


def change(config: Any, site: Site, edit: str, value: Any) -> None:
    """Edit one place; where only the resolved configuration has it, the way there is laid first."""
    *parents, key = site
    for parent in parents:
        if isinstance(config, dict):
            config.setdefault(parent, {})
        config = config[parent]
    if edit == "set":
        config[key] = value
    elif edit == "delete":
        del config[key]
    elif edit == "rename":
        config[f"{key}x"] = config.pop(key)
    elif edit == "wrap":
        config[key] = [config[key]] if isinstance(config[key], dict) else {"x": config[key]}


def edited(shipped: Any, resolved: Any, choose: random.Random) -> tuple[str, Any]:
    """One configuration with one edit, and what the edit is."""
    while True:
        edit = choose.choice(["set", "set", "set", "set", "delete", "rename", "wrap"])
        site = choose.choice(list(sites(resolved if edit == "set" else shipped)))
        value = choose.choice(VALUES)
        config = copy.deepcopy(shipped)
        try:
            change(config, site, edit, value)
        except (KeyError, IndexError, TypeError, AttributeError):  # no such place, or a list's item to rename
            continue
        shown = f" = {value!r:.60}" if edit == "set" else ""
        return f"{edit} {'.'.join(map(str, site))}{shown}", config


def attempt(arguments: list[str], folder: Path, log: Path) -> str:
    """Run a command line in a forked process; "fit", "refused", or what went wrong."""
    child = os.fork()
    if not child:
        status = 3
        try:
            os.setsid()
            os.chdir(folder)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1), os.dup2(output, 2)
            sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - pytest's lead elsewhere
            warnings.simplefilter("default")  # pytest makes errors of them
            interrupt_after_a_few_steps()
            limit_memory()
            sys.argv = ["train.py", *arguments]
            main()
            status = 0
        except SystemExit as exit:
            print(exit.code)
            line = isinstance(exit.code, str) and exit.code.startswith("error: ") and "\n" not in exit.code
            status = 1 if line else 0 if exit.code == 128 + signal.SIGINT else 3
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    end = time.monotonic() + SECONDS
    while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.01)
    if not done[0]:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "hang"
    return {0: "fit", 1: "refused", 3: "traceback"}.get(os.waitstatus_to_exitcode(done[1]), "died")


def files(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What would tell a change: inode, size and time of every file."""
    found = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def fuzz(name: str, number: int) -> tuple[Counter[str], list[str]]:
    """Outcomes of edits of configs/`name`.yaml beside a finished run, and each that is neither "fit" nor "refused"."""
    shipped = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())
    shipped["trainer"] |= {"enable_progress_bar": False}
    if name == "clinc150":
        shipped["data"]["init_args"]["variant"] = "small"
    choose, outcomes, wrong = random.Random(f"{name} 0"), Counter[str](), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "work")
        folder.mkdir()
        if (data := ROOT / "tests/data").is_dir():  # else the tasks that need it are gone
            shutil.copytree(data, folder / "tests/data")
        config, log = folder / f"{name}.yaml", Path(temporary, "log")
        config.write_text(yaml.safe_dump(shipped))
        command = ["fit", "--config", str(config)]
        if (outcome := attempt(command, folder, log)) != "fit":
            raise AssertionError(f"{name} as shipped: {outcome}: {log.read_text()}")
        run = folder / "runs" / name / "version_0"
        (run / "notes.txt").write_text("mine")
        resolved = yaml.safe_load((run / "config.yaml").read_text())
        for _ in range(number):
            description, text = edited(shipped, resolved, choose)
            config.write_text(yaml.safe_dump(text, allow_unicode=True))
            before = files(folder)
            outcome = attempt(command, folder, log)
            after = files(folder)
            outcome = "harm" if any(after.get(path) != before[path] for path in before) else outcome
            outcomes[outcome] += 1
            if outcome not in ("fit", "refused"):
                last = log.read_text(errors="replace").strip().splitlines()[-3:]
                wrong.append(f"{name}: {outcome}: {description}: {' / '.join(last)}")
                print(wrong[-1], flush=True)
            for path in after.keys() - before.keys():
                path.unlink()
            for path in sorted((folder / "runs").rglob("version_[1-9]*"), reverse=True):
                shutil.rmtree(path, ignore_errors=True)
    return outcomes, wrong


def limit_memory() -> None:
    """Leave this process MEMORY bytes to ask for, whatever torch has mapped when it was imported."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def interrupt_after_a_few_steps() -> None:
    """Let every fit end as by Ctrl-C, also one of 10 ** 30 epochs."""
    watch = StopOnDivergence.on_train_batch_end

    def watch_and_interrupt(self: StopOnDivergence, trainer: Any, *rest: Any) -> None:
        watch(self, trainer, *rest)
        if trainer.global_step >= STEPS:
            signal.raise_signal(signal.SIGINT)

    StopOnDivergence.on_train_batch_end = watch_and_interrupt  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    torch.set_num_threads(1)
    wrong = []
    for shipped_config in sys.argv[2:]:
        started = time.monotonic()
        outcomes, misses = fuzz(shipped_config, int(sys.argv[1]))
        wrong += misses
        print(shipped_config, dict(outcomes), f"{time.monotonic() - started:.0f} s")
    sys.exit(bool(wrong))
