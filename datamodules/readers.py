"""Reading labelled sentences from CSV, TSV, JSON and JSONL files that nothing has checked before."""

import csv
import io
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.bounded import LONGEST_TEXT, read_bounded

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")


def read_labelled(path: str | Path, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a file, in its order.

    Args:
        path: .csv or .tsv with a header line; .json, a list of objects; .jsonl, one object a line. UTF-8.
        text_column: name of the column, or key, that holds the text.
        label_column: name of the column, or key, that holds the label.

    Raises:
        ValueError: one line that names the file and row, what was expected and what was found.
        OSError: the file cannot be opened.
    """
    texts, labels = [], []
    for place, row in _rows(Path(path)):
        texts.append(_field(place, row, text_column))
        labels.append(_field(place, row, label_column))
    if not texts:
        raise ValueError(f"{path}: expected at least one row, the file is empty")
    return texts, labels


def read_texts(path: str, text_column: str) -> list[str]:
    """Texts to predict, in order.

    Args:
        path: a .txt file with one text a line, a file as for `read_labelled`, or "-" for standard input.
        text_column: name of the column, or key, that holds the text; unused for lines of text.

    Raises:
        ValueError: no text, or a file whose content does not match its suffix.
        OSError: the file cannot be opened.
    """
    if path == "-":
        texts = _lines(_decoded("standard input", _standard_input()))
    elif Path(path).suffix.lower() == ".txt":
        texts = _lines(_decoded(path, _content(Path(path))))
    else:
        texts = [_field(place, row, text_column) for place, row in _rows(Path(path), (*SUFFIXES, ".txt"))]
    if not texts:
        raise ValueError(f"{'standard input' if path == '-' else path}: expected at least one text, got none")
    return texts


def _rows(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, dict[str, Any]]]:
    """Each row as a mapping from column to value, with its place in the file for error messages."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file that ends in one of {', '.join(suffixes)}")
    text = _decoded(path, _content(path))
    if suffix in (".csv", ".tsv"):
        return _table_rows(path, text, "," if suffix == ".csv" else "\t")
    if suffix == ".jsonl":
        numbered = [(f"{path} line {n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        return [(place, _object(place, _parsed(place, line))) for place, line in numbered]
    content = _parsed(str(path), text)
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of objects, got {type(content).__name__}")
    return [(f"{path} entry {n}", _object(f"{path} entry {n}", value)) for n, value in enumerate(content, 1)]


def _table_rows(path: Path, text: str, delimiter: str) -> list[tuple[str, dict[str, Any]]]:
    # Not splitlines(): a quoted field may hold line breaks, and a field any of Unicode's other separators.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    header: list[str] | None = None
    try:
        for values in reader:
            place = f"{path} line {reader.line_num}"
            if not values:  # an empty line
                continue
            if header is None:
                header = values
                repeated = [name for name, count in Counter(header).items() if count > 1]
                if repeated:
                    raise ValueError(f"{place}: expected columns of different names, got {_preview(repeated)} twice")
                continue
            if len(values) != len(header):
                raise ValueError(f"{place}: expected {len(header)} columns, as in the header, got {len(values)}")
            rows.append((place, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: not a row of a {path.suffix[1:]} file: {error}") from error
    return rows


def _content(path: Path) -> bytearray:
    with path.open("rb") as stream:
        return read_bounded(path, stream, by_line=path.suffix.lower() != ".json")


def _standard_input() -> bytearray:
    if sys.stdin is None:
        raise ValueError("standard input: expected texts, but it is closed")
    return read_bounded("standard input", sys.stdin.buffer, by_line=True)


def _decoded(source: object, content: bytes | bytearray) -> str:
    try:
        return content.decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: expected UTF-8, got byte {content[error.start]:#04x} at {error.start}") from error


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r\n") for line in io.StringIO(text) if line.strip()]


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: expected JSON: {error}") from error


def _object(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object with named fields, got {type(value).__name__}")
    return value


def _field(place: str, row: dict[str, Any], column: str) -> str:
    """The value of a column, as text that is not empty."""
    if column not in row:
        raise ValueError(f"{place}: expected a column {column!r}, got {_preview(row)}")
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{place}: expected text in {column!r}, got {type(value).__name__}")
    value = str(value)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{place}: expected text in {column!r}, got half of a surrogate pair")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{place}: expected at most {LONGEST_TEXT:,} characters in {column!r}, got {len(value):,}")
    if not value.strip():
        raise ValueError(f"{place}: expected text in {column!r}, got an empty field")
    return value


def _preview(names: Iterable[str]) -> str:
    """The first few names, in one line of limited length."""
    return ", ".join(repr(name[:50]) for name in itertools.islice(names, 10)) or "none"
