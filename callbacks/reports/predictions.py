"""The report of `predict`: predictions.jsonl, predictions.csv, a table on the terminal.

N rows of a batch, K classes.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.files import as_json
from callbacks.linear import class_scores, contributions, name_of
from callbacks.protocols import datamodule_of, offers, optional_of
from callbacks.reports.evaluation import Report
from callbacks.reports.prediction_shards import PredictionShards
from callbacks.rows import batch_parts
from callbacks.run.outputs import OutputSaver
from callbacks.tables import as_written, csv_writer, disambiguate, writing
from callbacks.terminal import print_table, relative

Record = tuple[dict[str, Any], dict[str, Any]]  # the datamodule's description of a row, and the prediction
MAX_DESCRIBED_COLUMNS = 3  # in the table on the terminal, of the description
JOINED_NAMES = ("label", "probability", "second_label", "second_probability", "out_of_scope")  # in predictions.csv
PRINTED_NAMES = {"label": "label", "probability": "p", "out_of_scope": "oos"}
PRINTED_NAMES |= {"words_for": "for", "words_against": "against"}


class PredictionWriter(Report):
    """After `predict`: predictions.jsonl in the run directory, and a table of the first rows on the terminal.

    A line holds the datamodule's description of the row, then `label`, `probability` and `top_k`; `out_of_scope` where
    the data has such a class; `words_for` and `words_against`, the features that contributed most to the label and most
    against it, where the model is linear and the features have names.

    Rows that come from a file are also written to predictions.csv: all columns of the file, then label, probability,
    second_label and second_probability, the most probable of the other classes, and out_of_scope. In both files `label`
    becomes `predicted_label`, and so on, where the user has a column of that name. Where `predict_step` returns
    anything but probabilities (N, K), predictions.pt holds that instead.

    Rows of data that offers `input_table`, a `pyarrow.Table`, go to predictions/*.parquet instead: all of its columns,
    then `row`, the number of the row, label, probability, second_label and second_probability.

    Lines are written as the rows come: millions take little memory. Rows of several processes, and those that come
    before their turn, wait for the end, with some 100 bytes each.

    Args:
        top_k: number of classes to list, the most probable first.
        num_features: number of features in `words_for`, and in `words_against`.
        num_printed: rows in the table on the terminal.
    """

    def __init__(self, top_k: int = 5, num_features: int = 3, num_printed: int = 20) -> None:
        super().__init__()
        self.top_k, self.num_features, self.num_printed = top_k, num_features, num_printed
        self._files: PredictionFiles | None = None  # on the process that writes
        self._other = OutputSaver()  # of what is no probabilities
        self._shards: PredictionShards | None = None  # on each process

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
        data, run = datamodule_of(trainer), Path(trainer.default_root_dir)
        is_linear = offers(pl_module, "coefficients") and offers(data, "feature_names")
        self._W = pl_module.coefficients()[0] if is_linear else None
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if offers(data, "input_table"):  # no words_for and words_against: nobody reads them in millions of rows
            self._shards = PredictionShards(run / "predictions", data, trainer)
        elif trainer.is_global_zero:
            self._files = PredictionFiles(run, data, is_linear, self.top_k, self.num_printed)

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        rows = self._rows.classify(trainer, pl_module, outputs, batch, "predict_step")
        if rows is None:
            return self._other.on_predict_batch_end(trainer, pl_module, outputs, batch, *rest)
        if self._shards is not None:
            return self._shards.write(rows)
        top = rows.proba.topk(min(max(self.top_k, 2), rows.proba.shape[1]), dim=1)  # two, for the second label
        features = amounts = torch.zeros(len(rows.label), 0)
        if self._W is not None:
            scores = partial(class_scores, pl_module)
            pairs = contributions(batch_parts(batch)[0], self._W, rows.label, scores)
            features, amounts = _strongest(pairs, self.num_features, self._W.dtype)
        found = (rows.indices, rows.label, rows.confidence, top.indices.int(), top.values, features, amounts)
        columns = tuple(column.cpu() for column in found)
        written = self._files.num_rows if self._files else 0
        turn = torch.arange(written, written + len(rows.indices))
        if self._files is not None and trainer.world_size == 1 and torch.equal(columns[0], turn):
            self._files.write(columns)
        else:
            self._rows.add(*columns)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._shards is not None:
            return self._shards.finish(self._rows.problem)
        columns = self._rows.gather()
        if self._files is None:
            return
        if (problem := self._rows.problem) is not None:
            self.on_exception(trainer, pl_module, ValueError(problem))
            print(f"`predict` leaves out its predictions: {problem}")
            return None if self._rows.num_rows else self._other.on_predict_end(trainer, pl_module)
        if columns:
            self._files.write(columns)
        self._files.finish()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave an earlier file as it was."""
        if self._shards is not None:
            self._shards.abandon()
        if self._files is not None:
            self._files.open.__exit__(type(exception), exception, exception.__traceback__)


class PredictionFiles:
    """predictions.jsonl and, of rows from a file, predictions.csv, written as the rows come."""

    def __init__(self, run: Path, data: Any, is_linear: bool, top_k: int, num_printed: int) -> None:
        self.path, self.data, self.is_linear = run / "predictions.jsonl", data, is_linear
        self.top_k, self.num_printed, self.num_rows = top_k, num_printed, 0
        self.oos_class, self.is_empty = optional_of(data, "oos_class"), optional_of(data, "is_empty")
        self.open = ExitStack()  # files to be closed, and renamed, at the end
        self._lines = self.open.enter_context(writing(self.path))
        self._printed: list[Record] = []
        # The columns of predictions.csv are known when the last row is: until then its cells wait as JSON.
        self._columns: dict[str, None] = {}
        self._cells: Any = None
        if offers(data, "input_rows") and optional_of(data, "predict_file") is not None:
            self._cells = self.open.enter_context(TemporaryFile("w+", dir=run, encoding="utf-8"))  # noqa: SIM115

    def write(self, columns: Sequence[Tensor]) -> None:
        """Write rows, in pieces, since all of them as Python objects would need much memory."""
        for piece in zip(*(column.split(4096) for column in columns), strict=True):
            indices = piece[0].tolist()
            predictions = [self._prediction(*row) for row in zip(*map(Tensor.tolist, piece), strict=True)]
            for described, prediction in zip(self.data.describe(indices, "predict"), predictions, strict=True):
                shown = {name: value for name, value in prediction.items() if not name.startswith("second_")}
                names = disambiguate(shown, described, "predicted_")
                print(as_json(described | dict(zip(names, shown.values(), strict=True))), file=self._lines)
                if len(self._printed) < self.num_printed:
                    self._printed.append((described, shown))
            if self._cells is not None:
                for row, prediction in zip(self.data.input_rows(indices), predictions, strict=True):
                    self._columns |= dict.fromkeys(row)
                    cells = [_plain(row.get(name)) for name in self._columns]
                    joined = [prediction[name] for name in JOINED_NAMES if name in prediction]
                    print(as_json([cells, joined]), file=self._cells)
            self.num_rows += len(indices)

    def _prediction(
        self, index: int, label: int, p: float, top: list[int], top_p: list[float], *words: list[Any]
    ) -> dict[str, Any]:
        names = self.data.class_names
        ranked = [(names[k], round(q, 6)) for k, q in zip(top, top_p, strict=True)]
        second, second_p = ranked[1] if top[0] == label else ranked[0]
        prediction: dict[str, Any] = {
            "label": names[label],
            "probability": round(p, 6),
            "top_k": [{"label": name, "probability": q} for name, q in ranked[: self.top_k]],
            "second_label": second,
            "second_probability": second_p,
        }
        if self.oos_class is not None:
            prediction["out_of_scope"] = label == self.oos_class
        if self.is_linear:
            features = self.data.feature_names
            pairs = [(name_of(features, j), round(amount, 3)) for j, amount in zip(*words, strict=True)]
            prediction["words_for"] = [pair for pair in pairs if pair[1] > 0]
            prediction["words_against"] = [pair for pair in pairs if pair[1] < 0]
        if self.is_empty is not None and self.is_empty(index):
            return {name: [] if isinstance(value, list) else None for name, value in prediction.items()}
        return prediction

    def finish(self) -> None:
        """Write predictions.csv, give the files their names, and print the table."""
        joined = ""
        if self._columns:
            joined = "; with all columns of the input in predictions.csv"
            self._write_csv(self.path.with_suffix(".csv"))
        self.open.close()
        _print_records(self._printed)
        more = self.num_rows - len(self._printed)
        and_more = f"... and {more} more; " if more else ""
        print(
            f"{and_more}{self.num_rows} prediction{'' if self.num_rows == 1 else 's'} in {relative(self.path)}{joined}"
        )

    def _write_csv(self, path: Path) -> None:
        names = [name for name in JOINED_NAMES if name != "out_of_scope" or self.oos_class is not None]
        self._cells.seek(0)
        with writing(path) as file:
            writer = csv_writer(file)
            writer.writerow([*self._columns, *disambiguate(names, self._columns, "predicted_")])
            for cells, prediction in map(json.loads, self._cells):
                writer.writerow([*cells, *[None] * (len(self._columns) - len(cells)), *prediction])


def _strongest(pairs_of_rows: list[list[tuple[int, float]]], number: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of N rows the features with the highest amounts above 0, then those with the lowest below 0.

    (N, 2 · number) feature indices, and their amounts; those that a row lacks have amount 0.
    """
    rows = []
    for pairs in pairs_of_rows:
        ordered = sorted(pairs, key=itemgetter(1))
        chosen = [pair for pair in ordered[::-1][:number] if pair[1] > 0]
        chosen += [pair for pair in ordered[:number] if pair[1] < 0]
        rows.append(chosen + [(0, 0.0)] * (2 * number - len(chosen)))
    table = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), 2 * number, 2)
    return table[..., 0].int(), table[..., 1].to(dtype)


def _plain(value: Any) -> Any:
    """As JSON where it is a list or a map, which JSON and Parquet can hold and a cell cannot."""
    return as_json(value) if isinstance(value, dict | list) else value


def _print_records(records: list[Record]) -> None:
    described, prediction = records[0] if records else ({}, {})
    shown, is_text = list(described), len(described) == 1
    if len(shown) > MAX_DESCRIBED_COLUMNS + 1:  # "… 1 more" would take as much room as that one
        shown = shown[:MAX_DESCRIBED_COLUMNS]
    more = [f"… {len(described) - len(shown)} more"] if len(shown) < len(described) else []
    printed = [name for name in PRINTED_NAMES if name in prediction]
    names = [*shown, *more, *disambiguate([PRINTED_NAMES[name] for name in printed], described, "predicted_")]
    # Of a text as many n-grams as have room, of a table the strongest column, whole; predictions.jsonl has all.
    words = [name for name in printed if name.startswith("words_")]
    cut, strongest = (words, []) if is_text else ([], words)
    rows = [
        [
            *(_cell(_plain(described[name]), as_written) for name in shown),
            *("…" for _ in more),
            *(_cell(prediction[name][:1] if name in strongest else prediction[name]) for name in printed),
        ]
        for described, prediction in records
    ]
    numbers = [n for n, name in enumerate(printed, len(shown) + len(more)) if name in cut]
    print_table(names, rows, words=len(names), cut=numbers)


def _cell(value: Any, number: Callable[[float], str] = "{:.3f}".format) -> str:
    if isinstance(value, float):
        return number(value + 0.0)
    if isinstance(value, list):  # without what would be rounded to 0
        return ", ".join(f"{amount:+.2f} {word}" for word, amount in value if abs(amount) >= 0.005)
    return "yes" if value is True else "no" if value is False else "" if value is None else str(value)
