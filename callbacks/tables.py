"""Tables of reports as CSV: cells as a spreadsheet may have them, columns beside the user's own."""

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np

from callbacks.files import replacing


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
