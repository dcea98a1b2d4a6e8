"""Predictions in Parquet files: every row once with all its columns, in files of bounded size, whole or not at all."""

from types import SimpleNamespace

import pytest
import torch

from callbacks.reports import prediction_shards
from callbacks.reports.prediction_shards import PredictionShards
from callbacks.rows import ClassifiedBatch

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


class Data:
    class_names = ("red", "green", "blue")

    def input_table(self, indices):
        return pa.table({"id": [f"n{index}" for index in indices], "label": ["mine"] * len(indices)})


def trainer(rank=0):
    strategy = SimpleNamespace(barrier=lambda: None)
    return SimpleNamespace(strategy=strategy, is_global_zero=rank == 0, global_rank=rank)


def batch(indices):
    proba = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])[indices % 2]
    label = torch.where(indices == 4, 2, proba.argmax(dim=1))  # as a threshold would have it
    return ClassifiedBatch(indices, None, label, proba.gather(1, label.unsqueeze(1)).squeeze(1), proba)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(prediction_shards, "ROWS_OF_GROUP", 30)
    monkeypatch.setattr(prediction_shards, "ROWS_OF_FILE", 60)


def write(folder, number, ranks=1):
    """By the first process last, which gives the folder its name."""
    shards = [PredictionShards(folder, Data(), trainer(rank)) for rank in range(ranks)]
    for indices in torch.arange(number).split(16):
        for rank, each in enumerate(shards):
            each.write(batch(indices[rank::ranks]))
    for each in reversed(shards):
        each.finish(None)


@pytest.mark.parametrize(("ranks", "files"), [(1, 4), (2, 4)])
def test_all_rows_are_there_with_their_columns_in_files_of_bounded_size(tmp_path, capsys, ranks, files):
    folder = tmp_path / "predictions"
    for number in (300, 201):  # the second replaces the first
        write(folder, number, ranks)
    assert f"201 predictions in {files} files, {folder}/*.parquet" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["predictions"]
    assert max(parquet.read_metadata(file).num_rows for file in folder.iterdir()) <= 64
    rows = sorted(parquet.read_table(folder).to_pylist(), key=lambda row: row["row"])
    assert [row["id"] for row in rows] == [f"n{number}" for number in range(201)]
    names = ["id", "label", "row", "predicted_label", "probability", "second_label", "second_probability"]
    assert list(rows[0]) == names
    assert list(rows[1].values()) == ["n1", "mine", 1, "green", pytest.approx(0.6), "blue", pytest.approx(0.3)]
    assert list(rows[4].values())[3:] == ["blue", pytest.approx(0.3), "red", pytest.approx(0.5)]


def test_after_an_error_or_without_probabilities_an_earlier_folder_stays(tmp_path, capsys):
    folder = tmp_path / "predictions"
    write(folder, 20)
    for end in (PredictionShards.abandon, lambda shards: shards.finish("got a tensor of (4, 2)")):
        shards = PredictionShards(folder, Data(), trainer())
        shards.write(batch(torch.arange(40)))
        end(shards)
        assert [path.name for path in tmp_path.iterdir()] == ["predictions"]
        assert len(parquet.read_table(folder)) == 20
    assert "`predict` leaves out its predictions: got a tensor of (4, 2)" in capsys.readouterr().out
