"""Reads a checkpoint file: whole, undamaged, and as data alone; nothing that it holds is run, imported or built."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint once, check its checksums, and load tensors and plain values.

    Args:
        path: a local path.
        map_location: the device to load to, as for torch.load.

    Raises:
        ValueError: no file, a damaged one, one that holds more than tensors and plain values, or no checkpoint.
        OSError: the file cannot be read.
    """
    if not Path(path).is_file():
        raise ValueError(f"expected a checkpoint file, found none at {path}")
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:  # torch itself leaves the checksums alone
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content.seek(0)
        checkpoint = torch.load(content, map_location=map_location, weights_only=True)
    except Exception as error:  # zipfile and torch raise a dozen types for a file that is damaged or something else
        reason = f"it is damaged, cut short or something else (reading it ended in a {type(error).__name__})"
        if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to load it without protection
            reason = "it holds more than tensors and plain values; nothing in it was run"
        raise ValueError(
            f"{path} is no checkpoint that can be loaded safely: {reason}; use one that fit has written"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(f"expected a Lightning checkpoint, {path} holds something else; use one that fit has written")
    return checkpoint
