"""Cells of a table as numbers, categories and labels, the same from every kind of file."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Cell = TypeVar("Cell")
MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "?", "-"}  # no number, in any case
NO_LABEL = MISSING - {"none", "?", "-"}  # these three may be labels
LARGEST = 3e38  # what a float32 can hold
CODE = re.compile(r"0\d+")  # a postal code, a telephone number
WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0+")  # as other programs write a whole number
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d.*)")
MIDNIGHT = re.compile(r"00:00(:00(\.0+)?)?")


def as_number(value: Any) -> float | None:
    """A number as such, NaN where it is missing, None for anything else."""
    if value is None or str(value).strip().casefold() in MISSING:
        return math.nan
    if isinstance(value, bool) or "_" in str(value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isnan(number) or abs(number) < LARGEST else None


def as_numbers(cells: Sequence[Any]) -> list[float | None]:
    """A column by `as_number`; fast where all of it are plain numbers."""
    try:
        numbers = list(map(float, cells))
        is_plain = "_" not in "".join(cell if isinstance(cell, str) else "_" * isinstance(cell, bool) for cell in cells)
        if is_plain and max(map(abs, numbers), default=0) < LARGEST:
            return numbers  # type: ignore[return-value]  # NaN, which is in no order, is missing either way
    except (TypeError, ValueError, OverflowError):
        pass
    return _each_once(as_number, cells)


def as_category(value: Any) -> str:
    """A category as text, the same from every kind of file; "" where it is missing."""
    if value is None or (not isinstance(value, str) and str(value).casefold() in MISSING):  # NaN, or pandas' NA
        return ""
    text, number = str(value).strip(), as_number(value)
    if number is not None and math.isfinite(number) and not CODE.match(text):  # 2, 2.0 and 2.00 are one
        if not number.is_integer():
            return str(number)
        text = str(int(number)) if abs(number) < 2**53 or isinstance(value, float) else text
    return in_one_spelling(text)


def as_categories(cells: Sequence[Any]) -> list[str]:
    """A column by `as_category`."""
    return _each_once(as_category, cells)


def _each_once(convert: Callable[[Any], Cell], cells: Sequence[Any]) -> list[Cell]:
    """A column, a text that repeats converted once."""
    known = {cell: convert(cell) for cell in {cell for cell in cells if isinstance(cell, str)}}
    return [known[cell] if isinstance(cell, str) else convert(cell) for cell in cells]


def as_label(value: Any) -> str | None:
    """A label as text, the same from every kind of file; None where it is missing.

    >>> [as_label(value) for value in (2.0, "2.0", True, "True", 2.5, "2.50", "2024-05-01T00:00:00", "NA", "none")]
    ['2', '2', 'true', 'true', '2.5', '2.50', '2024-05-01', None, 'none']

    Raises:
        ValueError: a list or a map.
    """
    if isinstance(value, list | dict):
        raise ValueError(f"expected one label per row, got {str(value)[:50]}")
    if isinstance(value, str):
        return None if value.strip().casefold() in NO_LABEL else in_one_spelling(value)
    return as_category(value) or None


def in_one_spelling(text: str) -> str:
    """True as true, 2.0 as 2, a time at midnight as the date alone, and any other with a space."""
    if text.lower() in ("true", "false"):
        return text.lower()
    if found := WHOLE.fullmatch(text):
        return found[1]
    if text[:1].isdigit() and (found := TIME.fullmatch(text)):
        return found[1] if MIDNIGHT.fullmatch(found[2]) else f"{found[1]} {found[2]}"
    return text
