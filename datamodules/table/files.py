"""Tables of numbers and categories as people have them: read, split, standardised and one-hot encoded."""

import math
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from datamodules.batches import BatchedDataset
from datamodules.checks import (
    absent_columns,
    few_to_choose_by,
    id_like_columns,
    label_oddities,
    new_categories,
    stray_cells,
    telling_columns,
    zero_padded_columns,
)
from datamodules.files.cells import as_categories, as_category, as_numbers
from datamodules.files.formats import Row, plain
from datamodules.files.readers import column_values, each_file, labelled_rows, read_rows, require_files
from datamodules.sampler import BatchIndices
from datamodules.splits import hold_out
from datamodules.table.columns import (
    Kind,
    Layout,
    column_transformer,
    feature_names,
    kind_of,
    layout_of,
    transformed,
)
from datamodules.table.tabular import TabularDataModule, in_order

NAMELESS = re.compile(r"(\.\d+)?")  # a column without a name, and the next ones
LabelledRows = tuple[list[Row], list[str]]


class TableDataModule(TabularDataModule):
    """A file with a row for each example, a column for its label, and columns of numbers or of categories.

    Numbers are standardised by the training rows, categories one-hot encoded: a column of 0 and 1 for each that the
    training rows have; one that they lack is 0 in all of them. Which columns there are and what they hold is kept in
    the checkpoint, so predicting needs no training file.

    Args:
        train_file: .csv, .tsv, .json (a list of objects), .jsonl or .parquet, also compressed (.csv.gz); of several
            files a list.
        val_file: likewise; null holds out a stratified share of the training rows.
        test_file: likewise; null holds out a stratified share of the training rows.
        label_column: name of the column with the label.
        feature_columns: names of the columns to learn from; null takes all but those of the label and the ids.
        id_columns: columns that are carried along to reports and predictions, and not learned from; "auto" takes those
            that look like ids, and those each of which alone gives the label away.
        categorical_columns: columns whose numbers are names, such as postal codes; those with words are found anyway.
        missing: "impute" takes the mean of the training rows for a number that is not there, with a column of 0 and 1
            that says so, and makes a missing category one of its own; "refuse" ends with a line that names the rows.
        drop_unlabelled: leave out rows of these files that have no label, or the only row of one, instead of refusing
            them.
        predict_file: rows for `predict`, a file as above; without either, `predict` takes the test rows.
        predict_inputs: rows for `predict`, as [{age: 31, town: Oslo}], or as [[31, Oslo]] in the order of the columns.
        options: as in TabularDataModule.

    Raises:
        ValueError: an option out of its range, or files that are not what they should be.
    """

    precision = torch.float64  # a time in seconds since 1970 has more digits than float32

    def __init__(
        self,
        train_file: str | list[str] | None = None,
        val_file: str | list[str] | None = None,
        test_file: str | list[str] | None = None,
        label_column: str | int = "label",
        feature_columns: list[str] | None = None,
        id_columns: list[str] | Literal["auto"] | None = None,
        categorical_columns: list[str] | None = None,
        missing: Literal["impute", "refuse"] = "impute",
        drop_unlabelled: bool = False,
        predict_file: str | None = None,
        predict_inputs: list[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(predict_inputs=predict_inputs, **options)
        if missing not in ("impute", "refuse"):
            raise ValueError(f"missing must be impute or refuse, got {missing}")
        if predict_inputs is not None and predict_file is not None:
            raise ValueError("expected predict_inputs or predict_file, got both; leave one out")
        self.train_file, self.val_file, self.test_file = train_file, val_file, test_file
        self.label_column, self.missing, self.predict_file = str(label_column), missing, predict_file
        self.feature_columns, self.takes_ids_out = feature_columns, id_columns == "auto"
        self.id_columns: list[str] = [] if id_columns in ("auto", None) else list(id_columns)
        self._dubious: dict[str, str] = {}  # columns like ids, and those that give the label away, with a line for each
        self.categorical_columns, self.drop_unlabelled = categorical_columns or [], drop_unlabelled
        self._numbers: dict[str, list[Any]] = {}  # of columns of the training file, until they are encoded
        self._stray: dict[str, str] = {}
        self._trained_with: dict[str, list[str] | None] | None = None  # the options of a checkpoint's columns

    # What the files hold, and, unless a checkpoint has told, what their columns are.

    def load_splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Numbers, NaN where missing, and numbers of categories, -1 where unknown: (N, F), and target (N,)."""
        if not self.train_file:
            raise ValueError("train_file: expected a file to train on, got none; --data.train_file FILE")
        self.file_rows, labels = self._labelled("train", self.train_file)
        self.file_columns = list(dict.fromkeys(name for _, row in self.file_rows for name in row))
        # Rows of this file by their positions; those of others as they are.
        parts: dict[str, tuple[list[Any], list[str]]] = {"train": ([*range(len(labels))], labels)}
        for split, file in (("val", self.val_file), ("test", self.test_file)):
            if file:
                parts[split] = self._labelled(split, file)
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        parts = hold_out(parts, fractions, self.seed, self.drop_unlabelled)
        of_file = [split for split in parts if split == "train" or self.is_drawn(split)]
        self.rows = {
            split: [self.file_rows[n] for n in rows] if split in of_file else rows for split, (rows, _) in parts.items()
        }
        self.labels = [label for _, labels in parts.values() for label in labels]
        if self.trains_on_validation:
            self.rows |= {"train": self.rows["train"] + self.rows["val"], "val": []}
        if "columns" not in vars(self):
            seen = parts["train"][1] + (parts["val"][1] if self.trains_on_validation else [])
            self.class_names = sorted(set(seen))
            if len(self.class_names) < 2:
                raise ValueError(
                    f"expected at least 2 labels to tell apart, got {self.class_names} in the training rows"
                )
            self._use_columns(self._choose_columns())
        number = {name: k for k, name in enumerate(self.class_names)}
        is_new = self.mean is None  # and no checkpoint has told
        splits, raw = {}, self._encoded(self.file_rows, self.file_columns)
        for split, (rows, labels) in parts.items():
            if unknown := sorted(set(labels) - set(number)):
                known = ", ".join(self.class_names[:5]) + (", ..." if len(number) > 5 else "")
                raise ValueError(
                    f"label {', '.join(map(repr, unknown[:10])):.300} of the {split} rows is none of the {len(number)} "
                    f"of the training rows ({known:.300}): add training rows, or remove these"
                )
            target = torch.tensor([number[label] for label in labels], dtype=torch.long)
            if split == "train" and is_new:
                raw = self._without_dubious(raw, rows, target)
            splits[split] = raw[rows] if split in of_file else self._encoded(rows), target
        return splits

    def _without_dubious(self, raw: Tensor, rows: list[int], target: Tensor) -> Tensor:
        """Find columns that look like ids or give the label away; leave them out if `id_columns` is auto."""
        kinds = self.columns.items()
        numbers = {name: x for (name, kind), x in zip(kinds, raw.T, strict=True) if kind is None}
        words = {name: x for (name, kind), x in zip(kinds, raw.T, strict=True) if kind is not None}
        named = self.categorical_columns
        self._stray = stray_cells([name for name in words if name not in named], self.file_rows)
        unnamed = {name: self.columns[name] or [] for name in words if name not in {*named, *self._stray}}
        seen, seen_words = ({name: x[rows] for name, x in columns.items()} for columns in (numbers, words))
        self._dubious = id_like_columns(unnamed, numbers, len(rows)) | telling_columns(seen, seen_words, target)
        if not self.takes_ids_out or not (kept := {name: kind for name, kind in kinds if name not in self._dubious}):
            return raw
        self.id_columns = [*self._dubious]
        raw = raw[:, [n for n, name in enumerate(self.columns) if name in kept]]
        self._use_columns(kept)
        return raw

    def _labelled(self, split: str, files: str | list[str]) -> LabelledRows:
        require_files(f"{split}_file", files)
        rows: list[Row] = []
        labels: list[str] = []
        for path in each_file(files):
            found = list(labelled_rows(path, (self.label_column,), self.drop_unlabelled))
            labels += [label for (label,) in column_values(path, found, (self.label_column,))]
            rows += [(f"{path} {place}", row) for place, row in found]
        return rows, labels

    def _choose_columns(self) -> dict[str, Kind]:
        """The columns to learn from, and what they hold."""
        there, listed = self.file_columns, ", ".join(self.file_columns[:20])
        left_out = {self.label_column, *self.id_columns}
        candidates = [name for name in there if not NAMELESS.fullmatch(name) and name not in left_out]
        names = self.feature_columns or candidates
        for option, wanted in self._options.items():
            if unknown := [name for name in wanted or [] if name not in there]:
                raise ValueError(f"{option}: the file has no column {unknown[0]!r}, it has {listed}")
        if self.label_column in names or not names:
            raise ValueError(f"feature_columns: expected columns other than the label's, got {names} of {listed}")
        named, columns = self.categorical_columns, dict[str, Kind]()
        for name in names:
            columns[name], self._numbers[name] = kind_of(name, self.file_rows, self.rows["train"], name in named)
        return columns

    def _use_columns(self, columns: dict[str, Kind]) -> None:
        self.columns = columns
        self.number_of = {  # of each column of categories the number of each
            name: {as_category(category): n for n, category in enumerate(kind)}
            for name, kind in columns.items()
            if kind is not None
        }

    def oddities(self, stage: str) -> list[str]:
        lines: list[str] = []
        if stage == "fit" and not self.refit:
            numbers = [name for name, kind in self.columns.items() if kind is None]
            lines += [*label_oddities(self.labels), *self._stray.values()]
            lines += zero_padded_columns(numbers, self.file_rows[:10_000])
            lines += [] if self.takes_ids_out else self._dubious.values()
        for split in {"fit": ("train", "val", "test"), "test": ("test",)}.get(stage, ()):
            if split == "train" or not self.is_drawn(split):  # else told of with the file that they are from
                rows = self.file_rows if split == "train" else self.rows[split]
                lines += absent_columns(self.columns, rows, f"{split} rows")
        held_out = ("val", "test") if stage == "fit" else ("test",) if stage == "test" and self.test_file else ()
        known = {name: number for name, number in self.number_of.items() if name not in self._dubious | self._stray}
        rows = [row for split in held_out for row in self.rows[split]]
        lines += new_categories(known, rows, "held-out rows" if stage == "fit" else "test rows")
        notes = few_to_choose_by(len(self.rows["val"])) if stage == "fit" and not self.refit else []
        if stage == "fit" and self.takes_ids_out:
            notes.append(f"data.id_columns auto leaves out {', '.join(map(repr, self.id_columns)) or 'none'}")
        return [f"note: {line}" for line in notes] + [f"warning: {line}" for line in lines]

    # What TabularDataModule makes its batches of.

    def require_numbers(self, splits: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Take all, as NaN stands for a missing number."""

    def is_drawn(self, split: str) -> bool:
        return not {"val": self.val_file, "test": self.test_file}[split]

    @property
    def has_inputs(self) -> bool:
        return self.predict_inputs is not None or self.predict_file is not None

    def use_recipe(self, recommended: dict[str, Any]) -> None:
        ids = {"data.id_columns": self.id_columns} if self.takes_ids_out else {}
        super().use_recipe(recommended | ids)

    def fit_scale(self, x: Tensor) -> None:
        """Take mean and scale of the columns of numbers from training rows (N, F); of the others they are 0 and 1."""
        from sklearn.preprocessing import StandardScaler  # slow to import, so not at the top

        self.with_holes = [
            name for name, holes in zip(self.columns, x.isnan().any(dim=0).tolist(), strict=True) if holes
        ]
        self.feature_names = feature_names(self.columns, self.with_holes)
        width = len(self.feature_names)
        self.mean, self.scale = torch.zeros(width, dtype=self.precision), torch.ones(width, dtype=self.precision)
        if numbers := [column for column, kind in enumerate(self.columns.values()) if kind is None]:
            x = x[:, numbers]
            x[:, x.isnan().all(dim=0)] = 0  # where all numbers are in rows that are held out
            scaler = StandardScaler().fit(x.numpy())  # leaves out NaN
            self.mean[: len(numbers)] = torch.from_numpy(scaler.mean_)
            self.scale[: len(numbers)] = torch.from_numpy(scaler.scale_)
        self.layout = layout_of(self.columns, self.with_holes, self.mean, self.scale)

    def transform(self, x: Tensor) -> Tensor:
        """What `load_splits` returns, (N, F), to the model's, (N, D)."""
        return transformed(x, self.layout)

    def dataset(self, split: str) -> BatchedDataset:
        """The rows of a split; x is made batch by batch, as a column of many categories would fill the memory."""
        self.require_known_rows(split)
        if split == "predict":
            self.rows_to_predict = self._read_inputs()
            raw = self._encoded(self.rows_to_predict)
            return BatchedDataset(partial(_gathered, raw, self.layout), torch.full((len(raw),), -1))
        raw, target = self.points(split)
        return BatchedDataset(partial(_gathered, raw, self.layout), target)

    def encode(self, rows: Any) -> Tensor:
        """Rows as in predict_inputs, a data frame, or an array in the order of the columns, to x (N, D).

        Warns of categories that no training row has.

        Raises:
            ValueError: a column is not there, or holds something else than a number.
        """
        given = self._given(rows)
        for line in new_categories(self.number_of, given, "rows"):
            warnings.warn(line, stacklevel=2)
        return self.transform(self._encoded(given, [*self.columns]))

    def unseen(self, rows: Any) -> list[list[str]]:
        """Of each row a line for each category that no training row has."""
        return [
            [
                f"no training row has the {name!r} {category!r}"
                for name, known in self.number_of.items()
                if (category := as_category(row[name])) not in known
            ]
            for _, row in self._given(rows)
        ]

    def _given(self, rows: Any) -> list[Row]:
        """Rows as `encode` takes them, named."""
        rows = rows if isinstance(rows, list) else np.asarray(in_order(rows, list(self.columns))).tolist()
        if not isinstance(rows, list):
            raise ValueError(f"expected a list of rows, got {rows!r:.60}")
        return [(f"row {n}", self._named(n, row)) for n, row in enumerate(rows)]

    def sklearn_transformer(self) -> Any:
        """The fitted ColumnTransformer that makes x of clean cells (N, F): numbers, NaN where missing, and text."""
        return column_transformer(self.layout, list(self.columns.values()))

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        """Ids and features of some rows of a split, by name."""
        rows = self.rows_to_predict if split == "predict" else self.rows[split]
        return [{name: rows[i][1].get(name) for name in (*self.id_columns, *self.columns)} for i in indices]

    def input_rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """All columns of some rows to predict, as they are in predict_file."""
        return [self.rows_to_predict[index][1] for index in indices]

    def is_empty(self, index: int) -> bool:
        """Whether a row to predict has neither number nor category."""
        row = self.rows_to_predict[index][1]
        return all(as_category(row.get(name)) == "" for name in self.columns)

    def state_dict(self) -> dict[str, Any]:
        """What TabularDataModule keeps, the columns, those with holes, and the options that chose them."""
        own = {"columns": self.columns, "with_holes": self.with_holes, "options": self._options}
        return super().state_dict() | own

    @property
    def _options(self) -> dict[str, list[str] | None]:
        return {name: getattr(self, name) for name in ("feature_columns", "id_columns", "categorical_columns")}

    def require_known_rows(self, split: str) -> None:
        """Refuse other rows than a checkpoint's own, and to train on columns chosen otherwise.

        Raises:
            ValueError: names the options, or gives both fingerprints, and says what to do.
        """
        super().require_known_rows(split)
        if split != "train" or self._trained_with in (None, self._options):
            return
        chosen = self._choose_columns()
        self._numbers.clear()
        if [*chosen.items()] != [*self.columns.items()]:  # in their order, as are the values of a row without names
            before = ", ".join(f"{name} {value}" for name, value in self._trained_with.items())
            now = ", ".join(f"{name} {value}" for name, value in self._options.items())
            raise ValueError(
                f"the checkpoint was trained with {before}, the configuration asks for {now}: to resume, use the run's "
                "own config.yaml; for other columns, start a new run"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.with_holes, self._trained_with = state["with_holes"], state["options"]
        if self.takes_ids_out:
            self.id_columns = list(state["options"]["id_columns"])
        self._use_columns(state["columns"])
        super().load_state_dict(state)
        self.layout = layout_of(self.columns, self.with_holes, *self.scaling())

    def _width(self, num_raw: int) -> int:
        return num_raw  # feature_names are those of the D columns already

    # Rows to numbers.

    def _read_inputs(self) -> list[Row]:
        """The rows to predict; categories that no training row has are said on standard error."""
        if self.predict_file is not None:
            require_files("predict_file", self.predict_file)
            found = read_rows(self.predict_file, [*self.columns])
            rows = [(f"{self.predict_file} {place}", row) for place, row in found]
        elif self.predict_inputs is None:
            return self.rows["test"]
        else:
            rows = [(f"predict_inputs: row {n}", self._named(n, row)) for n, row in enumerate(self.predict_inputs)]
        if not rows:
            raise ValueError("expected at least one row to predict, got none")
        odd = new_categories(self.number_of, rows, "predict rows")
        for line in [*absent_columns(self.columns, rows, "predict rows"), *odd]:
            rank_zero_only(print)(f"warning: {line}", file=sys.stderr)
        return rows

    def _named(self, number: int, row: Any) -> dict[str, Any]:
        """A row of predict_inputs as a map from column to value."""
        row = plain(row)
        if isinstance(row, list) and len(row) == len(self.columns):
            return dict(zip(self.columns, row, strict=True))
        if not isinstance(row, dict):
            expected = f"{len(self.columns)} values ({', '.join(self.columns)})"
            raise ValueError(f"predict_inputs: expected {expected}, got {row} as row {number}")
        self._require_columns(f"row {number}", row)
        return row

    def _require_columns(self, place: str, there: Iterable[str]) -> None:
        known = set(there)
        if absent := [name for name in self.columns if name not in known]:
            raise ValueError(
                f"{place}: expected a column {', '.join(map(repr, absent[:10]))}, got {', '.join(sorted(known)[:20])}"
            )

    def _encoded(self, rows: list[Row], there: Iterable[str] | None = None) -> Tensor:
        """Numbers, and numbers of categories: (N, F).

        Args:
            rows: with their places.
            there: the columns of their file; None takes those of these rows.

        Raises:
            ValueError: a column is not there, holds something else than a number, or, unless imputed, nothing.
        """
        if not rows:
            return torch.empty(0, len(self.columns), dtype=self.precision)
        self._require_columns(rows[0][0].partition(" line ")[0], there or {name for _, row in rows for name in row})
        encoded = torch.empty(len(rows), len(self.columns), dtype=self.precision)
        wrong: list[tuple[int, str]] = []
        holes: list[tuple[int, str]] = []
        for column, name in enumerate(self.columns):
            read = self._numbers.pop(name, None) if rows is vars(self).get("file_rows") else None
            cells = [row.get(name) for _, row in rows] if read is None else []
            values: list[float]
            if (number_of := self.number_of.get(name)) is None:
                numbers = as_numbers(cells) if read is None else read
                wrong += [(n, name) for n, number in enumerate(numbers) if number is None]
                values = [math.nan if number is None else number for number in numbers]
                holes += [(n, name) for n, value in enumerate(values) if value != value]
            else:
                found = as_categories(cells)
                values = [number_of.get(category, -1) for category in found]
                holes += [(n, name) for n, category in enumerate(found) if not category]
            encoded[:, column] = torch.tensor(values, dtype=self.precision)
        if wrong:
            said = [f"{rows[n][0]}: expected a number in {name!r}, got {str(rows[n][1][name])[:50]!r}" for n, name in
                    sorted(wrong, key=lambda cell: cell[0])[:2]]  # fmt: skip
            raise ValueError(said[0] + (f"; {len(wrong) - 1} more, the next: {said[1]}" if len(wrong) > 1 else ""))
        if holes and self.missing == "refuse":
            n, name = min(holes, key=lambda cell: cell[0])
            raise ValueError(
                f"{rows[n][0]} has no {name!r}, and {len(holes) - 1} more values are missing: correct them, remove "
                "their rows, or set --data.missing impute"
            )
        return encoded


def _gathered(raw: Tensor, layout: Layout, batch: BatchIndices) -> Tensor:
    return transformed(raw[batch.indices], layout)
