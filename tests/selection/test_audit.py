"""Labels that were flipped on purpose are found, and the ranking is the documented one."""

import os
import random

import numpy as np
import pytest

from selection import audit
from tests.selection.helpers import read_csv


def test_suspects_are_the_rows_with_another_answer_those_first_whose_label_is_least_likely_beside_it():
    proba = np.array([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.0, 0.45, 0.55], [0.05, 0.05, 0.9], [0.1, 0.8, 0.1]])
    target = np.array([0, 0, 1, 0, 1])
    order, suggested, confident = audit.suspects(proba, target)
    assert (order.tolist(), suggested.tolist()) == ([3, 1, 2], [2, 1, 2])
    # Rows of class 1 have it with 0.45 and 0.8, 0.625 on average: 0.6 is below. No row is of class 2.
    assert confident.tolist() == [False, False, False]
    assert audit.suspects(proba, np.array([0, 0, 2, 0, 1]))[2].tolist() == [True, False]  # 0.9 > 0.55; 0.6 < 0.8


def test_flipped_flowers_are_found_and_said_where(tmp_path, capsys, monkeypatch):
    iris = pytest.importorskip("datamodules.table.iris")
    load_splits = iris.IrisDataModule.load_splits

    def flipped(data):
        splits = load_splits(data)
        setosa = (splits["train"][1] == 0).nonzero()[:3, 0]
        splits["train"][1][setosa] = 2
        return splits

    monkeypatch.setattr(iris.IrisDataModule, "load_splits", flipped)
    place = ("--trainer.max_epochs", "20", "--trainer.default_root_dir", str(tmp_path))
    audit.main(["--config", "configs/iris_ova.yaml", "--folds", "3", *place])
    found = read_csv(tmp_path / "suspect_labels.csv")
    assert [(row["label"], row["suggested"]) for row in found[:3]] == [("virginica", "setosa")] * 3
    assert all(float(row["p_label"]) < float(row["p_suggested"]) for row in found)
    assert f"{len(found)} of 120 labels are doubtful" in capsys.readouterr().out


def test_data_without_splits_of_its_own_is_refused():
    pytest.importorskip("logreg.softmax")
    with pytest.raises(ValueError, match="expected data with a method load_splits, LightningDataModule has none"):
        audit.main(["--model", "logreg.SoftmaxRegression", "--data", "lightning.LightningDataModule"])


@pytest.mark.slow
@pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="CLINC150_DIR names no copy of the data")
def test_of_30_flipped_labels_of_clinc150_at_least_27_are_among_the_100_most_suspect(tmp_path, monkeypatch):
    from datamodules import CLINC150DataModule

    load_splits = CLINC150DataModule.load_splits
    rows = set()

    def flipped(data):
        splits, chance = load_splits(data), random.Random(0)
        labels = splits["train"][1]
        for row in chance.sample(range(len(labels)), 30):
            rows.add(str(row))
            labels[row] = chance.choice(sorted(set(labels) - {labels[row]}))
        return splits

    monkeypatch.setattr(CLINC150DataModule, "load_splits", flipped)
    audit.main(["--config", "configs/clinc150.yaml", "--trainer.default_root_dir", str(tmp_path)])
    first = read_csv(tmp_path / "suspect_labels.csv")[:100]
    assert len(rows & {row["row"] for row in first if row["split"] == "train"}) >= 27
