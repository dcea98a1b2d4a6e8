"""The report of `test`: per-class metrics and errors. N rows of a batch, K classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.protocols import CLASSIFIER, LABELLED_DATA, datamodule_of, lack
from callbacks.rows import RowCollector
from callbacks.tables import atomic_write_csv, disambiguate
from callbacks.terminal import four_digits, print_table, relative

MOST_CLASSES, WORST_CLASSES = 20, 10  # on the terminal: so many are all shown, of more the worst alone


class Report(L.Callback):
    """Rows that `test` or `predict` classifies; refuses a model or a datamodule that lacks something."""

    @staticmethod
    def unmet(model: object, datamodule: object) -> str | None:
        """The members that model or datamodule lacks, in one line with signatures; None if it applies."""
        return lack(model, CLASSIFIER) or lack(datamodule, LABELLED_DATA)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if unmet := self.unmet(pl_module, datamodule_of(trainer)):
            raise ValueError(f"{type(self).__name__} does not apply: {unmet}; add it, or leave this callback out")
        self._rows = RowCollector(type(self).__name__)


class EvaluationReport(Report):
    """After `test`: per_class.csv and errors.csv, in the run directory, and a table of classes on the terminal.

    Both use the labels that `predict` would give, an out-of-scope threshold included. errors.csv lists the
    misclassified rows, those with the highest probability first; of its columns `target`, `predicted` and `probability`
    one becomes `test_target` and so on where the data has a column of that name. Where `test_step` returns anything but
    probabilities (N, K), one line replaces them.
    """

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        rows = self._rows.classify(trainer, pl_module, outputs, batch, "test_step")
        if rows is None:
            return
        if rows.target is None:
            raise ValueError("EvaluationReport expected batches (x, target) or (x, target, indices), got x alone")
        self._rows.add(rows.indices.int(), rows.target.int(), rows.label.int(), rows.confidence)  # 16 bytes a row

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        columns = self._rows.gather()
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._rows.problem is not None:
            print(f"`test` leaves out per_class.csv and errors.csv: {self._rows.problem}")
        elif columns:
            self._write(trainer, columns)

    def _write(self, trainer: L.Trainer, columns: tuple[Any, ...]) -> None:
        from sklearn.metrics import precision_recall_fscore_support  # slow to import, so not at the top

        indices, target, predicted, confidence = columns
        data = datamodule_of(trainer)
        run, names = Path(trainer.default_root_dir), data.class_names
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
        described = (row for part in indices[wrong].split(4096) for row in data.describe(part.tolist(), "test"))
        errors = zip(
            described,
            *(column[wrong].tolist() for column in (target, predicted, confidence)),
            strict=True,
        )
        atomic_write_csv(
            run / "errors.csv",
            (*keys, *disambiguate(("target", "predicted", "probability"), keys, "test_")),
            ((*(row[key] for key in keys), names[t], names[k], f"{p:.4f}") for row, t, k, p in errors),
        )
        right, end = f"{len(target) - len(wrong)} of {len(target)} test rows right", "; "
        if (threshold := trainer.callback_metrics.get("test_at_threshold/threshold")) is not None:
            right, end = f"{right} with the threshold {threshold:.4g}, as `predict` answers", "\n"
        print_per_class(names, per_class)
        print(f"{right}{end}reports in {relative(run)}")


def print_per_class(names: Sequence[str], per_class: Sequence[Any]) -> None:
    """Precision, recall, F1 and rows of each class; of more than twenty classes the ten with the lowest F1."""
    rows = list(zip(names, *per_class, strict=True))
    is_part = len(rows) > MOST_CLASSES
    if is_part:
        rows = sorted((row for row in rows if row[4]), key=lambda row: row[3])[:WORST_CLASSES]
    which = f"label (the {len(rows)} worst of {len(names)})" if is_part else "label"
    cells = [(str(name), *("" if v != v else four_digits(v) for v in row[:3]), str(row[3])) for name, *row in rows]
    print_table((which, "precision", "recall", "F1", "rows"), cells)
