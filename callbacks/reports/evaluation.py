"""What `test` and `predict` write: metrics, per-class metrics, errors, predictions.

N rows of a batch, K classes.
"""

import csv
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import lightning as L
import torch
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor

from callbacks.files import as_json, atomic_write_csv, atomic_write_text, replacing, write_then_rename
from callbacks.protocols import (
    ExplainableClassifier,
    InputFile,
    LabelledData,
    NamedFeatures,
    OutOfScopeData,
    datamodule_of,
    name_of,
    offers,
)
from callbacks.reports.column_names import beside
from callbacks.reports.rows import RowCollector, batch_parts

Columns = tuple[Tensor, ...]  # each of N rows
Record = tuple[dict[str, Any], dict[str, Any]]  # what the datamodule tells about a row, and what the model answers
MAX_DESCRIBED_COLUMNS = 3  # in the table on the terminal, of what the datamodule tells about a row
PRINTED_NAMES = {
    "label": "label",
    "probability": "p",
    "out_of_scope": "oos",
    "words_for": "for",
    "words_against": "against",
}


def evaluated_part(trainer: L.Trainer) -> str | None:
    """How many of the batches a validation, test or prediction took, "1 of 2 batches"; None if all."""
    kind = {"validate": "val", "test": "test", "predict": "predict"}[trainer.state.fn]  # type: ignore[index]
    taken: list[int | float] = getattr(trainer, f"num_{kind}_batches")
    loaders = CombinedLoader(getattr(trainer, f"{kind}_dataloaders"), "sequential").flattened
    lengths = [float("inf") if (length := sized_len(loader)) is None else length for loader in loaders]
    if taken == lengths:
        return None
    of_all = "" if float("inf") in lengths else f" of {sum(lengths)}"
    return f"{sum(taken)}{of_all} batches (trainer.limit_{kind}_batches)"


def write_test_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Write what was logged under names that begin with "test" to test_metrics.json, and return it.

    Of a part of the rows the file has a further entry, "partial".
    """
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test")}
    part = evaluated_part(trainer)
    text = as_json(metrics | ({} if part is None else {"partial": part}), indent=2)
    atomic_write_text(Path(trainer.default_root_dir, "test_metrics.json"), text + "\n")
    return metrics


class MetricsWriter(L.Callback):
    """After `test`: test_metrics.json, for models and data that offer too little for an EvaluationReport."""

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_test_metrics(trainer)


class EvaluationReport(RowCollector):
    """After `test`: test_metrics.json, per_class.csv and errors.csv, in the run directory.

    The last two use the labels that `predict` would give, an out-of-scope threshold included. errors.csv lists the
    misclassified rows, those with the highest probability first; of its columns `target`, `predicted` and `probability`
    one becomes `test_target` and so on where the data has a column of that name.
    """

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        x, target, indices = batch_parts(batch)
        if target is None:
            raise ValueError("EvaluationReport expected batches (x, target) or (x, target, indices), got x alone")
        _, predicted, confidence = self.predict(trainer, pl_module, x)
        self.collect(trainer, indices, target, predicted, confidence)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        columns = self.gather()
        if not trainer.is_global_zero or trainer.fast_dev_run or not columns:  # type: ignore[attr-defined]
            return
        from sklearn.metrics import precision_recall_fscore_support  # slow to import, so not at the top

        indices, target, predicted, confidence = columns
        data: LabelledData = datamodule_of(trainer)
        run, names = Path(trainer.default_root_dir), data.class_names
        metrics = write_test_metrics(trainer)
        per_class = precision_recall_fscore_support(
            target.numpy(), predicted.numpy(), labels=range(len(names)), zero_division=float("nan")
        )
        atomic_write_csv(
            run / "per_class.csv",
            ("label", "precision", "recall", "f1", "rows"),
            (
                (name, *("" if v != v else f"{v:.4f}" for v in row[:3]), int(row[3]))
                for name, *row in zip(names, *per_class, strict=True)
            ),
        )
        wrong = (predicted != target).nonzero().squeeze(1)
        wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)]
        keys = list(data.describe(indices[:1].tolist(), "test")[0])
        errors = zip(
            data.describe(indices[wrong].tolist(), "test"),
            *(column[wrong].tolist() for column in (target, predicted, confidence)),
            strict=True,
        )
        atomic_write_csv(
            run / "errors.csv",
            (*keys, *beside(keys, ("target", "predicted", "probability"), "test_")),
            ((*(row[key] for key in keys), names[t], names[k], f"{p:.4f}") for row, t, k, p in errors),
        )
        right = f"{len(target) - len(wrong)} of {len(target)} test rows right"
        if "test_at_threshold/threshold" in metrics:
            right += f" with the threshold {metrics['test_at_threshold/threshold']:.4g}, as `predict` answers"
            right += " (test/accuracy is without it)"
        print(f"{right}; reports in {run}")


class PredictionWriter(RowCollector):
    """After `predict`: predictions.jsonl in the run directory, and a table of the first rows on the terminal.

    A line holds what the datamodule tells about the row, then `label`, `probability` and `top_k`; `out_of_scope` where
    the data has such a class; `words_for` and `words_against`, the features that contributed most to the label and most
    against it, where the model has contributions and the features have names.

    Lines are written as the rows come, those of several processes after each batch: millions of rows take little
    memory. Rows that come from a file are also written to predictions.csv: all columns of the file, then label,
    probability, second_label and second_probability, the most probable of the other classes, and out_of_scope. In both
    files `label` becomes `predicted_label`, and so on, where the user has a column of that name.

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
        self._open = ExitStack()  # what has to be closed, and renamed, at the end

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse as well to replace the file that the rows come from, or that a link of its name leads to."""
        super().setup(trainer, pl_module, stage)
        data, run = datamodule_of(trainer), Path(trainer.default_root_dir)
        if stage != "predict" or not offers(data, InputFile) or data.predict_file is None:
            return
        for path in (run / "predictions.jsonl", run / "predictions.csv"):
            if path.resolve() == Path(data.predict_file).resolve():
                raise ValueError(
                    f"predict_file: expected another file than {path}, which the predictions would replace: "
                    "rename it, and give that name"
                )

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._file: TextIO | None = None  # on the process that writes
        self._waiting: list[Columns] = []  # pieces whose turn has not come
        self._answers: list[Columns] = []  # for predictions.csv
        self._first: list[Record] = []  # for the table
        self._num_written = 0
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = Path(trainer.default_root_dir) / "predictions.jsonl"
            self._file = self._open.enter_context(self._open.enter_context(replacing(path)).open("w", encoding="utf-8"))

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        x, _, indices = batch_parts(batch)
        proba, label, confidence = self.predict(trainer, pl_module, x)
        top = proba.topk(min(self.top_k, proba.shape[1]), dim=1)
        second = proba.scatter(1, label.unsqueeze(1), -1).max(dim=1)
        strongest = torch.zeros(len(label), 0, 2)
        if offers(pl_module, ExplainableClassifier) and offers(datamodule_of(trainer), NamedFeatures):
            strongest = _strongest(pl_module.contributions(x, label), self.num_features)
        self.collect(
            trainer, indices, label, confidence, top.indices, top.values, strongest, second.indices, second.values
        )
        self._write_in_order(trainer, pl_module, self.gather())

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        while columns := self.gather():  # of processes that have more batches
            self._write_in_order(trainer, pl_module, columns)
        if self._file is None:
            return
        if self._waiting:  # rows that did not come in order
            columns = tuple(map(torch.cat, zip(*self._waiting, strict=True)))
            order = columns[0].argsort()
            self._write(trainer, pl_module, tuple(column[order] for column in columns))
        self._open.close()
        path, data, joined = Path(trainer.default_root_dir) / "predictions.jsonl", datamodule_of(trainer), ""
        if self._answers:
            answers = tuple(map(torch.cat, zip(*self._answers, strict=True)))
            write_then_rename(path.with_suffix(".csv"), lambda temporary: _write_joined(temporary, answers, data))
            joined = "; with all columns of the input in predictions.csv"
        _print_table(self._first)
        total = self._num_written
        more = f"... and {total - len(self._first)} more; " if total > len(self._first) else ""
        print(f"{more}{total} prediction{'' if total == 1 else 's'} in {path}{joined}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave an earlier file as it was."""
        self._open.__exit__(type(exception), exception, exception.__traceback__)

    def _write_in_order(self, trainer: L.Trainer, pl_module: L.LightningModule, columns: Columns) -> None:
        """Write the rows whose turn it is, and let the others wait; the columns begin with the numbers of the rows."""
        if self._file is None or not columns:
            return
        self._waiting = sorted([*self._waiting, columns], key=lambda piece: int(piece[0][0]))
        while self._waiting:
            first, last = self._waiting[0][0][[0, -1]].tolist()
            if first != self._num_written or last != first + len(self._waiting[0][0]) - 1:
                break
            self._write(trainer, pl_module, self._waiting.pop(0))

    def _write(self, trainer: L.Trainer, pl_module: L.LightningModule, columns: Columns) -> None:
        data = datamodule_of(trainer)
        for described, answer in _records(columns, data, offers(pl_module, ExplainableClassifier)):
            named = zip(beside(described, answer, "predicted_"), answer.values(), strict=True)
            print(as_json(described | dict(named)), file=self._file)
            if len(self._first) < self.num_printed:
                self._first.append((described, answer))
        self._num_written += len(columns[0])
        if offers(data, InputFile) and data.predict_file is not None:
            indices, label, confidence, *_, second, second_p = columns
            self._answers.append((indices.int(), label.int(), confidence, second.int(), second_p))


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


def _records(columns: Columns, data: Any, explained: bool) -> Iterator[Record]:
    """What predictions.jsonl holds, made piece by piece: as Python objects, all of it would need much memory."""
    names = data.class_names
    oos_class = data.oos_class if offers(data, OutOfScopeData) else None
    feature_names = data.feature_names if explained and offers(data, NamedFeatures) else None
    is_empty = data.is_empty if offers(data, InputFile) else lambda index: False
    for piece in zip(*(column.split(4096) for column in columns), strict=True):
        indices, *predictions = (column.tolist() for column in piece)
        rows = data.describe(indices, "predict")
        for index, described, label, p, top, top_p, strongest, *_ in zip(indices, rows, *predictions, strict=True):
            answer: dict[str, Any] = {"label": names[label], "probability": round(p, 6)}
            answer["top_k"] = [{"label": names[k], "probability": round(q, 6)} for k, q in zip(top, top_p, strict=True)]
            if oos_class is not None:
                answer["out_of_scope"] = label == oos_class
            if feature_names is not None:
                pairs = [(name_of(feature_names, int(feature)), round(amount, 3)) for feature, amount in strongest]
                answer["words_for"] = [pair for pair in pairs if pair[1] > 0]
                answer["words_against"] = [pair for pair in pairs if pair[1] < 0]
            if is_empty(index):
                answer = {name: [] if isinstance(value, list) else None for name, value in answer.items()}
            yield described, answer


def _write_joined(path: Path, columns: Columns, data: Any) -> None:
    """predictions.csv: the rows of the input file, each with its prediction."""
    names, oos_class = data.class_names, data.oos_class if offers(data, OutOfScopeData) else None
    answers = ["label", "probability", "second_label", "second_probability"]
    answers += [] if oos_class is None else ["out_of_scope"]
    pieces = list(zip(*(column.split(4096) for column in columns), strict=True))
    inputs: dict[str, None] = {}
    for indices, *_ in pieces:
        inputs |= dict.fromkeys(key for row in data.input_rows(indices.tolist()) for key in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        # Told that lines end in \r\n, csv quotes a cell that holds either; before Python 3.13 it would leave out \r.
        writer = csv.writer(SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n")))
        writer.writerow([*inputs, *beside(inputs, answers, "predicted_")])
        for piece in pieces:
            indices, *predictions = (column.tolist() for column in piece)
            rows = data.input_rows(indices)
            for index, row, label, p, second, second_p in zip(indices, rows, *predictions, strict=True):
                answer = [names[label], round(p, 6), names[second], round(second_p, 6), label == oos_class]
                answer = [None] * len(answers) if data.is_empty(index) else answer[: len(answers)]
                writer.writerow([*(_plain(row.get(name)) for name in inputs), *answer])


def _plain(value: Any) -> Any:
    """What JSON and Parquet can hold and a cell cannot, as JSON."""
    return as_json(value) if isinstance(value, dict | list) else value


def _print_table(records: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # takes a cell as it is, while a plain string could hold markup

    described, answer = records[0] if records else ({}, {})
    shown = list(described)
    if len(shown) > MAX_DESCRIBED_COLUMNS + 1:  # "… 1 more" would take as much room as that one
        shown = shown[:MAX_DESCRIBED_COLUMNS]
    more = [f"… {len(described) - len(shown)} more"] if len(shown) < len(described) else []
    printed = [name for name in PRINTED_NAMES if name in answer]
    table = Table()
    for name in (*shown, *more):
        table.add_column(Text(_visible(name)), overflow="fold")
    for name in beside(described, [PRINTED_NAMES[name] for name in printed], "predicted_"):
        table.add_column(Text(name), no_wrap=name.endswith("label"), overflow="fold")
    for described, answer in records:
        cells = [*(_cell(_plain(described[name])) for name in shown), *("…" for _ in more)]
        cells += [_cell(answer[name]) for name in printed]
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
