"""Run directories: where they go, which one a checkpoint belongs to; one for each run, shared and overwritten never."""

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from jsonargparse import Namespace

from callbacks.files import atomic_write_text, write_then_rename
from callbacks.run.hyperparameters import LOGGER_RUNS
from callbacks.run.requeue import UNFINISHED, slurm_job, torchrun_job
from checkpoint_file import load_checkpoint

# What a fit writes, checkpoints apart.
OWN_FILES = (
    *("config.yaml", "hparams.yaml", "metrics.csv", "coefficients.csv", "data_report.json", "data_issues.csv"),
    *("events.out.tfevents.*", "figures/boundary*", "figures/loss_surface.png", "figures/val_*.png"),
    *("checkpoints/.*", UNFINISHED, LOGGER_RUNS),
)
LOCK = ".lock"
OWN_FOLDERS = ("figures", "checkpoints")


@dataclass(frozen=True)
class RunDirectory(AbstractContextManager):
    """The directory of one run, as a context manager: a new one in which nothing was saved is removed on an error.

    Only what a fit writes is removed, by name, so that notes, and other runs below it, stay.
    """

    path: Path
    is_new: bool = False  # claimed by this process
    was_there: bool = True  # before it was claimed

    @classmethod
    def claim(cls, base: Path, named: bool) -> "RunDirectory":
        """Make a directory for one run that no other run has, not even one that starts at the same moment.

        It is `base` if the user named that and it is empty or not there, else version_0, version_1, ... below it.
        """
        own = [base] if named and not (base.is_dir() and any(base.iterdir())) else []
        for path in chain(own, (base / f"version_{number}" for number in count())):
            was_there = path.is_dir()
            make_directory(path)
            with suppress(FileExistsError):
                (path / "checkpoints").mkdir()  # of two processes only one succeeds
                return cls(path, is_new=True, was_there=was_there)
        raise AssertionError("there is always another number")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        saved = any(not path.name.startswith(".") for path in (self.path / "checkpoints").glob("*"))
        if error is None or not self.is_new or saved:
            return
        self.clear()
        (self.path / LOCK).unlink(missing_ok=True)
        for folder in (*(self.path / name for name in OWN_FOLDERS), *([] if self.was_there else [self.path])):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def clear(self) -> None:
        """Remove what a fit has written that saved nothing."""
        for pattern in OWN_FILES:
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def write_config(self, text: str) -> None:
        """Write config.yaml whole; an earlier one with other options is kept as config.before_resume_N.yaml."""
        path = self.path / "config.yaml"
        if path.is_file():
            before = path.read_bytes()
            if before == text.encode():
                return
            number = 1 + len(list(self.path.glob("config.before_resume_*.yaml")))
            write_then_rename(self.path / f"config.before_resume_{number}.yaml", lambda new: new.write_bytes(before))
        atomic_write_text(path, text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep any other fit out of a run, with a ValueError; the lock of a process that has died is gone with it."""
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"{path}: another process is training this run: wait for its end, or stop it") from error
    except (NotImplementedError, OSError):  # a file system without locks
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # where an open file cannot be removed
            (path / LOCK).unlink(missing_ok=True)
        lock.release()


def make_directory(path: Path) -> None:
    """Make a directory to write into, and those above it; an OSError names it, the reason and the remedy."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(
            f"cannot write into {path} ({error.strerror}): name another folder with --trainer.default_root_dir"
        ) from error


def base_directory(options: Namespace) -> Path:
    """Where the runs of a configuration go: --trainer.default_root_dir, or a folder by the name of the file."""
    if named := options.trainer.default_root_dir:
        if "://" in named:
            raise ValueError(f"trainer.default_root_dir: expected a folder on this machine, got {named}")
        return Path(named).expanduser()
    config = _config_file(options)
    if (config.parent / "checkpoints").is_dir():  # a run's own config.yaml: its runs go beside it
        run = config.parent
        return run.parent if run.name.startswith("version_") else run
    return Path("runs") / config.stem


def _config_file(options: Namespace) -> Path:
    return Path(str((options.get("config") or ["run.yaml"])[0]))


def choose_run(subcommand: str, options: Namespace, writes: bool) -> RunDirectory:
    """The checkpoint's own run if it is resumed or evaluated, else a new one, claimed if this process `writes`."""
    base, named = base_directory(options), bool(options.trainer.default_root_dir)
    if (run := continued_run(subcommand, options)) is not None:
        return RunDirectory(base if named and subcommand != "fit" else run)
    return RunDirectory.claim(base, named) if writes else RunDirectory(base)


def continued_run(subcommand: str, options: Namespace) -> Path | None:
    """The run of a checkpoint that is evaluated, or resumed in its place; None for a new run."""
    if not options.ckpt_path:
        return None
    base, checkpoint = base_directory(options), Path(options.ckpt_path)
    run, named = run_of(checkpoint), bool(options.trainer.default_root_dir)
    resumes = checkpoint.name == "last.ckpt" and (run / "checkpoints" / "last.ckpt").is_file()
    resumes &= not named or base.resolve() in (run.resolve(), *run.resolve().parents, run.parent.resolve())
    return run if resumes or subcommand != "fit" else None


def run_of(checkpoint: Path) -> Path:
    """The run directory that a checkpoint belongs to; its folder `checkpoints` may be a link to another disk."""
    folders = checkpoint.absolute().parent, checkpoint.resolve().parent
    runs = [folder.parent if folder.name == "checkpoints" else folder for folder in folders]
    return next((run for run in runs if (run / "config.yaml").is_file()), runs[0])


def named_checkpoint(name: str, options: Namespace) -> Path:
    """The checkpoint "best" or "last": with a run's own config.yaml that run's, else the newest one."""
    own = _config_file(options).parent / "checkpoints" / f"{name}.ckpt"
    is_own = own.is_file() and not options.trainer.default_root_dir
    return own if is_own else newest_checkpoint(base_directory(options), name)


def newest_checkpoint(base: Path, name: str) -> Path:
    """The checkpoint "best" or "last" of the run of the highest version, and of several such runs the highest step.

    A ValueError names the other one where there is none.
    """
    found = _checkpoints(base, name)
    if not found:
        other = next((other for other in ("last", "best") if _checkpoints(base, other)), None)
        remedy = f"there is {other}.ckpt: --ckpt_path {other}" if other else "run fit first, or name a checkpoint file"
        raise ValueError(f"--ckpt_path {name}: no {name}.ckpt below {base}; {remedy}")
    highest = max(map(_versions, found))
    newest = sorted(path for path in found if _versions(path) == highest)
    return newest[0] if len(newest) == 1 else max(newest, key=lambda path: load_checkpoint(path).get("global_step", 0))


def _checkpoints(base: Path, name: str) -> set[Path]:
    # The pattern ** follows no link.
    return {*base.glob(f"**/checkpoints/{name}.ckpt"), *base.glob(f"*/checkpoints/{name}.ckpt")}


def _versions(path: Path) -> list[int]:
    """The numbers of the folders version_N that a path goes through; file times would be those of a copy."""
    names = [part.removeprefix("version_") for part in path.parts if part.startswith("version_")]
    return [int(name) for name in names if name.isdigit()]


def unfinished_run(base: Path, command: str) -> Path | None:
    """The run that this very command, all options of which count, began before its job was started again."""
    wanted = {f"{job}\n{command}" for job in (slurm_job(), torchrun_job()) if job}
    markers = base.glob(f"**/{UNFINISHED}") if wanted else ()
    return next((marker.parent for marker in markers if marker.read_text(encoding="utf-8") in wanted), None)
