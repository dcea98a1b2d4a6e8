"""The report of `predict`: predictions.jsonl, predictions.csv, a table on the terminal.

N rows of a batch, K classes.
"""

import json
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.column_names import disambiguate
from callbacks.files import as_json, csv_writer, replacing
from callbacks.linear import class_scores, contributions, name_of
from callbacks.protocols import datamodule_of, offers, optional_of
from callbacks.reports.evaluation import Report
from callbacks.rows import RowCollector

Columns = tuple[Tensor, ...]  # each of N rows
Record = tuple[dict[str, Any], dict[str, Any]]  # the datamodule's description of a row, and the prediction
MAX_DESCRIBED_COLUMNS = 3  # in the table on the terminal, of the description
JOINED_NAMES = ("label", "probability", "second_label", "second_probability", "out_of_scope")  # in predictions.csv
PRINTED_NAMES = {
    "label": "label",
    "probability": "p",
    "out_of_scope": "oos",
    "words_for": "for",
    "words_against": "against",
}


class PredictionWriter(Report):
    """After `predict`: predictions.jsonl in the run directory, and a table of the first rows on the terminal.

    A line holds the datamodule's description of the row, then `label`, `probability` and `top_k`; `out_of_scope` where
    the data has such a class; `words_for` and `words_against`, the features that contributed most to the label and most
    against it, where the model is linear and the features have names.

    Lines are written as the rows come, those of several processes after each batch: millions of rows take little
    memory. Rows that come from a file are also written to predictions.csv: all columns of the file, then label,
    probability, second_label and second_probability, the most probable of the other classes, and out_of_scope. In both
    files `label` becomes `predicted_label`, and so on, where the user has a column of that name. Where `predict_step`
    returns anything but probabilities (N, K), one line replaces them.

    Args:
        top_k: number of classes to list, the most probable first.
        num_features: number of features in `words_for`, and in `words_against`.
        num_printed: rows in the table on the terminal.
    """

    def __init__(self, top_k: int = 5, num_features: int = 3, num_printed: int = 20) -> None:
        if min(top_k, num_features, num_printed) < 0:
            given = f"{top_k}, {num_features} and {num_printed}"
            raise ValueError(f"top_k, num_features and num_printed must not be negative, got {given}")
        super().__init__()
        self.top_k, self.num_features, self.num_printed = top_k, num_features, num_printed
        self._open = ExitStack()  # files to be closed, and renamed, at the end

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse as well to replace the file that the rows come from, or that a link of its name leads to."""
        super().setup(trainer, pl_module, stage)
        source, run = optional_of(datamodule_of(trainer), "predict_file"), Path(trainer.default_root_dir)
        if stage != "predict" or source is None:
            return
        for path in (run / "predictions.jsonl", run / "predictions.csv"):
            if path.resolve() == Path(source).resolve():
                raise ValueError(
                    f"predict_file: expected another file than {path}, which the predictions would replace: "
                    "rename it, and give that name"
                )

    def on_predict_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._rows = RowCollector(type(self).__name__)
        self._waiting: list[Columns] = []  # pieces whose turn has not come
        self._num_written = 0
        data = datamodule_of(trainer)
        is_linear = offers(pl_module, "coefficients") and offers(data, "feature_names")
        self._W = pl_module.coefficients()[0] if is_linear else None
        self._files: PredictionFiles | None = None  # on the process that writes
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            run = Path(trainer.default_root_dir)
            self._files = PredictionFiles(self._open, run, data, self._W is not None, self.num_printed)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        rows = self._rows.classify(trainer, pl_module, outputs, batch, "predict_step")
        if rows is not None:
            label, proba = rows.label, rows.proba
            top = proba.topk(min(self.top_k, proba.shape[1]), dim=1)
            second = proba.scatter(1, label.unsqueeze(1), -1).max(dim=1)
            strongest = torch.zeros(len(label), 0, 2)
            if self._W is not None:
                x, scores = batch if isinstance(batch, Tensor) else batch[0], partial(class_scores, pl_module)
                strongest = _strongest(contributions(x, self._W, label, scores), self.num_features)
            columns = (label, rows.confidence, top.indices, top.values, strongest, second.indices, second.values)
            self._rows.add(trainer, rows.indices, *columns)
        self._write_in_order(self._rows.gather())

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        while columns := self._rows.gather():  # of processes that have more batches
            self._write_in_order(columns)
        if self._files is None:
            return
        if (problem := self._rows.problem) is not None:
            self.on_exception(trainer, pl_module, ValueError(problem))
            return print(f"`predict` leaves out its predictions: {problem}")
        if self._waiting:  # rows that did not come in order
            columns = tuple(map(torch.cat, zip(*self._waiting, strict=True)))
            order = columns[0].argsort()
            self._files.write(tuple(column[order] for column in columns))
        self._files.finish()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave an earlier file as it was."""
        self._open.__exit__(type(exception), exception, exception.__traceback__)

    def _write_in_order(self, columns: Columns) -> None:
        """Write the rows whose turn it is, and let the others wait; the columns begin with the numbers of the rows."""
        if self._files is None or not columns:
            return
        self._waiting = sorted([*self._waiting, columns], key=lambda piece: int(piece[0][0]))
        while self._waiting:
            first, last = self._waiting[0][0][[0, -1]].tolist()
            if first != self._num_written or last != first + len(self._waiting[0][0]) - 1:
                break
            self._num_written = last + 1
            self._files.write(self._waiting.pop(0))


class PredictionFiles:
    """predictions.jsonl and, of rows from a file, predictions.csv, written as the rows come.

    Args:
        files: closes and renames them at its end.
        run: directory of the run.
        data: `LabelledData`.
        is_linear: whether there are contributions of features.
        num_printed: rows in the table on the terminal.
    """

    def __init__(self, files: ExitStack, run: Path, data: Any, is_linear: bool, num_printed: int) -> None:
        self.files, self.path, self.data, self.num_printed = files, run / "predictions.jsonl", data, num_printed
        self.oos_class = optional_of(data, "oos_class")
        self.feature_names = data.feature_names if is_linear else None
        self._lines = files.enter_context(files.enter_context(replacing(self.path)).open("w", encoding="utf-8"))
        self._first: list[Record] = []  # for the table
        self._num_rows = 0
        # The columns of predictions.csv are known when the last row is: until then its cells wait as JSON.
        self._columns: dict[str, None] = {}
        self._cells: Any = None
        if offers(data, "input_rows") and optional_of(data, "predict_file") is not None:
            self._cells = files.enter_context(TemporaryFile("w+", dir=run, encoding="utf-8"))  # noqa: SIM115

    def write(self, columns: Columns) -> None:
        """Write rows, in pieces, since all of them as Python objects would need much memory."""
        for piece in zip(*(column.split(4096) for column in columns), strict=True):
            indices = piece[0].tolist()
            rows = [{}] * len(indices) if self._cells is None else self.data.input_rows(indices)
            for described, row, prediction in zip(
                self.data.describe(indices, "predict"), rows, self._predictions(piece), strict=True
            ):
                if self._cells is not None:
                    self._columns |= dict.fromkeys(row)
                    cells = [_plain(row.get(name)) for name in self._columns]
                    joined = [prediction[name] for name in JOINED_NAMES if name in prediction]
                    print(as_json([cells, joined]), file=self._cells)
                shown = {name: value for name, value in prediction.items() if not name.startswith("second_")}
                names = disambiguate(shown, described, "predicted_")
                line = described | dict(zip(names, shown.values(), strict=True))
                print(as_json(line), file=self._lines)
                if len(self._first) < self.num_printed:
                    self._first.append((described, shown))
        self._num_rows += len(columns[0])

    def _predictions(self, piece: Columns) -> Iterator[dict[str, Any]]:
        names, is_empty = self.data.class_names, optional_of(self.data, "is_empty")
        for index, label, p, top, top_p, strongest, second, second_p in zip(*map(Tensor.tolist, piece), strict=True):
            prediction: dict[str, Any] = {"label": names[label], "probability": round(p, 6)}
            prediction["top_k"] = [
                {"label": names[k], "probability": round(q, 6)} for k, q in zip(top, top_p, strict=True)
            ]
            prediction |= {"second_label": names[second], "second_probability": round(second_p, 6)}
            if self.oos_class is not None:
                prediction["out_of_scope"] = label == self.oos_class
            if self.feature_names is not None:
                pairs = [(name_of(self.feature_names, int(feature)), round(amount, 3)) for feature, amount in strongest]
                prediction["words_for"] = [pair for pair in pairs if pair[1] > 0]
                prediction["words_against"] = [pair for pair in pairs if pair[1] < 0]
            if is_empty is not None and is_empty(index):
                prediction = {name: [] if isinstance(value, list) else None for name, value in prediction.items()}
            yield prediction

    def finish(self) -> None:
        """Write predictions.csv, give the files their names, and print the table."""
        joined = ""
        if self._cells is not None and self._num_rows:
            self._write_joined(self.path.with_suffix(".csv"))
            joined = "; with all columns of the input in predictions.csv"
        self.files.close()
        _print_table(self._first)
        total = self._num_rows
        more = f"... and {total - len(self._first)} more; " if total > len(self._first) else ""
        print(f"{more}{total} prediction{'' if total == 1 else 's'} in {self.path}{joined}")

    def _write_joined(self, path: Path) -> None:
        self._cells.seek(0)
        names = [name for name in JOINED_NAMES if name != "out_of_scope" or self.oos_class is not None]
        with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv_writer(file)
            writer.writerow([*self._columns, *disambiguate(names, self._columns, "predicted_")])
            for cells, prediction in map(json.loads, self._cells):
                writer.writerow([*cells, *[None] * (len(self._columns) - len(cells)), *prediction])


def _strongest(contributions: list[list[tuple[int, float]]], number: int) -> Tensor:
    """Of N rows the features with the highest amounts above 0, then those with the lowest below 0.

    (N, 2 · number, 2) pairs of feature index and amount; those that a row lacks have amount 0.
    """
    rows = []
    for pairs in contributions:
        ordered = sorted(pairs, key=itemgetter(1))
        chosen = [pair for pair in ordered[::-1][:number] if pair[1] > 0]
        chosen += [pair for pair in ordered[:number] if pair[1] < 0]
        rows.append(chosen + [(0, 0.0)] * (2 * number - len(chosen)))
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 2 * number, 2)


def _plain(value: Any) -> Any:
    """As JSON where it is a list or a map, which JSON and Parquet can hold and a cell cannot."""
    return as_json(value) if isinstance(value, dict | list) else value


def _print_table(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # takes a cell as it is, while a plain string could hold markup

    described, prediction = records[0] if records else ({}, {})
    shown = list(described)
    if len(shown) > MAX_DESCRIBED_COLUMNS + 1:  # "… 1 more" would take as much room as that one
        shown = shown[:MAX_DESCRIBED_COLUMNS]
    more = [f"… {len(described) - len(shown)} more"] if len(shown) < len(described) else []
    printed = [name for name in PRINTED_NAMES if name in prediction]
    table = Table()
    for name in (*shown, *more):
        table.add_column(Text(_visible(name)), overflow="fold")
    for name in disambiguate([PRINTED_NAMES[name] for name in printed], described, "predicted_"):
        table.add_column(Text(name), no_wrap=name.endswith("label"), overflow="fold")
    for described, prediction in records:
        cells = [*(_cell(_plain(described[name])) for name in shown), *("…" for _ in more)]
        cells += [_cell(prediction[name]) for name in printed]
        table.add_row(*(Text(_visible(cell)) for cell in cells))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(f"{word} {amount:+.2f}" for word, amount in value)
    return "yes" if value is True else "no" if value is False else "" if value is None else str(value)


def _visible(text: str) -> str:
    """Control, formatting and line-breaking characters as escapes: one such as \\x1b could rewrite the terminal.

    >>> print(_visible("a\\x1b[31mb"))
    a\\x1b[31mb
    """
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in hidden else c for c in text)
