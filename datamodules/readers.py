"""Reading labelled sentences: CSV, TSV, JSON and JSONL, from files nobody has checked before."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt")


def read_labelled(path: str | Path, text_column: str, label_column: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a file, in its order.

    Args:
        path: .csv or .tsv with a header line; .json, a list of objects; .jsonl, one object a line. UTF-8.
        text_column: name of the column, or key, that holds the text.
        label_column: likewise for the label.

    Raises:
        ValueError: in one line, which file and row, what was expected and what came.
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
    """Texts to predict: a .txt file of one text a line, a file as `read_labelled` takes it, or "-", standard input.

    Raises:
        ValueError: no text, or a file that is not what its suffix says.
        OSError: the file cannot be opened.
    """
    if path == "-":
        texts = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    elif Path(path).suffix.lower() == ".txt":
        texts = [line.rstrip("\r\n") for line in io.StringIO(_decoded(Path(path))) if line.strip()]
    else:
        texts = [_field(place, row, text_column) for place, row in _rows(Path(path))]
    if not texts:
        raise ValueError(f"{'standard input' if path == '-' else path}: expected at least one text, got none")
    return texts


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Each row as a mapping from column to value, and where it stands, for error messages."""
    suffix = path.suffix.lower()
    text = _decoded(path)
    if suffix in (".csv", ".tsv"):
        return _table_rows(path, text, "," if suffix == ".csv" else "\t")
    if suffix == ".jsonl":
        numbered = [(f"{path} line {n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        return [(place, _object(place, _parsed(place, line))) for place, line in numbered]
    if suffix == ".json":
        content = _parsed(str(path), text)
        if not isinstance(content, list):
            raise ValueError(f"{path}: expected a list of objects, got {type(content).__name__}")
        return [(f"{path} entry {n}", _object(f"{path} entry {n}", value)) for n, value in enumerate(content, 1)]
    raise ValueError(f"{path}: expected a file that ends in one of {', '.join(SUFFIXES)}")


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
                continue
            if len(values) != len(header):
                raise ValueError(f"{place}: expected {len(header)} columns, as in the header, got {len(values)}")
            rows.append((place, dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num}: not a row of a {path.suffix[1:]} file: {error}") from error
    return rows


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8, got byte {error.object[error.start]:#04x} at {error.start}"
        ) from error


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
        raise ValueError(f"{place}: expected a column {column!r}, got {', '.join(map(str, row)) or 'none'}")
    value = row[column]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{place}: expected text in {column!r}, got {type(value).__name__}")
    value = str(value)
    if not value.strip():
        raise ValueError(f"{place}: expected text in {column!r}, got an empty field")
    return value
