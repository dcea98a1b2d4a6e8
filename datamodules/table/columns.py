"""Columns of numbers and of categories: rows to numbers (N, F), and these to features (N, D)."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.files.cells import MIDNIGHT, as_categories, as_category, as_number, as_numbers
from datamodules.files.formats import Row, plain
from datamodules.table.tabular import LARGEST

Kind = list[str] | None  # of a column: its categories, "" for a missing one; None for numbers
END = r"\s*['\"]?\)?\]$"
# The category, group 1, in an array of one cell as numpy writes it: ['pro '], [True], [nan], [Timestamp('2024-05-01')].
CELL = rf"""(?xs)
    ^\[ (?:[\w.]+\()?  # a type, such as Timestamp
    (?: (?:nan|None|NaT|<NA>) (?=\)?\]$) )?  # missing: the category is empty
    ['"]?\s* (?: \+ (?=\d+(?:\.\d*)?{END}) )?
    (
        -?(?:0|[1-9]\d*) (?=\.0*{END})  # 2.0 as 2
        | -?(?:0|[1-9]\d*)\.\d*[1-9] (?=0*{END})  # 2.50 as 2.5
        | \d{{4}}-\d\d-\d\d (?=[T ]{MIDNIGHT.pattern.replace("(", "(?:")}{END})  # a day
        | .*? (?={END})
    ).*"""
PRECISION = torch.float64  # a time in seconds since 1970 has more digits than float32


def kind_of(name: str, rows: Sequence[Row], train_rows: Sequence[Row], is_named: bool) -> Kind:
    """What a column holds: numbers, if all rows of the file do, held out or not; else the categories of training rows.

    Args:
        name: of the column.
        rows: of the whole file, in which a list, a map or no value at all is refused.
        train_rows: those to learn from.
        is_named: whether the user takes its numbers for names.
    """
    cells = [row.get(name) for _, row in rows]
    if nested := {list, dict} & set(map(type, cells)):
        place, value = next((place, row[name]) for place, row in rows if type(row.get(name)) in nested)
        raise ValueError(
            f"{place}: expected a number or a category in {name!r}, got {json.dumps(value)[:50]}: make "
            f"a column of each part, or leave it out with --data.id_columns '[{name}]'"
        )
    numbers = as_numbers(cells)
    if is_named or None in numbers:
        return sorted({*as_categories([row.get(name) for _, row in train_rows])})
    if all(number != number for number in numbers):
        raise ValueError(f"column {name!r} has no value in the training rows: --data.id_columns '[{name}]'")
    return None


class Columns(dict[str, Kind]):
    """The F columns to learn from, in their order, by name: the categories of each, or None for numbers.

    Attributes:
        number_of: of each column of categories the number of each.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        super().__init__(kinds)
        self.number_of = {
            name: {category: n for n, category in enumerate(kind)} for name, kind in kinds.items() if kind is not None
        }

    def require(self, place: str, *rows: Iterable[str]) -> None:
        """Refuse, with a ValueError, rows none of which has a column."""
        known = set[str]().union(*rows)
        if absent := [name for name in self if name not in known]:
            raise ValueError(
                f"{place}: expected a column {', '.join(map(repr, absent[:10]))}, got {', '.join(sorted(known)[:20])}"
            )

    def named(self, number: int, row: Any) -> dict[str, Any]:
        """A row of predict_inputs, a map or values in the order of the columns, as a map from column to value."""
        row = plain(row)
        if isinstance(row, list) and len(row) == len(self):
            return dict(zip(self, row, strict=True))
        if not isinstance(row, dict):
            expected = f"{len(self)} values ({', '.join(self)})"
            raise ValueError(f"predict_inputs: expected {expected}, got {row} as row {number}")
        self.require(f"row {number}", row)
        return row

    def numbers(self, rows: Sequence[Row], may_lack: bool) -> Tensor:
        """Numbers, NaN where missing, and numbers of categories, -1 where unknown: (N, F).

        Raises:
            ValueError: a cell holds something else than a number, or, unless it may, nothing.
        """
        encoded = torch.empty(len(rows), len(self), dtype=PRECISION)
        wrong: list[tuple[int, str]] = []
        missing: list[tuple[int, str]] = []
        for column, (name, kind) in enumerate(self.items()):
            cells = [row.get(name) for _, row in rows]
            if kind is None:
                found = as_numbers(cells)
                wrong += [(n, name) for n, number in enumerate(found) if number is None]
                values = np.array(found, dtype=np.float64)  # None becomes NaN
                is_missing = np.isnan(values)
            else:
                categories, number_of = as_categories(cells), self.number_of[name]
                values = np.array([number_of.get(category, -1) for category in categories], dtype=np.float64)
                is_missing = np.array([not category for category in categories], dtype=bool)
            encoded[:, column] = torch.from_numpy(values)
            missing += [] if may_lack else [(int(n), name) for n in np.flatnonzero(is_missing)]
        if wrong:
            n, name = min(wrong, key=lambda cell: cell[0])
            more = f"; {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ValueError(f"{rows[n][0]}: expected a number in {name!r}, got {str(rows[n][1][name])[:50]!r}{more}")
        if missing:
            n, name = min(missing, key=lambda cell: cell[0])
            raise ValueError(
                f"{rows[n][0]} has no {name!r}, and {len(missing) - 1} more values are missing: correct them, remove "
                "their rows, or set --data.missing impute"
            )
        return encoded

    def unseen(self, row: Mapping[str, Any]) -> list[str]:
        """A line for each category of a row that no training row has."""
        found = ((name, as_category(row[name]), known) for name, known in self.number_of.items())
        return [f"no training row has the {name!r} {value!r}" for name, value, known in found if value not in known]


def feature_names(columns: Mapping[str, Kind], with_holes: Sequence[str]) -> list[str]:
    """Names of the D features: numbers, then the columns `with_holes`, then a feature for each category."""
    names = [name for name, kind in columns.items() if kind is None]
    names += [f"{name} is missing" for name in with_holes]
    for name, kind in columns.items():
        names += [f"{name} = {category}" if category else f"{name} is missing" for category in kind or []]
    return names


def mean_and_scale(x: Tensor, columns: Mapping[str, Kind], width: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, (D,) each, of training rows (N, F): of numbers, without NaN; of others 0 and 1.

    So are those of numbers all of which are missing, because only rows that are held out have some.
    """
    from sklearn.preprocessing import StandardScaler  # slow to import, so not at the top

    mean, scale = torch.zeros(width, dtype=PRECISION), torch.ones(width, dtype=PRECISION)
    if numbers := [n for n, kind in enumerate(columns.values()) if kind is None]:
        x = x[:, numbers]
        x[:, x.isnan().all(dim=0)] = 0
        scaler = StandardScaler().fit(x.numpy())
        mean[: len(numbers)], scale[: len(numbers)] = map(torch.from_numpy, (scaler.mean_, scaler.scale_))
    return mean, scale


class ColumnFeatures:
    """Numbers (N, F) as D features: standardised, with marks where one is missing, and categories one-hot encoded.

    Args:
        columns: F of them.
        with_holes: those of numbers that have a mark.
        mean, scale: of the D features; only those of the numbers, which come first, count.
    """

    def __init__(self, columns: Mapping[str, Kind], with_holes: Sequence[str], mean: Tensor, scale: Tensor) -> None:
        self.names, self.kinds = list(columns), list(columns.values())
        self.numbers = [n for n, kind in enumerate(self.kinds) if kind is None]
        self.holes = [self.names.index(name) for name in with_holes]
        self.categories = [n for n, kind in enumerate(self.kinds) if kind is not None]
        self.mean, self.scale = mean[: len(self.numbers)], scale[: len(self.numbers)]
        # Of each column of categories its first feature, and D.
        sizes = [len(self.numbers) + len(self.holes), *(len(kind) for kind in self.kinds if kind is not None)]
        *first, self.width = np.cumsum(sizes).tolist()
        self.first = torch.tensor(first, dtype=torch.long)

    def transform(self, x: Tensor) -> Tensor:
        """(N, F) to (N, D), in float32: 0 stands for the mean, and for all that is missing or unknown."""
        features, n = torch.zeros(len(x), self.width), len(self.numbers)
        features[:, :n] = ((x[:, self.numbers] - self.mean) / self.scale).nan_to_num().clamp(-LARGEST, LARGEST)
        features[:, n : n + len(self.holes)] = x[:, self.holes].isnan()
        category = x[:, self.categories].long()  # -1 is in none
        row, column = (category >= 0).nonzero(as_tuple=True)
        features[row, category[row, column] + self.first[column]] = 1
        return features

    def sklearn_transformer(self) -> Any:
        """The fitted ColumnTransformer that makes x of cells (N, F), of an array or, by their names, of a data frame.

        All of it is what skops loads without being told to trust it, so no SimpleImputer.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.impute import KNNImputer, MissingIndicator
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler

        cells = FunctionTransformer(np.object_)  # a data frame as an array of Python's own objects
        parts: list[Any] = [
            ("numbers", make_pipeline(cells, StandardScaler(), KNNImputer()), self.numbers),
            ("is missing", make_pipeline(cells, StandardScaler(), MissingIndicator(features="all")), self.holes),
        ]
        number_of = {}
        for n in self.categories:
            kind = self.kinds[n] or []
            number_of[n] = {text: k for k, category in enumerate(kind) for text in _spellings(category)}
            # It refuses NaN, hence the array around each cell, which str writes.
            words = CountVectorizer(preprocessor=str, lowercase=False, token_pattern=CELL, vocabulary=[*number_of[n]])
            known = ColumnTransformer([("known", "passthrough", slice(len(kind)))])
            parts.append((f"category {n}", make_pipeline(cells, words, known), [n]))
        row = [0.0 if kind is None else kind[0] for kind in self.kinds]  # any one that can be fitted
        fitted = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)
        fitted.fit(np.array([row], dtype=object))
        fitted.feature_names_in_ = np.array(self.names, dtype=object)
        if self.numbers:
            scaler = fitted.named_transformers_["numbers"][1]
            scaler.mean_, scaler.scale_ = self.mean.numpy().copy(), self.scale.numpy().copy()
            scaler.var_ = scaler.scale_**2
        for n, columns in number_of.items():  # of all spellings of a category the same one; none beyond len(kind)
            fitted.named_transformers_[f"category {n}"][1].vocabulary_ = columns
        return fitted


def _spellings(category: str) -> list[str]:
    """What `CELL` finds in the cells of a category."""
    title, upper, time = category.title(), category.upper(), category.replace(" ", "T", 1)
    cells = [category, title, upper, time, as_number(category)] if category else [""]
    return [repr(str(cell))[1:-1] for cell in cells if as_category(cell) == category]
