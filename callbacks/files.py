"""Files that are written whole or not at all: whoever reads one sees the old content or the new, never half."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder, to be filled; at the end it is renamed to `path`, after an error removed.

    Renaming within a folder is one step of the file system, so a kill comes before or after it. A symbolic link of that
    name is replaced, not followed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_then_rename(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then rename it to `path`."""
    with replacing(path) as temporary:
        write(temporary)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file."""
    write_then_rename(path, lambda temporary: temporary.write_bytes(text.encode()))


def as_json(value: Any, **options: Any) -> str:
    """JSON that any parser reads: null for a number that is not finite, text for what JSON has no type for.

    >>> as_json({"loss": float("nan"), "path": Path("a")})
    '{"loss": null, "path": "a"}'
    """
    options |= {
        "ensure_ascii": False,
        "default": lambda other: other.tolist() if hasattr(other, "tolist") else str(other),
    }
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value, **options), parse_constant=lambda name: None), **options)
