"""Cells of a table as numbers and as categories, the same from every kind of file."""

import math
import re
from typing import Any

MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "none", "?", "-"}  # no number, in any case
LARGEST = 3e38  # what a float32 can hold
CODE = re.compile(r"0\d+")  # a postal code, a telephone number


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


def as_category(value: Any) -> str:
    """A category as text, the same from every kind of file; "" where it is missing."""
    if value is None or (not isinstance(value, str) and str(value).casefold() in MISSING):  # NaN, or pandas' NA
        return ""
    text, number = str(value).strip(), as_number(value)
    if number is not None and math.isfinite(number) and not CODE.match(text):  # 2, 2.0 and 2.00 are one
        if not number.is_integer():
            return str(number)
        text = str(int(number)) if abs(number) < 2**53 or isinstance(value, float) else text
    return text.lower() if text.lower() in ("true", "false") else text
