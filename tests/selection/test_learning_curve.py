"""More rows, better predictions: which rows the fits of the learning curve have, and what is written of them."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from selection import learning_curve
from tests.selection.helpers import read_csv


def test_every_beginning_of_the_drawn_rows_is_stratified_and_holds_each_label_however_rare():
    target = np.array([0] * 298 + [1, 2])
    for seed in range(3):
        order = learning_curve.drawn(target, seed)
        assert sorted(order) == list(range(300))
        assert Counter(target[order[:30]]) == {0: 28, 1: 1, 2: 1}
    assert learning_curve.drawn(target, 0).tolist() != learning_curve.drawn(target, 1).tolist()
    balanced = np.arange(90) % 3
    for size in (9, 18, 36, 63):
        assert set(Counter(balanced[learning_curve.drawn(balanced, 0)[:size]]).values()) == {size // 3}


def test_shares_of_fewer_rows_than_labels_are_left_out_and_said(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datamodules.text.sentences")
    monkeypatch.setattr(learning_curve, "DRAWS", 1)
    words = ("when", "where", "why", "how", "who")
    lines = [f"{word} topic{n},intent {n}" for n in range(40) for word in words]
    files = {"train": lines, "val": lines[::5], "test": lines[1::5]}
    options = ["--data.oos_label", "null", "--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    for split, rows in files.items():
        (tmp_path / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
        options += [f"--data.{split}_file", str(tmp_path / f"{split}.csv")]
    learning_curve.main(["--config", "configs/text_csv.yaml", *options])
    assert "left out: 10 % of 200 training rows, which are fewer than the 40 labels\n" in capsys.readouterr().out
    assert [line["rows"] for line in read_csv(tmp_path / "learning_curve.csv")] == ["40", "80", "140", "200"]


def test_the_command_writes_every_fit_and_a_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("datamodules.table.iris")
    monkeypatch.setattr(learning_curve, "SHARES", (0.2, 1.0))
    monkeypatch.setattr(learning_curve, "DRAWS", 2)
    place = ("--trainer.max_epochs", "20", "--trainer.default_root_dir", str(tmp_path))
    learning_curve.main(["--config", "configs/iris_ova.yaml", *place])
    lines = read_csv(tmp_path / "learning_curve.csv")
    assert [(line["rows"], line["draw"]) for line in lines] == [("18", "0"), ("18", "1"), ("90", "0"), ("90", "1")]
    assert all(0.6 < float(line["test_accuracy"]) <= 1 for line in lines)
    mean = np.mean([float(line["test_accuracy"]) for line in lines[2:]])
    assert f"{mean:.3f} with 90 rows" in capsys.readouterr().out
    pytest.importorskip("callbacks.figures.canvas")
    with Image.open(tmp_path / "learning_curve.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
