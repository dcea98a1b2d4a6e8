"""Columns of numbers and of categories as those of x: standardised or one-hot encoded, with missing values marked."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.files.cells import as_categories, as_numbers
from datamodules.files.formats import Row
from datamodules.table.tabular import LARGEST

Kind = list[str] | None  # of a column: its categories, "" for a missing one; None for numbers


def kind_of(name: str, rows: Sequence[Row], train_rows: Sequence[Row], is_named: bool) -> tuple[Kind, Any]:
    """What a column holds: numbers, if all rows of the file do, held out or not; else the categories of training rows.

    Beside the kind it returns the numbers of all rows, NaN where missing; None of categories.

    Args:
        name: of the column.
        rows: of the whole file.
        train_rows: those to learn from.
        is_named: whether the user takes its numbers for names.

    Raises:
        ValueError: a list or a map in a cell, or no value at all.
    """
    cells = [row.get(name) for _, row in rows]
    for n, value in enumerate(cells):
        if isinstance(value, list | dict):
            raise ValueError(
                f"{rows[n][0]}: expected a number or a category in {name!r}, got {json.dumps(value)[:50]}: make "
                f"a column of each part, or leave it out with --data.id_columns '[{name}]'"
            )
    numbers = as_numbers(cells)
    if is_named or None in numbers:
        return sorted({*as_categories([row.get(name) for _, row in train_rows])}), None
    if all(number is None or math.isnan(number) for number in numbers):
        raise ValueError(f"column {name!r} has no value in the training rows: --data.id_columns '[{name}]'")
    return None, numbers


class Layout(NamedTuple):
    """Where the D columns of x come from: numbers first, then the holes in some of them, then categories.

    Attributes:
        numbers: which of the F columns hold numbers.
        mean, scale: of the numbers.
        holes: which of the F columns have a column of x that says where a number is missing.
        categories: which of the F columns hold numbers of categories.
        first: of each of these, its first column of x.
        width: D.
    """

    numbers: list[int]
    mean: Tensor
    scale: Tensor
    holes: list[int]
    categories: list[int]
    first: Tensor
    width: int


def layout_of(columns: dict[str, Kind], with_holes: list[str], mean: Tensor, scale: Tensor) -> Layout:
    """The layout of columns, of which those `with_holes` lack numbers; mean and scale (D,)."""
    kinds = list(columns.values())
    numbers = [column for column, kind in enumerate(kinds) if kind is None]
    lacking = set(with_holes)
    holes = [column for column, name in enumerate(columns) if name in lacking]
    categories = [column for column, kind in enumerate(kinds) if kind is not None]
    ends = torch.tensor([len(numbers) + len(holes), *(len(kind) for kind in kinds if kind is not None)]).cumsum(0)
    n = len(numbers)
    return Layout(numbers, mean[:n], scale[:n], holes, categories, ends[:-1], int(ends[-1]))


def feature_names(columns: dict[str, Kind], with_holes: list[str]) -> list[str]:
    """Names of the D columns of x."""
    names = [name for name, categories in columns.items() if categories is None]
    names += [f"{name} is missing" for name in with_holes]
    for name, categories in columns.items():
        names += [f"{name} = {category}" if category else f"{name} is missing" for category in categories or []]
    return names


def transformed(x: Tensor, layout: Layout) -> Tensor:
    """Numbers and numbers of categories, (N, F), to (N, D): 0 stands for the mean, and for all that is not there."""
    made, n = torch.zeros(len(x), layout.width), len(layout.numbers)
    made[:, :n] = ((x[:, layout.numbers] - layout.mean) / layout.scale).nan_to_num().clamp(-LARGEST, LARGEST)
    made[:, n : n + len(layout.holes)] = x[:, layout.holes].isnan()
    category = x[:, layout.categories].long()  # -1 is in none
    row, column = (category >= 0).nonzero(as_tuple=True)
    made[row, category[row, column] + layout.first[column]] = 1
    return made


def column_transformer(layout: Layout, kinds: Sequence[Kind]) -> Any:
    """The fitted ColumnTransformer that makes x of clean cells (N, F): numbers, NaN where missing, and text."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0))
    known = [kinds[column] for column in layout.categories]
    encoder = OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)
    parts = [
        ("numbers", numbers, layout.numbers),
        ("is missing", MissingIndicator(features="all"), layout.holes),
        ("categories", encoder, layout.categories),
    ]
    row = [0.0 if kind is None else kind[0] for kind in kinds]  # any one that can be fitted
    fitted = ColumnTransformer([part for part in parts if part[2]]).fit(np.array([row], dtype=object))
    if layout.numbers:
        scaler = fitted.named_transformers_["numbers"][0]
        scaler.mean_, scaler.scale_ = layout.mean.numpy().copy(), layout.scale.numpy().copy()
        scaler.var_ = scaler.scale_**2
    return fitted
