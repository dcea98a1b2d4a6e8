"""Decodes the bytes of CSV, TSV, JSON, JSON Lines and Parquet files into rows."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

LONGEST_TEXT = 1_000_000  # characters: a novel
LARGE = 10_000_000  # bytes, from which on pyarrow is worth its import
DELIMITERS = ",;\t|"
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16

csv.field_size_limit(LONGEST_TEXT)  # Python's own limit is an eighth of it

Row = tuple[str, dict[str, Any]]  # where it stands in its file, for error messages; column to value


class Text:
    """Bytes in UTF-8, or in UTF-16 with a mark, decoded piece by piece: one string may take four bytes a character.

    Raises:
        ValueError: they are in neither.
    """

    def __init__(self, source: object, content: bytes) -> None:
        self.content = content
        self.encoding = "utf-16" if content.startswith(BYTE_ORDER_MARKS) else "utf-8-sig"  # with or without a mark
        try:
            content.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{source}: expected {self.encoding.removesuffix('-sig').upper()}, got byte "
                f"{content[error.start]:#04x} at {error.start}; save it as UTF-8"
            ) from error

    def open(self, newline: str | None = None) -> TextIO:
        """From its start; lines end in \\n, however they ended, unless `newline` is "", which leaves them alone."""
        return io.TextIOWrapper(io.BytesIO(self.content), self.encoding, newline=newline)


def table_rows(path: Path, text: Text, suffix: str, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a CSV or TSV file; a row of several lines stands in its first."""
    delimiter, spaced = _delimiter(text, suffix, columns)
    reader = csv.reader(text.open(newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    # A quote that quotes nothing swallows all rows up to the next one.
    may_swallow = b'"' in text.content and _fits_without_quotes(text, delimiter)
    names: list[str] = []
    start = 1
    try:
        # Not splitlines(): a quoted field may hold line breaks, and a field any of Unicode's other separators.
        for values in reader:
            line, start = start, reader.line_num + 1
            if reader.line_num > line and may_swallow:
                raise ValueError(
                    f"{path} line {reader.line_num}: a quoted field holds what could be rows; double its quotes, or, "
                    "if it is meant to, put quotes around the names in the header too"
                )
            if not values:
                continue
            if not names:
                header = _stripped(values, columns)
                _require_header(f"{path} line {line}", header, columns, reader)
                names = _different(header)
            elif len(values) != len(names):
                raise ValueError(
                    f"{path} line {line}: expected {len(names)} columns, as in the header, got {len(values)}"
                )
            else:
                yield f"line {line}", dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{path} line {reader.line_num}: not a row of a {suffix[1:]} file: {error}; the row starts in line {start}"
        ) from error


def clean_columns(text: Text, columns: Sequence[str]) -> list[list[str]] | None:
    """These columns of a large CSV file, by pyarrow in a tenth of the time; None leaves it to `table_rows`.

    That are all files but those without quotes, with a comma between rows of equal length and one column of each name.
    """
    content = text.content.replace(b"\r\n", b"\n")
    if len(content) < LARGE or text.encoding == "utf-16" or b'"' in content or b"\r" in content:
        return None
    header = content.partition(b"\n")[0].decode(text.encoding).split(",")
    if any(header.count(name) != 1 for name in columns):
        return None
    try:
        import pyarrow
        from pyarrow import csv as arrow_csv

        kinds = {name: pyarrow.string() for name in columns}
        options = arrow_csv.ConvertOptions(include_columns=columns, column_types=kinds, strings_can_be_null=False)
        table = arrow_csv.read_csv(pyarrow.BufferReader(content), convert_options=options)
    except (ImportError, ValueError):  # of which Arrow's own errors are
        return None
    return [table[name].to_pylist() for name in columns]


def _require_header(place: str, header: list[str], columns: Sequence[str], rest: Iterator[list[str]]) -> None:
    if header[0].startswith("sep="):
        raise ValueError(f"{place}: expected the columns' names, got a note to Excel, sep=: remove that line")
    count = Counter(header)
    if repeated := [name for name in columns if count[name] > 1]:
        raise ValueError(f"{place}: expected columns of different names, got {preview(repeated)} twice")
    if missing := [name for name in columns if name not in count]:
        hint = " and no other line; is it a table at all?"  # a page of HTML, or another kind of file under this name
        if any(rest):
            hint = "; name the columns that are there, or put a header line on top if there is none"
        raise ValueError(f"{place}: expected a column {preview(missing)}, got {preview(header)}{hint}")


def _delimiter(text: Text, suffix: str, columns: Sequence[str]) -> tuple[str, bool]:
    """What separates the columns, and if a space follows it.

    That by which the header has the names wanted, else what the suffix stands for.
    """
    own = "," if suffix == ".csv" else "\t"
    for delimiter in (own, *DELIMITERS.replace(own, "")):
        try:
            header = next(filter(None, csv.reader(text.open(newline=""), delimiter=delimiter)), [])
        except csv.Error:
            continue
        if set(columns) <= {*_stripped(header, columns)}:
            return delimiter, any(name.startswith(" ") and name not in columns for name in header[1:])
    return own, False


def _fits_without_quotes(text: Text, delimiter: str) -> bool:
    """Whether all lines then have the columns of a header without quotes."""
    lines = (line for line in text.open() if line.strip())
    header = next(lines, "")
    separators = header.count(delimiter)
    return separators > 0 and '"' not in header and all(line.count(delimiter) == separators for line in lines)


def _stripped(header: list[str], columns: Sequence[str]) -> list[str]:
    """The names without spaces around them; as they stand where they are wanted so or another would be the same."""
    return [name if name in columns or name.strip() in header else name.strip() for name in header]


def _different(header: list[str]) -> list[str]:
    """The names, those that came before with a number: a, a.1, a.2."""
    names: dict[str, None] = {}
    for name in header:
        numbered = (f"{name}.{number}" if number else name for number in itertools.count())
        names[next(candidate for candidate in numbered if candidate not in names)] = None
    return list(names)


def json_rows(path: Path, text: Text, suffix: str) -> Iterator[Row]:
    """The objects of a JSON or JSON Lines file."""
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


def parquet_rows(path: Path, content: bytes) -> Iterator[Row]:
    """The rows of a Parquet file."""
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


def preview(names: Iterable[str]) -> str:
    """The first few names, in one line of limited length."""
    return ", ".join(repr(name[:50]) for name in itertools.islice(names, 10)) or "none"
