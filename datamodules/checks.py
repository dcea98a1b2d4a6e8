"""Likely mistakes in labels and columns, as one-line warnings; callbacks/reports/data.py finds rows that repeat."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from datamodules.files.cells import CODE, as_categories, as_numbers
from datamodules.files.formats import Row
from datamodules.splits import listed

FEW_ROWS = 100  # rows, below which the standard error of an accuracy of 50 % is above 5 points
# What a reader takes for a number: $12, 10.5 %, 1,992.17, 10,5, 47_000, 47 kg
NUMERAL = re.compile(r"\W*\d[\d.,'_ ]*\W*[^\W\d_]{0,4}\W*")
TOLD_APART = 0.03  # share of the errors without a column, below which it gives the label away
LEAVE_OUT = "set --data.id_columns '[{}]', or auto"
DOMINANT_SHARE = 0.95  # share of the rows above which one label leaves little to tell apart


def label_oddities(labels: Sequence[str]) -> list[str]:
    """Labels that are one in two spellings, and a label that nearly all rows have."""
    counts, lines = Counter(labels), []
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        spellings[folded(label).removesuffix(".0")].append(label)
    twice = [group for group in spellings.values() if len(group) > 1]
    if twice:
        group = ", ".join(f"{label!r} ({counts[label]} rows)" for label in twice[0])
        more = f" ({len(twice) - 1} more such groups)" if len(twice) > 1 else ""
        lines.append(
            f"the labels {group} differ only by spaces, capitals, a .0 or what cannot be seen{more}: make them one"
        )
    parts = {label: re.split(r"\s*[|;]\s*", label) for label in counts}
    joined = [label for label, names in parts.items() if len(names) > 1 and not counts.keys().isdisjoint(names)]
    if joined:
        lines.append(f"{listed(joined, 5)} join labels that are there alone: each is one more label, as a row has one")
    label, count = counts.most_common(1)[0]
    if count > DOMINANT_SHARE * len(labels):
        lines.append(
            f"{count} of {len(labels)} rows ({count / len(labels):.1%}) have the label {label!r}: accuracy says "
            "little, look at macro_f1, and try --model.class_weight balanced"
        )
    return lines


def stray_cells(columns: Iterable[str], rows: Sequence[Row]) -> dict[str, str]:
    """Columns that some cells keep from being read as numbers, by their names."""
    lines = {}
    for name in columns:
        cells = [row.get(name) for _, row in rows]
        filled = [n for n, category in enumerate(as_categories(cells)) if category]
        numbers = as_numbers(cells)
        stray = [n for n in filled if numbers[n] is None]
        numerals = len(filled) - sum(NUMERAL.fullmatch(str(cells[n])) is None for n in stray)
        if stray and numerals > len(filled) / 2:
            place, value = rows[stray[0]][0], cells[stray[0]]
            lines[name] = (
                f"column {name!r} looks like numbers in {numerals} of {len(filled)} rows, but {place} has "
                f"{str(value)[:50]!r}, so that each value counts as a category: write numbers as 1234.5, leave "
                f"unknown ones empty, or, if they are names, set --data.categorical_columns '[{name}]'"
            )
    return lines


def zero_padded_columns(columns: Iterable[str], rows: Sequence[Row]) -> list[str]:
    """Columns of numbers that begin with a 0, as names do."""
    lines = []
    for name in columns:
        values = [row.get(name) for _, row in rows]
        if codes := [value for value in values if isinstance(value, str) and CODE.fullmatch(value)]:
            lines.append(
                f"column {name!r} is read as numbers, but {len(codes)} of {len(values)} rows begin with a "
                f"0, as {codes[0]!r}: if they are names, set --data.categorical_columns '[{name}]'"
            )
    return lines


def id_like_columns(
    categories: Mapping[str, Sequence[str]], numbers: Mapping[str, Tensor], rows: int
) -> dict[str, str]:
    """Columns of so many categories that they are names of rows, and columns of numbers that count the rows."""
    return {
        name: f"column {name!r} has {len(known)} different values in {rows} training rows: if it is an id or a text, "
        + LEAVE_OUT.format(name)
        for name, known in categories.items()
        if len(known) > 20 and len(known) > rows / 2
    } | {
        name: f"column {name!r} counts the rows: if it is an id or a text, " + LEAVE_OUT.format(name)
        for name, values in numbers.items()
        if len(values) > 20 and bool((values.sort().values.diff() == 1).all())
    }


def telling_columns(columns: Mapping[str, Tensor], numbers: Collection[str], target: Tensor) -> dict[str, str]:
    """Columns each of which alone tells the class of nearly all rows, with a line for each.

    A row counts as told by the others: of a value that repeats by their majority, else by where the classes change
    along the column. Columns and target are (N,); those not in `numbers` hold the numbers of categories.
    """
    rows, classes = len(target), target.unique(return_counts=True)[1]
    bearable = TOLD_APART * (rows - int(classes.max()))  # errors, as a share of those of the most frequent class
    return {
        name: f"column {name!r} alone tells the label of nearly all training rows: if it is known only afterwards, "
        + LEAVE_OUT.format(name)
        for name, x in columns.items()
        if rows >= 20 and _errors(x, target, name in numbers) <= bearable
    }


def _errors(x: Tensor, target: Tensor, is_number: bool) -> float:
    values, at = x.nan_to_num(-math.inf).unique(return_inverse=True)
    if is_number and len(values) > len(x) / 5:
        changes = (target[x.argsort()].diff() != 0).sum()  # an error is two of them
        return float(changes - (len(target.unique()) - 1)) / 2
    count = torch.zeros(len(values), int(target.max()) + 1).index_put_((at, target), torch.tensor(1.0), accumulate=True)
    most = count.max(dim=1).values
    return float((count.sum(dim=1) - most).sum() + (most == 1).sum())  # a value of one row is told by none


def new_categories(columns: Mapping[str, Collection[str]], rows: Sequence[Row], kind: str) -> list[str]:
    """Categories of rows of some kind, such as "test rows", that no training row has: those of `columns`, by name."""
    lines = []
    for name, known in columns.items():
        found = as_categories([row.get(name) for _, row in rows]) if any(name in row for _, row in rows) else []
        if unseen := [value for value in found if value not in known]:
            few = listed(sorted(set(unseen)), 5)
            lines.append(
                f"{len(unseen)} of {len(found)} {kind} have a {name!r} that no training row has ({few}): "
                "it counts as none of the known ones"
            )
    return lines


def absent_columns(columns: Collection[str], rows: Sequence[Row], kind: str) -> list[str]:
    """Rows of some kind, such as "test rows", that lack one of the columns, as JSON lets them."""
    lacking = [(place, row) for place, row in rows if not set(columns) <= row.keys()]
    if not lacking:
        return []
    place, row = lacking[0]
    absent, there = ([*names][:5] for names in ([name for name in columns if name not in row], row))
    return [
        f"{len(lacking)} of {len(rows)} {kind} lack a column, whose value counts as missing: {place} has no "
        f"{', '.join(map(repr, absent))}, but {', '.join(map(repr, there))}"
    ]


def few_to_choose_by(number: int) -> list[str]:
    """Validation rows so few that a choice between epochs, thresholds or options is chance."""
    if number >= FEW_ROWS:
        return []
    error = 100 * math.sqrt(0.25 / max(number, 1))
    return [
        f"{number} validation rows are few to choose anything by: an accuracy measured on them has a standard error of "
        f"up to {error:.0f} points; see --refit in `train.py fit --help`"
    ]


def folded(text: str) -> str:
    """A text without what is no difference to a reader: capitals, spaces, invisible characters, and their encoding."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return " ".join(visible.split()).casefold()
