"""Rows of CSV, TSV, JSON, JSONL and Parquet files that nothing has checked before."""

import csv
import gzip
import io
import itertools
import json
import math
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from datamodules.files.bounded import LONGEST_TEXT, read_bounded
from datamodules.files.packed import Packed

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
DELIMITERS = ",;\t"
EXCELS_LINE = re.compile(r"\ufeff?sep=.[\r\n]")
SURROGATE = re.compile("[\ud800-\udfff]")

csv.field_size_limit(LONGEST_TEXT)  # characters; Python's own limit is an eighth of it

Row = tuple[str, dict[str, Any]]  # where it stands in its file, for error messages; column to value
Files = str | Path | Sequence[str | Path]


def read_labelled(
    files: Files, text_column: str, label_column: str, drop_unlabelled: bool = False
) -> tuple[list[str], list[str]]:
    """Texts and labels of one or several files, in their order.

    Args:
        files: .csv or .tsv with a header line, its columns separated by `,` `;` or tabs; .json, a list of objects;
            .jsonl, one object a line; .parquet. Text in UTF-8, or in UTF-16. Each may be compressed: .csv.gz.
        text_column: name of the column, or key, that holds the text.
        label_column: name of the column, or key, that holds the label.
        drop_unlabelled: leave out the rows without a label, with a line that tells how many.

    Raises:
        ValueError: one line that names the file and all bad rows, what was expected and what was found.
        OSError: a file cannot be opened.
    """
    texts, labels = [], []
    for path in each_file(files):
        rows = labelled_rows(path, (text_column, label_column), drop_unlabelled)
        for text, label in column_values(path, rows, (text_column, label_column)):
            texts.append(text)
            labels.append(label)
    return texts, labels


def labelled_rows(path: Path, columns: Sequence[str], drop_unlabelled: bool) -> list[Row]:
    """All rows of a file, as for `read_labelled`; the last of the columns holds the label."""
    rows, label = list(read_rows(path, columns)), columns[-1]
    if not rows:
        raise ValueError(f"{path}: expected at least one row, the file is empty")
    kept = [(place, row) for place, row in rows if not _is_bare(row.get(label))]
    if not (drop_unlabelled and kept) or len(kept) == len(rows):
        return rows
    rank_zero_only(print)(f"note: {len(rows) - len(kept)} of {len(rows)} rows of {path} have no label", file=sys.stderr)
    return kept


def read_inputs(path: str, text_column: str) -> tuple[Sequence[str], Sequence[dict[str, Any]] | None]:
    """Texts to predict, "" where a row has none, in order, and all columns of their rows; there may be millions.

    Args:
        path: a .txt file with one text a line, a file as for `read_labelled`, or "-" for standard input.
        text_column: name of the column, or key, that holds the text; unused for lines of text.

    Returns:
        The texts, and the rows as maps from column to value; None for lines of text, which have no more.

    Raises:
        ValueError: no text, or a file whose content does not match its suffix.
        OSError: the file cannot be opened.
    """
    rows: Packed[dict[str, Any]] | None = None
    if path == "-" or _suffix(path) == ".txt":
        content = _standard_input() if path == "-" else _content(Path(path))
        text = _text_of("standard input" if path == "-" else path, content)
        texts = Packed(line.rstrip("\n") if line.strip() else "" for line in text.open())
    else:
        rows = Packed()
        placed = _kept(read_rows(path, (text_column,), (*SUFFIXES, ".txt")), rows)
        texts = Packed(text for (text,) in column_values(path, placed, (text_column,), may_be_empty=True))
    if not any(texts):
        raise ValueError(f"{'standard input' if path == '-' else path}: expected at least one text, got none")
    return texts, rows


def _kept(placed: Iterable[Row], rows: Packed[dict[str, Any]]) -> Iterator[Row]:
    """The same, each put by as it passes."""
    for place, row in placed:
        rows.append(row)
        yield place, row


def each_file(files: Files) -> list[Path]:
    """The paths of one or several files."""
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def require_files(option: str, files: Files | None) -> None:
    """Refuse a file that is not there, by the option that names it.

    Raises:
        FileNotFoundError: names option and file.
    """
    for path in each_file(files) if files else ():
        if not path.exists() and str(path) != "-":
            raise FileNotFoundError(f"{option}: no file at {path}; name one with --data.{option} FILE")


def read_rows(file: str | Path, columns: Sequence[str], suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[Row]:
    """All rows of a file, with their places, one after another.

    Args:
        file: as for `read_labelled`.
        columns: names that a header must have; of a CSV or TSV file they decide what separates the columns.
        suffixes: to name in the refusal of any other.

    Raises:
        ValueError: the content does not match the suffix; one line. Perhaps only when a row is asked for.
        OSError: the file cannot be opened.
    """
    path, suffix = Path(file), _suffix(file)
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: expected a file that ends in one of {', '.join(suffixes)}, each perhaps with .gz; convert it to "
            "one with a row for each example"
        )
    content = _content(path)
    if suffix == ".parquet":
        return _parquet_rows(path, content)
    text = _text_of(path, content)
    return _json_rows(path, text, suffix) if suffix.startswith(".json") else _table_rows(path, text, suffix, columns)


def column_values(
    path: str | Path, rows: Iterable[Row], columns: Sequence[str], may_be_empty: bool = False
) -> Iterator[list[str]]:
    """The text in each of these columns, for every row.

    Raises:
        ValueError: after the last, names all rows whose value is missing or no text; no text at all is one of "" if it
            may be empty.
    """
    problems: list[tuple[str, str]] = []
    unlabelled = False
    for number, (place, row) in enumerate(rows):
        try:
            yield [_text(row, column, may_be_empty) for column in columns]
        except ValueError as error:
            problems.append((place, str(error)))
            unlabelled = unlabelled or (not may_be_empty and columns[-1] in row and _is_bare(row[columns[-1]]))
            if number == 0 and not all(column in row for column in columns):
                break  # the header lacks it, and so would every row
    if problems:
        (place, problem), *others = problems
        more = f"; {len(others)} more bad rows: {', '.join(p for p, _ in others[:20])}" if others else ""
        remedy = "; --data.drop_unlabelled true leaves out rows without a label" if unlabelled else ""
        raise ValueError(f"{path} {place}: {problem}{more}{', ...' if len(others) > 20 else ''}{remedy}")


def _is_bare(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(row: dict[str, Any], column: str, may_be_empty: bool) -> str:
    """The value of a column, as text."""
    if column not in row:
        raise ValueError(
            f"expected a column {column!r}, got {_preview(row)}; name the columns that are there, or put a header "
            "line on top if there is none"
        )
    value = row[column]
    if value is None and may_be_empty:
        return ""
    if isinstance(value, float) and value.is_integer():  # 2.0 stands for 2 where a column had holes
        value = int(value)
    if not isinstance(value, str | int):
        remedy = ": write it as text, in JSON with quotes" if isinstance(value, float) else ""
        raise ValueError(f"expected text in {column!r}, got {type(value).__name__}{remedy}")
    value = str(value).lower() if isinstance(value, bool) else str(value)
    if SURROGATE.search(value):
        raise ValueError(f"expected text in {column!r}, got half of a surrogate pair")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"expected at most {LONGEST_TEXT:,} characters in {column!r}, got {len(value):,}")
    if not value.strip():
        if not may_be_empty:
            raise ValueError(f"expected text in {column!r}, got an empty field")
        return ""
    return value


# --- formats ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """What a file holds, decoded piece by piece: all of it as one string may take four bytes for each character."""

    content: bytes
    encoding: str

    def open(self, newline: str | None = None) -> TextIO:
        """From its start; lines end in \\n, however they ended, unless `newline` is "", which leaves them alone."""
        return io.TextIOWrapper(io.BytesIO(self.content), self.encoding, newline=newline)


def _table_rows(path: Path, text: Text, suffix: str, columns: Sequence[str]) -> Iterator[Row]:
    _refuse_note_to_excel(path, text)
    delimiter = _delimiter(text, suffix, columns)
    records, problem, is_broken = _records(text, delimiter, suffix), "", False
    try:
        spanning = [line for line, values in records if any("\n" in value or "\r" in value for value in values)]
        if spanning:
            problem = f"line {spanning[0]}: a quoted field holds what could be rows; double its quotes, or, if it is "
            problem += "meant to, put quotes around the names in the header too"
    except ValueError as error:
        problem, is_broken = str(error), True
    records = _records(text, delimiter, suffix)
    if problem:  # perhaps a quote that quotes nothing, and would swallow all rows up to the next one
        fits = _fits_without_quotes(text, delimiter)
        if fits and suffix == ".tsv":
            records = _records_without_quotes(text, delimiter)
        elif fits or is_broken:
            raise ValueError(f"{path} {problem}")
    line, header = next(records, (0, []))
    if repeated := [name for name in columns if header.count(name) > 1]:
        raise ValueError(f"{path} line {line}: expected columns of different names, got {_preview(repeated)} twice")
    names, has_rows = _different(header), False
    for line, values in records:
        has_rows = True
        if len(values) != len(names):
            raise ValueError(f"{path} line {line}: expected {len(names)} columns, as in the header, got {len(values)}")
        yield f"line {line}", dict(zip(names, values, strict=True))
    if not has_rows:
        _require_names(f"{path} line {line}", header, columns)


def _refuse_note_to_excel(path: Path, text: Text) -> None:
    if EXCELS_LINE.match(text.open(newline="").read(7)):
        raise ValueError(f"{path} line 1: expected the columns' names, got a note to Excel, sep=: remove that line")


def _require_names(place: str, header: list[str], names: Sequence[str]) -> None:
    """Refuse a file of one line that is no header: a page of HTML, or another kind of file under this name."""
    missing = [name for name in names if name not in header]
    if header and missing:
        raise ValueError(
            f"{place}: expected a column {', '.join(map(repr, missing[:10]))}, got {_preview(header)} and no other "
            "line; is it a table at all?"
        )


def _delimiter(text: Text, suffix: str, columns: Sequence[str]) -> str:
    """What separates the columns: that by which the header has the names wanted, else what the suffix stands for."""
    own = "," if suffix == ".csv" else "\t"
    for delimiter in (own, *DELIMITERS.replace(own, "")):
        try:
            header = next(filter(None, csv.reader(text.open(newline=""), delimiter=delimiter)), [])
        except csv.Error:
            continue
        if set(columns) <= set(header):
            return delimiter
    return own


def _records(text: Text, delimiter: str, suffix: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its last line and the fields of each record that is no empty line."""
    # Not splitlines(): a quoted field may hold line breaks, and a field any of Unicode's other separators.
    reader, start = csv.reader(text.open(newline=""), delimiter=delimiter, strict=True), 1
    try:
        for values in filter(None, reader):
            yield reader.line_num, values
            start = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num}: not a row of a {suffix[1:]} file: {error}; the row starts in line {start}"
        ) from error


def _records_without_quotes(text: Text, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The same where quotes have no meaning."""
    return ((n, line.rstrip("\n").split(delimiter)) for n, line in enumerate(text.open(), 1) if line.strip())


def _fits_without_quotes(text: Text, delimiter: str) -> bool:
    """Whether all lines then have the columns of a header without quotes."""
    records = _records_without_quotes(text, delimiter)
    _, header = next(records)
    fits = len(header) > 1 and not any('"' in name for name in header)
    return fits and all(len(values) == len(header) for _, values in records)


def _different(header: list[str]) -> list[str]:
    """The names, those that came before with a number: a, a.1, a.2."""
    names: dict[str, None] = {}
    for name in header:
        numbered = (f"{name}.{number}" if number else name for number in itertools.count())
        names[next(candidate for candidate in numbered if candidate not in names)] = None
    return list(names)


def _json_rows(path: Path, text: Text, suffix: str) -> Iterator[Row]:
    if _is_json_lines(text, suffix):
        for n, line in enumerate(text.open(), 1):
            if line.strip():
                yield f"line {n}", _object(f"{path} line {n}", _parsed(f"{path} line {n}", line))
        return
    content = _parsed(str(path), text.open(newline="").read())
    if not isinstance(content, list):
        remedy = "; with pandas, to_json(orient='records')" if isinstance(content, dict) else ""
        raise ValueError(f"{path}: expected a list of objects, got {type(content).__name__}{remedy}")
    for n, value in enumerate(content, 1):
        yield f"entry {n}", _object(f"{path} entry {n}", value)


def _is_json_lines(text: Text, suffix: str) -> bool:
    """Whether each line is a value of its own, which half of all writers call .json."""
    lines = list(itertools.islice(filter(str.strip, text.open()), 2))
    if suffix == ".jsonl":
        return not lines or not lines[0].lstrip().startswith("[")
    try:
        return len(lines) == 2 and isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def _parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        file = ParquetFile(pyarrow.BufferReader(content))
        schema = pyarrow.schema([field.with_type(_in_microseconds(field.type)) for field in file.schema_arrow])
        tables = (pyarrow.Table.from_batches([piece]).cast(schema, safe=False) for piece in file.iter_batches())
        for number, row in enumerate(itertools.chain.from_iterable(table.to_pylist() for table in tables), 1):
            yield f"row {number}", plain(row)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: expected a Parquet file: {error}") from error


def _in_microseconds(kind: Any) -> Any:
    """An Arrow type; of one in nanoseconds, which Python's dates and times do not have, that in microseconds."""
    import pyarrow

    if str(kind).startswith("timestamp[ns"):
        return pyarrow.timestamp("us", kind.tz)
    return {"duration[ns]": pyarrow.duration("us"), "time64[ns]": pyarrow.time64("us")}.get(str(kind), kind)


def plain(value: Any) -> Any:
    """A cell of Parquet or of Python as JSON can hold it, the same from both.

    >>> plain([float("nan"), b"Oslo", Decimal("2.50"), timedelta(minutes=1)])
    [None, 'Oslo', 2.5, 60.0]
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    if str(value) in ("nan", "NaN", "NaT", "<NA>"):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if Decimal(str(number)) == value else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _suffix(file: str | Path) -> str:
    """The suffix in lower case, that before .gz of a compressed file."""
    path = Path(str(file).lower())
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _content(path: Path) -> bytes:
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as stream:
            return bytes(read_bounded(path, stream, by_line=_suffix(path) in (".csv", ".tsv", ".jsonl", ".txt")))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: expected a file that gzip has compressed: {error}") from error


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ValueError("standard input: expected texts, but it is closed")
    return bytes(read_bounded("standard input", sys.stdin.buffer, by_line=True))


def _text_of(source: object, content: bytes) -> Text:
    start = content[:32]  # of UTF-16 without a mark every other byte is zero, as long as it is English
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif len(start) > 3 and not any(start[1::2]) and all(start[::2]):
        encoding = "utf-16-le"
    elif len(start) > 3 and not any(start[::2]) and all(start[1::2]):
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"  # with or without a byte order mark
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else "UTF-16"
        raise ValueError(
            f"{source}: expected {name}, got byte {content[error.start]:#04x} at {error.start}; save it as UTF-8"
        ) from error
    return Text(content, encoding)


def _finite(text: str) -> float | str | None:
    """A number of a JSON file, None for NaN; an infinite one as it is written, since no JSON can hold it."""
    number = float(text)
    return number if math.isfinite(number) else None if math.isnan(number) else text


def _parsed(place: str, text: str) -> Any:
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: expected JSON: {error}") from error


def _object(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object with named fields, got {type(value).__name__}")
    return value


def _preview(names: Iterable[str]) -> str:
    """The first few names, in one line of limited length."""
    return ", ".join(repr(name[:50]) for name in itertools.islice(names, 10)) or "none"
