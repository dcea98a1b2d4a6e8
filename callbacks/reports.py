"""What `test` and `predict` leave behind: metrics, per-class figures, errors, predictions.

The callbacks see a model only through `predict_step`, `test_step`, `answer` and, where it has one, `contributions`;
and the data through `class_names`, `feature_names` and `describe`.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from callbacks.run_files import write_csv, write_whole


class _Rows:
    """Results of single rows, collected batch by batch, brought together from all processes, in the split's order."""

    def __init__(self) -> None:
        self.parts: list[tuple[Any, ...]] = []

    def add(self, rows: Tensor, *columns: Any) -> None:
        """Keep the batch's row numbers (n,) and, for each row, whatever stands in the columns (tensors or lists)."""
        self.parts += zip(rows.tolist(), *(c.cpu() if isinstance(c, Tensor) else c for c in columns), strict=True)

    def gather(self) -> list[tuple[Any, ...]]:
        """Every process's rows, sorted by row number."""
        parts = self.parts
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            everyone: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everyone, parts)
            parts = [row for process in everyone for row in process]
        self.parts = []
        return sorted(parts, key=lambda part: part[0])


class TestReport(L.Callback):
    """After `test`: test_metrics.json, per_class.csv and errors.csv, in the run directory.

    per_class.csv and errors.csv speak of the answers that `predict` would give, so with an out-of-scope threshold where
    the model has one.
    """

    def __init__(self) -> None:
        self.collected = _Rows()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep truth, answer and probability of the answer."""
        answer = pl_module.answer(outputs)  # type: ignore[operator]
        self.collected.add(batch.rows, batch.target, answer, outputs.gather(1, answer.unsqueeze(1)).squeeze(1))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the three files."""
        rows = self.collected.gather()
        if not trainer.is_global_zero or trainer.fast_dev_run or not rows:  # type: ignore[attr-defined]
            return
        from sklearn.metrics import precision_recall_fscore_support  # slow to import, so not at the top

        run, names = Path(trainer.default_root_dir), trainer.datamodule.class_names  # type: ignore[attr-defined]
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test")}
        write_whole(run / "test_metrics.json", json.dumps(metrics, indent=2) + "\n")

        target, answer = (torch.tensor([row[column] for row in rows]).numpy() for column in (1, 2))
        figures = precision_recall_fscore_support(target, answer, labels=range(len(names)), zero_division=0)
        write_csv(
            run / "per_class.csv",
            ("label", "precision", "recall", "f1", "rows"),
            ((name, *(f"{v:.4f}" for v in row[:3]), int(row[3])) for name, *row in zip(names, *figures, strict=True)),
        )
        wrong = [row for row in rows if row[1] != row[2]]
        described = trainer.datamodule.describe([row[0] for row in wrong], "test")  # type: ignore[attr-defined]
        keys = list(trainer.datamodule.describe([rows[0][0]], "test")[0])  # type: ignore[attr-defined]
        wrong_rows = sorted(zip(wrong, described, strict=True), key=lambda pair: -pair[0][3])  # the surest first
        write_csv(
            run / "errors.csv",
            (*keys, "truth", "answer", "probability"),
            (
                (*(info[k] for k in keys), names[int(truth)], names[int(said)], f"{proba:.4f}")
                for (_, truth, said, proba), info in wrong_rows
            ),
        )
        print(f"{len(rows) - len(wrong)} of {len(rows)} test rows right; reports in {run}")


class PredictionWriter(L.Callback):
    """After `predict`: predictions.jsonl in the run directory, and a table of the first rows on the terminal.

    Args:
        top_k: how many classes, the most probable first, each line lists.
        words: for a model with `contributions`: how many features that spoke for, and against, the answer to list.
        show: rows in the table on the terminal.
    """

    def __init__(self, top_k: int = 5, words: int = 3, show: int = 20) -> None:
        if min(top_k, words, show) < 0:
            raise ValueError(f"top_k, words and show must not be negative, got {top_k}, {words} and {show}")
        self.top_k, self.words, self.show = top_k, words, show
        self.collected = _Rows()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep answer, probability, top classes and, for text, the words for and against."""
        proba = outputs
        answer = pl_module.answer(proba)  # type: ignore[operator]
        top = proba.topk(min(self.top_k, proba.shape[1]), dim=1)
        words: Sequence[Any] = [None] * len(answer)
        if hasattr(pl_module, "contributions"):
            contributions = pl_module.contributions(batch.x, answer)  # type: ignore[operator]
            words = self._words(batch.x.cpu(), contributions.cpu(), trainer)
        chosen = proba.gather(1, answer.unsqueeze(1)).squeeze(1)
        self.collected.add(
            batch.rows, answer.tolist(), chosen.tolist(), top.indices.tolist(), top.values.tolist(), words
        )

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the file and print the table."""
        rows = self.collected.gather()
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        names, oos = data.class_names, getattr(data, "oos_class", None)
        records = []
        described = data.describe([row[0] for row in rows], "predict")
        for (_, answer, chosen, labels, values, words), record in zip(rows, described, strict=True):
            record |= {"label": names[answer], "probability": round(chosen, 6)}
            record["top_k"] = [
                {"label": names[i], "probability": round(p, 6)} for i, p in zip(labels, values, strict=True)
            ]
            if oos is not None:
                record["out_of_scope"] = answer == oos
            if words is not None:
                record["words_for"], record["words_against"] = words
            records.append(record)
        path = Path(trainer.default_root_dir) / "predictions.jsonl"
        write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        self._print(records, path)

    def _words(self, x: Tensor, contributions: Tensor, trainer: L.Trainer) -> list[Any]:
        """For each row of a CSR batch the features that raised and lowered the answer's score most."""
        names = trainer.datamodule.feature_names  # type: ignore[attr-defined]
        found = []
        ends, columns = x.crow_indices().tolist(), x.col_indices()
        for start, end in itertools.pairwise(ends):
            part = contributions[start:end]
            order = part.argsort(descending=True).tolist()
            pairs = [(names[int(columns[start + i])], round(float(part[i]), 3)) for i in order]
            found.append(
                (
                    [pair for pair in pairs[: self.words] if pair[1] > 0],
                    [pair for pair in pairs[::-1][: self.words] if pair[1] < 0],
                )
            )
        return found

    def _print(self, records: list[dict[str, Any]], path: Path) -> None:
        from rich.console import Console
        from rich.table import Table

        short = {"probability": "p", "out_of_scope": "oos", "words_for": "for", "words_against": "against"}
        table = Table()
        for key in records[0] if records else {}:
            if key != "top_k":
                table.add_column(short.get(key, key), no_wrap=key == "label", overflow="fold")
        for record in records[: self.show]:
            cells = [value for key, value in record.items() if key != "top_k"]
            table.add_row(*(_cell(value) for value in cells))
        Console().print(table)
        hidden = len(records) - self.show
        print(f"{f'... and {hidden} more; ' if hidden > 0 else ''}{len(records)} predictions in {path}")


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return escape(", ".join(f"{word} {amount:+.2f}" for word, amount in value))
    return escape("yes" if value is True else "no" if value is False else str(value))
