"""What is found in the data before training, against counts worked out by hand."""

import json

import lightning as L
import pytest
import torch

from callbacks.reports.data import DataReport, inspect_splits
from tests.tools.runs import quiet_trainer, read_csv

TRAIN = ["a", "b", "a", "c", "c", None, "d"], [0, 1, 0, 1, 0, 1, 2]
VAL = ["b", "e"], [1, 0]
TEST = ["a", "f", "f", None], [1, 0, 0, 2]


def test_duplicates_conflicts_empty_rows_and_leaks_are_counted_and_listed_contradictions_first():
    report, issues = inspect_splits({"train": TRAIN, "val": VAL, "test": TEST}, ["x", "y", "z"])
    assert [counts.pop("class_counts") for counts in report.values()] == [
        *({"x": 3, "y": 3, "z": 1}, {"x": 1, "y": 1, "z": 0}, {"x": 2, "y": 1, "z": 1}),
    ]
    assert report == {  # duplicates: the second a, the second c; conflicting: both c
        "train": {"rows": 7, "duplicates": 2, "conflicting": 2, "empty": 1},
        "val": {"rows": 2, "duplicates": 0, "conflicting": 0, "empty": 0, "in_train": 1},
        "test": {"rows": 4, "duplicates": 1, "conflicting": 0, "empty": 1, "in_train": 1},
    }
    assert issues == [
        ("train", 3, 1, "c", "conflicting"),
        ("train", 4, 0, "c", "conflicting"),
        ("train", 5, 1, None, "empty"),
        ("test", 3, 2, None, "empty"),
        ("val", 0, 1, "b", "in_train"),
        ("test", 0, 1, "a", "in_train"),
    ]


class Data(L.LightningDataModule):
    class_names = ("x", "y", "z")

    def contents(self, split):
        contents, target = {"train": TRAIN, "val": VAL, "test": TEST}[split]
        return contents, torch.tensor(target)

    def train_dataloader(self):
        return [torch.zeros(1)]


class Model(L.LightningModule):
    def training_step(self, batch, batch_idx):
        return None

    def configure_optimizers(self):
        return None


@pytest.mark.filterwarnings("ignore:.*no `validation_step`.*", "ignore:.*configure_optimizers.*")
@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`.*")
def test_a_fit_writes_the_report_and_prints_a_table_before_it_trains(tmp_path, capsys):
    quiet_trainer(tmp_path, DataReport(), max_epochs=1).fit(Model(), Data())
    assert json.loads((tmp_path / "data_report.json").read_text())["test"]["in_train"] == 1
    lines = read_csv(tmp_path / "data_issues.csv")
    assert lines[0] == {"problem": "conflicting", "split": "train", "row": "3", "label": "y", "content": "c"}
    assert len(lines) == 6
    printed = capsys.readouterr().out
    assert "in train" in printed and "6 rows to look at in" in printed
