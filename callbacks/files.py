"""Files that are written whole or not at all: whoever reads one sees the old content or the new, never half."""

import csv
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np


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


def as_written(value: Any) -> str:
    """A value as text, a float32 as float64 among them with the digits that it was read from.

    >>> as_written(4.800000190734863), as_written(0.1), as_written("Oslo")
    ('4.8', '0.1', 'Oslo')
    """
    with np.errstate(over="ignore"):
        is_float32 = isinstance(value, float) and float(np.float32(value)) == value
    return str(np.float32(value) if is_float32 else value)


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to be filled; it gets its name at the end, and after an error it is removed."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        yield file


def atomic_write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a header line.

    Spreadsheets run a cell that starts with = + - @ (or a tab or carriage return) as a formula. Such a text gets a
    leading apostrophe, which they take for "this is text"; a number such as -1.5 stays as it is.
    """
    with writing(path) as file:
        csv_writer(file).writerows([_not_a_formula(cell) for cell in row] for row in (header, *rows))


def csv_writer(file: TextIO) -> Any:
    """The standard library's writer; lines end in a line feed alone."""
    # Told that they end in \r\n, csv quotes a cell that holds either; before Python 3.13 it would leave out \r.
    lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
    return csv.writer(lines, lineterminator="\r\n")


def disambiguate(names: Collection[str], taken: Collection[str], prefix: str) -> list[str]:
    """Names of a report's columns beside those of the user: with the prefix, as often as it takes, where one is taken.

    >>> disambiguate(["label", "probability"], ["text", "label"], "predicted_")
    ['predicted_label', 'probability']
    """
    unique: list[str] = []
    for name in names:
        while name in taken or name in unique:
            name = prefix + name
        unique.append(name)
    return unique


def _not_a_formula(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell
