"""Checkpoint files of a run: written whole or not at all, and only what can be read back as data."""

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from callbacks.files import write_then_rename
from checkpoint_file import load_checkpoint

PENDING = "gradients_pending"  # in a checkpoint that was written between two steps of the optimizer
# What torch.load(weights_only=True) reads: exactly these types, not their subclasses.
LEAVES = {str, bytes, int, float, complex, bool, type(None), Tensor, torch.nn.Parameter}
LEAVES |= {torch.Size, torch.dtype, torch.device}
SEQUENCES, MAPS = {list, tuple, set}, {dict, OrderedDict, Counter}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and reads them without ever running what is in them.

    Lightning's own moves a file from the system's temporary folder, which on another file system is a copy that a kill
    can cut short.

    Args:
        loaded: checkpoints that are in memory already, by path; each is given out once, in place of reading the file
            again, so that what was checked is what is used.
        after_save: called after each successful save, on the process that writes.
        extra: entries to add to every checkpoint.
    """

    def __init__(
        self,
        loaded: dict[str, dict[str, Any]] | None = None,
        after_save: Callable[[], None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.loaded = loaded or {}
        self.after_save = after_save
        self.extra = extra or {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; if that fails, a file that was there before stays whole.

        Raises:
            ValueError: the checkpoint holds something that could not be loaded back; names where and what.
            OSError: no room, or no permission.
        """
        checkpoint = as_loadable(checkpoint | self.extra)
        if "://" in str(path):  # an object store, where files appear whole anyway
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_checkpoint(Path(path), lambda temporary: torch.save(checkpoint, temporary))
        if self.after_save is not None:
            self.after_save()

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return self.loaded.pop(str(path), None) or load_checkpoint(path, map_location)


def write_checkpoint(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then rename it; an OSError names the file, and which one is left."""
    try:
        write_then_rename(path, write)
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        before = "the checkpoint before it is whole" if path.exists() else "there is none before it"
        raise OSError(f"cannot write {path}: {error}; {before}; make room and resume") from error


@contextmanager
def weights_of(checkpoint: str, model: L.LightningModule) -> Iterator[None]:
    """The model with the weights of a checkpoint; afterwards it has its own again, to the last bit."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(load_checkpoint(checkpoint)["state_dict"])
    try:
        yield
    finally:
        model.load_state_dict(own)


def as_loadable(value: Any, where: str = "") -> Any:
    """A checkpoint, or something in one, as torch.load(weights_only=True) can read it back.

    numpy's scalars and strings become Python's, paths among hyperparameters strings, subclasses of dict become dict. A
    ValueError names the place, `where`, and the type of what could not be read back.

    >>> as_loadable({"names": [np.str_("a")], "scale": np.float64(0.5)})
    {'names': ['a'], 'scale': 0.5}
    >>> as_loadable({"WineDataModule": {"scalers": [len]}})
    Traceback (most recent call last):
    ValueError: WineDataModule.scalers[0] is a builtin_function_or_method, which cannot be loaded back safely: store \
plain numbers, strings, lists, dicts or tensors
    """
    kind = type(value)
    if kind in LEAVES or (kind in SEQUENCES | MAPS and _holds_leaves(value)):
        return value
    if kind in SEQUENCES:
        return kind(as_loadable(item, f"{where}[{number}]") for number, item in enumerate(value))
    if isinstance(value, dict):
        plain = {as_loadable(key, f"{where} key"): as_loadable(item, _below(where, key)) for key, item in value.items()}
        if kind in MAPS:
            plain = kind(plain)
        if kind is OrderedDict:
            vars(plain).update(vars(value))  # a state_dict carries its modules' versions as an attribute
        return plain
    if isinstance(value, np.generic) and value.dtype.kind in "biufcSU" and type(value.item()) in LEAVES:
        return value.item()
    hyperparameter = re.match(r"(?:datamodule_)?hyper_parameters(?:\.|\[)([^.[]+)", where)
    if isinstance(value, os.PathLike) and hyperparameter:
        return os.fspath(value)
    remedy = "store plain numbers, strings, lists, dicts or tensors"
    if hyperparameter:
        remedy = f"leave it out with save_hyperparameters(ignore=[{hyperparameter[1]!r}])"
    elif isinstance(value, np.ndarray):
        remedy = "store torch.from_numpy(array)"
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise ValueError(f"{where} is a {module}{kind.__qualname__}, which cannot be loaded back safely: {remedy}")


def _holds_leaves(value: Any) -> bool:
    """Whether a container needs no look at each item: 20 ms for a vocabulary of a million words instead of a second."""
    parts = (value, value.values()) if isinstance(value, dict) else (value,)
    return all(LEAVES.issuperset(map(type, part)) for part in parts)


def _below(where: str, key: Any) -> str:
    if not isinstance(key, str):
        return f"{where}[{key!r}]"
    return f"{where}.{key}" if where else key
