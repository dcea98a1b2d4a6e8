"""More rows, better answers: the fits of the learning curve, against scikit-learn by hand."""

import csv
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cli import learning_curve
from cli.refit import Refit

TEXT = ("--config", "configs/text_csv.yaml", "--trainer.max_epochs", "10")


@pytest.fixture
def refit(monkeypatch, tmp_path):
    pytest.importorskip("datamodules.text.sentences")
    return Refit([*TEXT, "--trainer.default_root_dir", str(tmp_path)])


def test_shares_are_stratified_and_all_of_the_rows_is_all(refit):
    rows = refit.build()[1].load_splits()["train"]
    texts, labels = learning_curve.part(rows, 0.5, seed=0)
    assert set(texts) < set(rows[0]) and len(texts) == pytest.approx(len(rows[0]) / 2, abs=2)
    for label in set(rows[1]):
        assert labels.count(label) == pytest.approx(rows[1].count(label) / 2, abs=1)
    assert learning_curve.part(rows, 0.5, seed=0) == (texts, labels) != learning_curve.part(rows, 0.5, seed=1)
    assert learning_curve.part(rows, 1.0, seed=0) is rows


def test_a_share_holds_a_row_of_each_label_however_rare():
    rows = [f"text {n}" for n in range(300)], ["common"] * 298 + ["rare", "rarer"]
    for seed in range(5):
        texts, labels = learning_curve.part(rows, 0.1, seed)
        assert len(texts) == len(set(texts))
        assert Counter(labels) == {"common": 30, "rare": 1, "rarer": 1}
        assert all(rows[1][rows[0].index(text)] == label for text, label in zip(texts, labels, strict=True))


def test_shares_of_fewer_rows_than_labels_are_left_out_and_said(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datamodules.text.sentences")
    monkeypatch.setattr(learning_curve, "SEEDS", (0,))
    words = ("when", "where", "why", "how", "who")
    lines = [f"{word} topic{n},intent {n}" for n in range(40) for word in words]
    files = {"train": lines, "val": lines[::5], "test": lines[1::5]}
    options = ["--data.oos_label", "null", "--trainer.default_root_dir", str(tmp_path)]
    for split, rows in files.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
        options += [f"--data.{split}_file", str(tmp_path / f"{split}.csv")]
    learning_curve.main([*TEXT, *options, "--trainer.max_epochs", "1"])
    assert "left out: 10 % of the 200 training rows, which are fewer than the 40 labels\n" in capsys.readouterr().out
    with (tmp_path / "learning_curve.csv").open(newline="") as file:
        assert [line["rows"] for line in csv.DictReader(file) if line["model"] == "ours"] == ["40", "80", "160", "200"]


def test_scikit_learns_score_is_that_of_its_own_pipeline(refit):
    splits = refit.build()[1].load_splits()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    peer = LogisticRegression(max_iter=1000).fit(vectorizer.fit_transform(splits["train"][0]), splits["train"][1])
    expected = peer.score(vectorizer.transform(splits["test"][0]), splits["test"][1])
    assert learning_curve.scikit_learn(refit, splits) == pytest.approx(expected)


def test_the_command_writes_every_fit_and_a_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datamodules.table.iris")
    monkeypatch.setattr(learning_curve, "SHARES", (0.2, 1.0))
    monkeypatch.setattr(learning_curve, "SEEDS", (0, 1))
    place = ("--trainer.max_epochs", "3", "--trainer.default_root_dir", str(tmp_path))
    learning_curve.main(["--config", "configs/iris_ova.yaml", *place])
    with (tmp_path / "learning_curve.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["model"], line["rows"], line["seed"]) for line in lines] == [
        (who, rows, seed) for rows in ("18", "90") for seed in "01" for who in ("ours", "scikit-learn")
    ]
    assert all(0 <= float(line["test_accuracy"]) <= 1 for line in lines)
    mean = np.mean([float(line["test_accuracy"]) for line in lines if (line["model"], line["rows"]) == ("ours", "90")])
    assert f"{mean:.3f} with 90" in capsys.readouterr().out
    with Image.open(tmp_path / "learning_curve.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
