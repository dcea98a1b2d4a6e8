"""Tables of numbers and categories as people have them: read, split, standardised and one-hot encoded."""

import re
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from datamodules import checks
from datamodules.batches import BatchedDataset
from datamodules.files.cells import as_category
from datamodules.files.formats import Row
from datamodules.files.readers import read_labelled_rows, read_rows, read_splits, require_files
from datamodules.sampler import BatchIndices
from datamodules.splits import hold_out, join_validation
from datamodules.table.columns import ColumnFeatures, Columns, feature_names, kind_of, mean_and_scale
from datamodules.table.tabular import TabularDataModule, in_order

NAMELESS = re.compile(r"(\.\d+)?")  # a column without a name, and the next ones
OPTIONS = ("feature_columns", "id_columns", "categorical_columns")  # that choose the columns
Splits = dict[str, tuple[Tensor, Tensor]]


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
        self.files = {"train": train_file, "val": val_file, "test": test_file}
        self.label_column, self.missing, self.predict_file = str(label_column), missing, predict_file
        self.feature_columns, self.takes_ids_out = feature_columns, id_columns == "auto"
        self.id_columns: list[str] = [] if id_columns in ("auto", None) else list(id_columns)
        self.categorical_columns, self.drop_unlabelled = categorical_columns or [], drop_unlabelled
        # Columns that a cell keeps from being numbers, and those like ids or that give the label away: a line for each.
        self._stray: dict[str, str] = {}
        self._dubious: dict[str, str] = {}
        self._trained_with: dict[str, list[str] | None] | None = None  # the options of a checkpoint's columns

    # What the files hold, and, unless a checkpoint has told, what their columns are.

    def load_splits(self) -> Splits:
        """Numbers, NaN where missing, and numbers of categories, -1 where unknown: (N, F), and target (N,)."""
        read = partial(read_labelled_rows, label_column=self.label_column, drop_unlabelled=self.drop_unlabelled)
        given = read_splits(self.files, read)
        self.file_rows = given["train"][0]
        fractions = {"test": self.test_fraction, "val": self.val_fraction}
        parts = hold_out(given, fractions, self.seed, self.drop_unlabelled)
        parts = join_validation(parts) if self.trains_on_validation else parts
        self.rows = {split: rows for split, (rows, _) in parts.items()}
        self.labels = [label for _, labels in parts.values() for label in labels]
        is_new = "columns" not in vars(self)
        if is_new:
            self.class_names = sorted(set(parts["train"][1]))
            if len(self.class_names) < 2:
                raise ValueError(
                    f"expected at least 2 labels to tell apart, got {self.class_names} in the training rows"
                )
            self.columns = self._choose_columns()
        for split, (rows, _) in given.items():
            self.columns.require(f"{split}_file", *(row for _, row in rows))
        may_lack = self.missing == "impute"
        if not may_lack:  # in the order of the file, where the held-out rows stand among the others
            self.columns.numbers(self.file_rows, may_lack)
        splits = {
            split: (self.columns.numbers(rows, may_lack), self._target(split, labels))
            for split, (rows, labels) in parts.items()
        }
        return self._without_dubious(splits) if is_new else splits

    def _target(self, split: str, labels: list[str]) -> Tensor:
        number = {name: k for k, name in enumerate(self.class_names)}
        if unknown := sorted(set(labels) - set(number)):
            known = ", ".join(self.class_names[:5]) + (", ..." if len(number) > 5 else "")
            raise ValueError(
                f"label {', '.join(map(repr, unknown[:10])):.300} of the {split} rows is none of the {len(number)} "
                f"of the training rows ({known:.300}): add training rows, or remove these"
            )
        return torch.tensor([number[label] for label in labels], dtype=torch.long)

    def _choose_columns(self) -> Columns:
        """The columns to learn from, and what they hold."""
        there = list(dict.fromkeys(chain.from_iterable(row for _, row in self.file_rows)))
        left_out, listed = {self.label_column, *self.id_columns}, ", ".join(there[:20])
        names = self.feature_columns or [
            name for name in there if not NAMELESS.fullmatch(name) and name not in left_out
        ]
        for option in OPTIONS:
            if unknown := [name for name in getattr(self, option) or [] if name not in there]:
                raise ValueError(f"{option}: the file has no column {unknown[0]!r}, it has {listed}")
        if self.label_column in names or not names:
            raise ValueError(f"feature_columns: expected columns other than the label's, got {names} of {listed}")
        named, train_rows = self.categorical_columns, self.rows["train"]
        return Columns({name: kind_of(name, self.file_rows, train_rows, name in named) for name in names})

    def _without_dubious(self, splits: Splits) -> Splits:
        """Find columns that look like ids or give the label away; leave them out if `id_columns` is auto."""
        x, target = splits["train"]
        of_file = torch.cat([part for split, (part, _) in splits.items() if split == "train" or self.is_drawn(split)])
        numbers = [n for n, kind in enumerate(self.columns.values()) if kind is None]
        names = list(self.columns)
        unnamed = {name: kind for name, kind in self.columns.items() if kind and name not in self.categorical_columns}
        self._stray = checks.stray_cells(unnamed, self.file_rows)
        words = {name: kind for name, kind in unnamed.items() if name not in self._stray}
        self._dubious = checks.id_like_columns(words, {names[n]: of_file[:, n] for n in numbers}, len(x))
        self._dubious |= checks.telling_columns(dict(zip(names, x.T, strict=True)), {names[n] for n in numbers}, target)
        kept = [n for n, name in enumerate(names) if name not in self._dubious]
        if not self.takes_ids_out or not kept:
            return splits
        self.id_columns = [*self._dubious]
        self.columns = Columns({names[n]: self.columns[names[n]] for n in kept})
        return {split: (part[:, kept], target) for split, (part, target) in splits.items()}

    def oddities(self, stage: str) -> list[str]:
        lines, notes = list[str](), list[str]()
        if stage == "fit" and not self.refit:
            numbers = [name for name, kind in self.columns.items() if kind is None]
            lines += [*checks.label_oddities(self.labels), *self._stray.values()]
            lines += checks.zero_padded_columns(numbers, self.file_rows[:10_000])
            lines += [] if self.takes_ids_out else self._dubious.values()
            notes += checks.few_to_choose_by(len(self.rows["val"]))
        for split in {"fit": ("train", "val", "test"), "test": ("test",)}.get(stage, ()):
            if split == "train" or not self.is_drawn(split):  # else told of with the file that they are from
                rows = self.file_rows if split == "train" else self.rows[split]
                lines += checks.absent_columns(self.columns, rows, f"{split} rows")
        held_out = ("val", "test") if stage == "fit" else ("test",) if stage == "test" and self.files["test"] else ()
        known = {name: of for name, of in self.columns.number_of.items() if name not in self._dubious | self._stray}
        rows = [row for split in held_out for row in self.rows[split]]
        lines += checks.new_categories(known, rows, "held-out rows" if stage == "fit" else "test rows")
        if stage == "fit" and self.takes_ids_out:
            notes.append(f"data.id_columns auto leaves out {', '.join(map(repr, self.id_columns)) or 'none'}")
        return [f"note: {line}" for line in notes] + [f"warning: {line}" for line in lines]

    # What TabularDataModule makes its batches of.

    def is_drawn(self, split: str) -> bool:
        return not self.files[split]

    def use_recipe(self, recommended: dict[str, Any]) -> None:
        ids = {"data.id_columns": self.id_columns} if self.takes_ids_out else {}
        super().use_recipe(recommended | ids)

    def fit_scale(self, x: Tensor) -> None:
        lacking = x.isnan().any(dim=0).tolist()
        self.with_holes = [name for name, lacks in zip(self.columns, lacking, strict=True) if lacks]
        self.feature_names = feature_names(self.columns, self.with_holes)
        self.mean, self.scale = mean_and_scale(x, self.columns, len(self.feature_names))
        self._use_scale()

    def _use_scale(self) -> None:
        self.features = ColumnFeatures(self.columns, self.with_holes, *self.scaling())

    def transform(self, x: Tensor) -> Tensor:
        """What `load_splits` returns, (N, F), to the model's, (N, D)."""
        return self.features.transform(x)

    def dataset(self, split: str) -> BatchedDataset:
        """The rows of a split; x is made batch by batch, as a column of many categories would fill the memory."""
        self.require_known_rows(split)
        if split == "predict":
            self.rows_to_predict = self._read_inputs()
            raw = self.columns.numbers(self.rows_to_predict, self.missing == "impute")
            target = torch.full((len(raw),), -1)
        else:
            raw, target = self.points(split)
        return BatchedDataset(partial(_gathered, raw, self.features), target)

    def encode(self, rows: Any) -> Tensor:
        """Rows as in predict_inputs, a data frame, or an array in the order of the columns, to x (N, D).

        Warns of categories that no training row has.

        Raises:
            ValueError: a column is not there, or holds something else than a number.
        """
        given = self._given(rows)
        for line in checks.new_categories(self.columns.number_of, given, "rows"):
            warnings.warn(line, stacklevel=2)
        return self.transform(self.columns.numbers(given, self.missing == "impute"))

    def unseen(self, rows: Any) -> list[list[str]]:
        """Of each row a line for each category that no training row has."""
        return [self.columns.unseen(row) for _, row in self._given(rows)]

    def _given(self, rows: Any) -> list[Row]:
        """Rows as `encode` takes them, named."""
        rows = rows if isinstance(rows, list) else np.asarray(in_order(rows, list(self.columns))).tolist()
        if not isinstance(rows, list):
            raise ValueError(f"expected a list of rows, got {rows!r:.60}")
        return [(f"row {n}", self.columns.named(n, row)) for n, row in enumerate(rows)]

    def sklearn_transformer(self) -> Any:
        return self.features.sklearn_transformer()

    def _read_inputs(self) -> list[Row]:
        """The rows to predict; categories that no training row has are said on standard error."""
        if self.predict_file is not None:
            require_files("predict_file", self.predict_file)
            found = read_rows(self.predict_file, [*self.columns])
            rows = [(f"{self.predict_file} {place}", row) for place, row in found]
            self.columns.require(self.predict_file, *(row for _, row in rows))
        elif self.predict_inputs is None:
            return self.rows["test"]
        else:
            inputs = enumerate(self.predict_inputs)
            rows = [(f"predict_inputs: row {n}", self.columns.named(n, row)) for n, row in inputs]
        if not rows:
            raise ValueError("expected at least one row to predict, got none")
        odd = checks.new_categories(self.columns.number_of, rows, "predict rows")
        for line in [*checks.absent_columns(self.columns, rows, "predict rows"), *odd]:
            rank_zero_only(print)(f"warning: {line}", file=sys.stderr)
        return rows

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

    # What a checkpoint keeps.

    def _options(self) -> dict[str, list[str] | None]:
        return {name: getattr(self, name) for name in OPTIONS}

    def state_dict(self) -> dict[str, Any]:
        """What TabularDataModule keeps, the columns, those with holes, and the options that chose them."""
        own = {"columns": dict(self.columns), "with_holes": self.with_holes, "options": self._options()}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.columns, self.with_holes = Columns(state["columns"]), state["with_holes"]
        self._trained_with = state["options"]
        if self.takes_ids_out:
            self.id_columns = list(state["options"]["id_columns"])
        super().load_state_dict(state)
        self._use_scale()

    def require_known_rows(self, split: str) -> None:
        """Refuse other rows than a checkpoint's own, and to train on columns chosen otherwise.

        Raises:
            ValueError: names the options, or gives both fingerprints, and says what to do.
        """
        super().require_known_rows(split)
        before, now = self._trained_with, self._options()
        if split == "train" and before not in (None, now):
            raise ValueError(
                f"the checkpoint was trained with {_listed(before)}, the configuration asks for {_listed(now)}: to "
                "resume, use the run's own config.yaml; for other columns, start a new run"
            )


def _listed(options: dict[str, list[str] | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _gathered(raw: Tensor, features: ColumnFeatures, batch: BatchIndices) -> Tensor:
    return features.transform(raw[batch.indices])
