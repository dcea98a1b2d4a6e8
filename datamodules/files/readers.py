"""Reads labelled rows, and texts to predict, from CSV, TSV, JSON, JSONL, Parquet and text files."""

import gzip
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from datamodules.files.cells import as_label
from datamodules.files.formats import (
    LONGEST_TEXT,
    Row,
    Text,
    clean_columns,
    json_rows,
    parquet_rows,
    preview,
    table_rows,
)
from datamodules.splits import Labelled

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
ARCHIVES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how zip files, and so .xlsx, and .xls begin
SURROGATE = re.compile("[\ud800-\udfff]")

DROP = "--data.drop_unlabelled true"

Files = str | Path | Sequence[str | Path]


def read_labelled(
    files: Files, text_column: str, label_column: str, drop_unlabelled: bool = False
) -> tuple[list[str], list[str]]:
    """Texts and labels of one or several files, in their order.

    Args:
        files: .csv or .tsv with a header line, its columns separated by `,` `;` `|` or tabs; .json, a list of objects;
            .jsonl or .ndjson, one object a line; .parquet. In UTF-8, or UTF-16 with a mark. Each may be compressed:
            .csv.gz.
        text_column: name of the column, or key, that holds the text.
        label_column: name of the column, or key, that holds the label.
        drop_unlabelled: leave out the rows without a label (also NA, nan, null), with a line that tells how many.

    Raises:
        ValueError: one line that names the file and all bad rows, what was expected and what was found.
        OSError: a file cannot be opened.
    """
    texts: list[str] = []
    labels: list[str] = []
    columns = [text_column, label_column]
    for path in each_file(files):
        if found := _complete_columns(path, columns):
            texts += found[0]
            labels += found[1]
            continue
        rows = labelled_rows(path, columns, drop_unlabelled)
        for text, label in column_values(path, rows, columns):
            texts.append(text)
            labels.append(label)
    return texts, labels


def read_labelled_rows(files: Files, label_column: str, drop_unlabelled: bool) -> tuple[list[Row], list[str]]:
    """Whole rows, with the files in their places, and labels, likewise."""
    rows: list[Row] = []
    labels: list[str] = []
    for path in each_file(files):
        found = list(labelled_rows(path, (label_column,), drop_unlabelled))
        labels += [label for (label,) in column_values(path, found, (label_column,))]
        rows += [(f"{path} {place}", row) for place, row in found]
    return rows, labels


def _complete_columns(path: Path, columns: list[str]) -> tuple[list[str], list[Any]] | None:
    """Texts and labels of a file that is read by columns, none of them missing; None of any other file."""
    suffix, content = _opened(path)
    found = clean_columns(Text(path, content), columns) if suffix == ".csv" else None
    texts, labels = found or ([], [])
    label_of = {label: as_label(label) for label in set(labels)}
    if not texts or None in label_of.values() or not all(map(str.strip, texts)):
        return None
    return texts, [label_of[label] for label in labels]


def labelled_rows(path: Path, columns: Sequence[str], drop_unlabelled: bool) -> Iterator[Row]:
    """All rows of a file, as for `read_labelled`; the last of the columns holds the label."""
    number = dropped = 0
    for place, row in read_rows(path, columns):
        number += 1
        if drop_unlabelled and _is_unlabelled(row.get(columns[-1])):
            dropped += 1
        else:
            yield place, row
    if dropped == number:
        raise ValueError(f"{path}: expected at least one row{' with a label' * (number > 0)}, the file has none")
    if dropped:
        rank_zero_only(print)(f"note: {dropped} of {number} rows of {path} have no label", file=sys.stderr)


def read_inputs(path: str, text_column: str) -> tuple[list[str], list[dict[str, Any]] | None]:
    """Texts to predict, "" where a row has none, and their rows, from column to value; None for lines of text.

    Args:
        path: a .txt file with one text a line, a file as for `read_labelled`, or "-" for standard input.
        text_column: name of the column, or key, that holds the text; unused for lines of text.

    Raises:
        ValueError: no text, or a file whose content does not match its suffix.
        OSError: the file cannot be opened.
    """
    rows, source = None, "standard input" if path == "-" else path
    if path == "-" or _suffix(path) == ".txt":
        text = Text(source, sys.stdin.buffer.read() if path == "-" else _content(Path(path)))
        texts = [line.rstrip("\n") if line.strip() else "" for line in text.open()]
    else:
        placed = list(read_rows(path, (text_column,), (*SUFFIXES, ".txt")))
        rows = [row for _, row in placed]
        texts = [text for (text,) in column_values(path, placed, (text_column,), may_be_empty=True)]
    if not any(texts):
        raise ValueError(f"{source}: expected at least one text, got none")
    return texts, rows


def each_file(files: Files) -> list[Path]:
    """The paths of one or several files."""
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def read_splits(files: Mapping[str, Files | None], read: Callable[[Files], Labelled]) -> dict[str, Labelled]:
    """What `read` makes of the files of each split that has some.

    Raises:
        ValueError: none to train on.
        FileNotFoundError: a file that is not there.
    """
    if not files["train"]:
        raise ValueError("train_file: expected a file to train on, got none; --data.train_file FILE")
    for split, given in files.items():
        require_files(f"{split}_file", given)
    return {split: read(given) for split, given in files.items() if given}


def require_files(option: str, files: Files | None) -> None:
    """Refuse a file that is not there, by the option that names it.

    Raises:
        FileNotFoundError: names option and file.
    """
    for path in each_file(files) if files else ():
        if not path.exists() and str(path) != "-":
            raise FileNotFoundError(f"{option}: no file at {path}; name one with --data.{option} FILE")


def read_rows(file: str | Path, columns: Sequence[str], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Row]:
    """All rows of a file, with their places; errors as of `read_labelled`, perhaps only when a row is asked for.

    Args:
        file: as for `read_labelled`.
        columns: names that a header must have; of a CSV or TSV file they decide what separates the columns.
        suffixes: to name in the refusal of any other.
    """
    path = Path(file)
    suffix, content = _opened(path, suffixes)
    if suffix == ".parquet":
        return parquet_rows(path, content)
    text = Text(path, content)
    return json_rows(path, text, suffix) if suffix.startswith(".json") else table_rows(path, text, suffix, columns)


def _opened(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> tuple[str, bytes]:
    """The suffix of a file that can be read, and its bytes."""
    suffix = _suffix(path)
    with path.open("rb") as stream:
        start = stream.read(4)
    if start in ARCHIVES:
        raise ValueError(f"{path}: expected a text file, got a zip or Excel file: unzip it, or save it as CSV")
    if start.startswith(b"\x1f\x8b") and path.suffix.lower() != ".gz":
        raise ValueError(f"{path}: expected a text file, got one packed by gzip: call it {path.name}.gz")
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: expected a file that ends in one of {', '.join(suffixes)}, each perhaps with .gz; convert it to "
            "one with a row for each example"
        )
    return suffix, _content(path)


def column_values(
    path: str | Path, rows: Iterable[Row], columns: Sequence[str], may_be_empty: bool = False
) -> Iterator[list[str]]:
    """The text in each of these columns, for every row; the last is a label, unless it may be empty.

    Raises:
        ValueError: after the last, names all rows whose value is missing or no text; no text at all is one of "" if it
            may be empty.
    """
    problems: list[tuple[str, str]] = []
    unlabelled = False
    for number, (place, row) in enumerate(rows):
        try:
            texts = columns if may_be_empty else columns[:-1]
            values = [_text(row, column, may_be_empty) for column in texts]
            yield values if may_be_empty else [*values, _label(row, columns[-1])]
        except ValueError as error:
            problems.append((place, str(error)))
            unlabelled = unlabelled or (not may_be_empty and columns[-1] in row and _is_unlabelled(row[columns[-1]]))
            if number == 0 and not all(column in row for column in columns):
                break  # and so would every row
    if problems:
        (place, problem), *others = problems
        more = f"; {len(others)} more bad rows: {', '.join(p for p, _ in others[:20])}" if others else ""
        remedy = f"; {DROP} leaves out rows without a label" if unlabelled else ""
        raise ValueError(f"{path} {place}: {problem}{more}{', ...' if len(others) > 20 else ''}{remedy}")


def _is_unlabelled(value: Any) -> bool:
    return not isinstance(value, list | dict) and as_label(value) is None


def _label(row: dict[str, Any], column: str) -> str:
    """The label in a column."""
    value = _cell(row, column)
    if (label := as_label(value)) is None:
        raise ValueError(f"expected text in {column!r}, got {repr(value)[:20] if value else 'an empty field'}")
    return _within_limits(label, column)


def _text(row: dict[str, Any], column: str, may_be_empty: bool) -> str:
    """The text in a column; whole numbers and booleans are texts too, as in a CSV file."""
    value = _cell(row, column)
    if may_be_empty and (value is None or not str(value).strip()):
        return ""
    if isinstance(value, float) and value.is_integer():  # 2.0 stands for 2 where a column had holes
        value = int(value)
    if isinstance(value, int):
        return str(value).lower()  # true, as JSON writes it
    if not isinstance(value, str):
        remedy = ": write it as text, in JSON with quotes" if isinstance(value, float) else ""
        raise ValueError(f"expected text in {column!r}, got {type(value).__name__}{remedy}")
    if not value.strip():
        raise ValueError(f"expected text in {column!r}, got an empty field")
    return _within_limits(value, column)


def _cell(row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise ValueError(f"expected a column {column!r}, got {preview(row)}; name the columns that are there")
    return row[column]


def _within_limits(value: str, column: str) -> str:
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"expected at most {LONGEST_TEXT:,} characters in {column!r}, got {len(value):,}")
    if not value.isascii() and SURROGATE.search(value):
        raise ValueError(f"expected text in {column!r}, got half of a surrogate pair")
    return value


def _suffix(file: str | Path) -> str:
    """The suffix in lower case, that before .gz of a compressed file."""
    path = Path(str(file).lower())
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return {".ndjson": ".jsonl"}.get(suffix, suffix)


def _content(path: Path) -> bytes:
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as stream:
            return stream.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a file that gzip has compressed: {error}") from error
