"""Run directories: one for each run, never shared and never overwritten."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from callbacks.files import atomic_write_text, write_then_rename
from callbacks.run.requeue import UNFINISHED

# What a fit writes, checkpoints apart.
OWN_FILES = (
    *("config.yaml", "hparams.yaml", "metrics.csv", "coefficients.csv", "data_report.json", "data_issues.csv"),
    *("events.out.tfevents.*", "figures/boundary*", "figures/loss_surface.png", "figures/val_*.png"),
    *("checkpoints/.*", UNFINISHED),
)
LOCK = ".lock"
OWN_FOLDERS = ("figures", "checkpoints")


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run, as a context manager: a new one in which nothing was saved is removed on an error.

    Only what a fit writes is removed, by name, so that notes, and other runs below it, stay.

    Args:
        path: the directory.
        is_new: whether this process is the one that claimed it.
        was_there: whether the folder itself existed before.
    """

    path: Path
    is_new: bool = False
    was_there: bool = True

    @classmethod
    def claim(cls, base: Path, named: bool) -> "RunDirectory":
        """Make a directory for one run that no other run has, not even one that starts at the same moment.

        Args:
            base: for a directory named by the user the run's own, unless it holds something already; else, and for
                every other run, the parent of version_0, version_1, ...
            named: whether the user named the directory.

        Raises:
            OSError: the directory cannot be made.
        """
        own = [base] if named and not (base.is_dir() and any(base.iterdir())) else []
        for path in chain(own, (base / f"version_{number}" for number in count())):
            was_there = path.is_dir()
            make_directory(path)
            try:
                (path / "checkpoints").mkdir()  # of two processes only one succeeds
            except FileExistsError:
                continue
            return cls(path, is_new=True, was_there=was_there)
        raise AssertionError("there is always another number")

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def save_config(self, text: str) -> Callable[[], None] | None:
        """Write config.yaml of a new run; of a resumed one, return what writes it once a checkpoint has been saved.

        Until then config.yaml describes what last.ckpt was trained with, also if the new options prove impossible.
        """
        if not self.is_new:
            return partial(self.write_config, text)
        self.write_config(text)
        return None

    def write_config(self, text: str) -> None:
        """Write config.yaml whole; an earlier one with other options is kept as config.before_resume_N.yaml."""
        path = self.path / "config.yaml"
        before = path.read_bytes() if path.is_file() else None
        if before == text.encode():
            return
        if before is not None:
            number = 1 + len(list(self.path.glob("config.before_resume_*.yaml")))
            write_then_rename(self.path / f"config.before_resume_{number}.yaml", lambda new: new.write_bytes(before))
        atomic_write_text(path, text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep any other fit out of a run; the lock of a process that has died is gone with it.

    Raises:
        ValueError: another process has it.
    """
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
    """Make a directory to write into, and those above it.

    Raises:
        OSError: it cannot be made or written into; names it, the reason and the remedy.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(
            f"cannot write into {path} ({error.strerror}): name another folder with --trainer.default_root_dir"
        ) from error
