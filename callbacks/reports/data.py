"""The data report before a fit: class balance, repeated rows, labels that contradict."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.files import as_json, atomic_write_text
from callbacks.protocols import INSPECTABLE_DATA, datamodule_of, lack
from callbacks.tables import as_written, atomic_write_csv
from callbacks.terminal import print_table, relative

SPLITS = ("train", "val", "test")
Issue = tuple[str, int, int, Hashable, str]  # split, row, class index, content, what is wrong with it


def inspect_splits(
    splits: Mapping[str, tuple[Sequence[Hashable], Sequence[int]]], class_names: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], list[Issue]]:
    """Counts for each split, and the rows behind them.

    Args:
        splits: by name, "train" first, the content of each row (None where it is empty) and its class index.
        class_names: K names.

    Returns:
        Of each split `rows`; `class_counts` by name; `duplicates`, rows that repeat an earlier one of the split;
        `conflicting`, rows that equal one of the split with another label; `empty`; and, but for "train", `in_train`,
        rows that are also in it. And the conflicting rows, the empty ones, and those in train, in this order.
    """
    train: dict[Hashable, int] = {}
    report, issues = {}, []
    for split, (contents, target) in splits.items():
        label_of: dict[Hashable, int] = {}  # of each content the first
        pairs = zip(contents, target, strict=True)
        torn = {content for content, label in pairs if label_of.setdefault(content, label) != label} - {None}
        train = train or label_of
        found: dict[str, list[int]] = {
            "conflicting": [n for n, content in enumerate(contents) if content in torn],
            "empty": [n for n, content in enumerate(contents) if content is None],
        }
        if split != "train":
            leaked = (label_of.keys() & train.keys()) - {None}
            found["in_train"] = [n for n, content in enumerate(contents) if content in leaked]
        counts, filled = Counter(target), len(contents) - len(found["empty"])
        report[split] = {
            "rows": len(contents),
            "class_counts": {name: counts[k] for k, name in enumerate(class_names)},
            "duplicates": filled - len(label_of.keys() - {None}),
            **{problem: len(rows) for problem, rows in found.items()},
        }
        issues += [(split, n, target[n], contents[n], problem) for problem, rows in found.items() for n in rows]
    order = ("conflicting", "empty", "in_train")
    return report, sorted(issues, key=lambda issue: (order.index(issue[4]), SPLITS.index(issue[0]), str(issue[3])))


def print_report(report: dict[str, dict[str, Any]]) -> None:
    """A table with one line for each split."""
    rows = []
    for split, found in report.items():
        counts = [count for count in found["class_counts"].values() if count]
        per_class = f"{min(counts, default=0)} to {max(counts, default=0)}"
        numbers = [found[name] for name in ("duplicates", "conflicting", "empty")]
        rows.append([split, str(found["rows"]), per_class, *map(str, numbers), str(found.get("in_train", ""))])
    print_table(("split", "rows", "per class", "duplicates", "conflicting", "empty", "in train"), rows)


class DataReport(L.Callback):
    """Before `fit`: a table on the terminal; data_report.json and, if a row is suspicious, data_issues.csv.

    It needs `INSPECTABLE_DATA` (see `callbacks.protocols`).
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = datamodule_of(trainer)
        if lack(data, INSPECTABLE_DATA) or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = {split: data.contents(split) for split in SPLITS}
        splits = {split: (contents, target.tolist()) for split, (contents, target) in found.items()}
        report, issues = inspect_splits(splits, data.class_names)
        run = Path(trainer.default_root_dir)
        atomic_write_text(run / "data_report.json", as_json(report, indent=2) + "\n")
        print_report(report)
        if issues:
            lines = [
                (problem, split, row, data.class_names[label], _as_cell(content))
                for split, row, label, content, problem in issues
            ]
            atomic_write_csv(run / "data_issues.csv", ("problem", "split", "row", "label", "content"), lines)
            print(f"{len(issues)} rows to look at in {relative(run / 'data_issues.csv')}")


def _as_cell(content: Hashable) -> Any:
    return " ".join(map(as_written, content)) if isinstance(content, tuple) else content
