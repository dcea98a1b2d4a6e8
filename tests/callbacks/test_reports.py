"""What `test` and `predict` leave behind, for a model that answers what it is told."""

import csv
import json

import lightning as L
import pytest
import torch
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader

from callbacks import PredictionWriter, TestReport
from callbacks.reports import write_whole
from datamodules.batches import Batch

TestReport.__test__ = False  # a callback, whatever pytest makes of its name

PROBA = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.0, 0.05, 0.95]])
TARGET = torch.tensor([0, 2, 2, 1, 0])  # rows 1, 3 and 4 are answered wrongly, row 4 with most confidence


class Oracle(L.LightningModule):
    """Row i gets the probabilities PROBA[i]."""

    def answer(self, proba):
        return proba.argmax(dim=1)

    def test_step(self, batch, batch_idx):
        self.log("test/loss", 0.25, batch_size=len(batch.rows))
        self.log("other", 1.0, batch_size=len(batch.rows))
        return PROBA[batch.rows]

    def predict_step(self, batch, batch_idx):
        return PROBA[batch.rows]


class Answers(L.LightningDataModule):
    """Batches of two rows in an order of their own, as several processes would leave them."""

    class_names = ("red", "green", "blue, or so")

    def loader(self):
        pieces = [torch.tensor(rows) for rows in ([4, 1], [0, 3], [2])]
        return DataLoader([Batch(torch.zeros(len(r), 1), TARGET[r], r) for r in pieces], batch_size=None)

    test_dataloader = predict_dataloader = loader

    def describe(self, rows, split):
        return [{"name": f"{split} {row}"} for row in rows]


def trainer_in(directory, callback, **options):
    plain = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return L.Trainer(accelerator="cpu", devices=1, default_root_dir=directory, callbacks=[callback], **plain, **options)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_test_metrics_are_a_flat_map_from_name_to_number(tmp_path):
    trainer_in(tmp_path, TestReport()).test(Oracle(), Answers(), verbose=False)
    assert json.loads((tmp_path / "test_metrics.json").read_text()) == {"test/loss": 0.25}


def test_every_class_has_its_own_line_of_figures(tmp_path):
    trainer_in(tmp_path, TestReport()).test(Oracle(), Answers(), verbose=False)
    lines = table(tmp_path / "per_class.csv")
    assert [line["label"] for line in lines] == ["red", "green", "blue, or so"]
    assert [line["rows"] for line in lines] == ["2", "1", "2"]
    expected = f1_score(TARGET, PROBA.argmax(dim=1), average=None, zero_division=0)
    assert [float(line["f1"]) for line in lines] == pytest.approx(expected, abs=1e-4)


def test_errors_list_the_wrong_rows_the_surest_first(tmp_path):
    trainer_in(tmp_path, TestReport()).test(Oracle(), Answers(), verbose=False)
    assert table(tmp_path / "errors.csv") == [
        {"name": "test 4", "truth": "red", "answer": "blue, or so", "probability": "0.9500"},
        {"name": "test 3", "truth": "green", "answer": "red", "probability": "0.6000"},
        {"name": "test 1", "truth": "blue, or so", "answer": "green", "probability": "0.5000"},
    ]


def test_a_second_test_does_not_count_the_rows_of_the_first(tmp_path):
    trainer = trainer_in(tmp_path, TestReport())
    for _ in range(2):
        trainer.test(Oracle(), Answers(), verbose=False)
    assert sum(int(line["rows"]) for line in table(tmp_path / "per_class.csv")) == 5


def test_predictions_come_in_the_order_of_the_rows_with_the_likeliest_classes_first(tmp_path):
    trainer_in(tmp_path, PredictionWriter(top_k=2)).predict(Oracle(), Answers(), return_predictions=False)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == [f"predict {row}" for row in range(5)]
    assert [line["label"] for line in lines] == ["red", "green", "blue, or so", "red", "blue, or so"]
    assert [line["probability"] for line in lines] == [0.9, 0.5, 0.7, 0.6, 0.95]
    assert lines[1]["top_k"] == [{"label": "green", "probability": 0.5}, {"label": "blue, or so", "probability": 0.3}]


def test_the_terminal_shows_only_the_first_rows_and_says_how_many_more_there_are(tmp_path, capsys):
    trainer_in(tmp_path, PredictionWriter(show=2)).predict(Oracle(), Answers(), return_predictions=False)
    printed = capsys.readouterr().out
    assert "predict 1" in printed
    assert "predict 2" not in printed
    assert "... and 3 more; 5 predictions in" in printed


def test_a_dry_run_writes_nothing(tmp_path):
    trainer_in(tmp_path, TestReport(), fast_dev_run=True).test(Oracle(), Answers(), verbose=False)
    writer = trainer_in(tmp_path, PredictionWriter(), fast_dev_run=True)
    writer.predict(Oracle(), Answers(), return_predictions=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_there_in_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "second \ud800")  # half a character cannot be written
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("option", ["top_k", "words", "show"])
def test_negative_counts_are_refused(option):
    with pytest.raises(ValueError, match=r"must not be negative, got .*-1"):
        PredictionWriter(**{option: -1})
