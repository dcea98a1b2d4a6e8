"""Reads a checkpoint file: whole, undamaged, and as data alone; nothing that it holds is run, imported or built."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch


def load_checkpoint(file: str | Path | BinaryIO, map_location: Any = "cpu", name: object = None) -> dict[str, Any]:
    """Read a checkpoint once, check its checksums, and load tensors and plain values.

    Args:
        file: a local path, or an open binary file.
        map_location: the device to load to, as for torch.load.
        name: of the file, for messages; the path by default.

    Raises:
        ValueError: no file, a damaged one, one that holds more than tensors and plain values, or no checkpoint.
        OSError: the file cannot be read.
    """
    name = file if name is None else name
    if isinstance(file, str | Path) and not Path(file).is_file():
        raise ValueError(f"expected a checkpoint file, found none at {name}")
    content = io.BytesIO(Path(file).read_bytes() if isinstance(file, str | Path) else file.read())
    try:
        with zipfile.ZipFile(content) as archive:  # torch itself leaves the checksums alone
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        content.seek(0)
        checkpoint = torch.load(content, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to load it without protection
        raise ValueError(
            f"{name} is no checkpoint that can be loaded safely: it holds more than tensors and plain values; nothing "
            "in it was run; use one that fit has written"
        ) from error
    except Exception as error:  # zipfile and torch raise a dozen types for a file that is damaged or something else
        raise ValueError(
            f"{name} is no checkpoint that can be loaded safely: it is damaged, cut short or something else (reading "
            f"it ended in a {type(error).__name__}); use one that fit has written"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(f"expected a Lightning checkpoint, {name} holds something else")
    return checkpoint
