"""Runs side by side: what differs, and what came of it."""

import csv
import json

import pytest
import yaml

from cli.compare import compare, main


@pytest.fixture
def runs(tmp_path):
    """Two runs that differ in one option; the second was not tested."""
    folders = [tmp_path / "clinc150" / f"version_{number}" for number in range(2)]
    for folder, lr in zip(folders, (0.1, 300), strict=True):
        folder.mkdir(parents=True)
        model = {"class_path": "logreg.softmax.SoftmaxRegression", "init_args": {"lr": lr, "l2": 0.5}}
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": 1, "model": model, "data": {}}))
        (folder / "metrics.csv").write_text(f"epoch,step,val/loss\n0,1,{lr + 2}\n1,2,\n1,3,{lr + 1}\n")
    (folders[0] / "test_metrics.json").write_text(json.dumps({"test/accuracy": 0.75, "test/ece": 0.125}))
    return folders


def test_a_line_has_what_differs_the_lowest_validation_loss_and_the_metrics_of_the_test(runs):
    assert compare(runs) == [
        {"run": str(runs[0]), "model.lr": 0.1, "val/loss": 1.1, "test/accuracy": 0.75, "test/ece": 0.125},
        {"run": str(runs[1]), "model.lr": 300, "val/loss": 301.0, "test/accuracy": "", "test/ece": ""},
    ]


def test_the_table_is_printed_and_all_of_it_written(runs, tmp_path, capsys):
    main([*map(str, runs), "--csv", str(tmp_path / "out.csv")])
    printed = capsys.readouterr().out
    assert "clinc150/version_1" in printed and "test/accuracy" in printed and "test/ece" not in printed
    with (tmp_path / "out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["test/ece"] for line in lines] == ["0.125", ""]
    assert [line["model.lr"] for line in lines] == ["0.1", "300"]


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected directories of runs, with a config\.yaml each; .* has none"):
        compare([tmp_path])
