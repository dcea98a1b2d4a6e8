"""Pictures on the command line: there after `test`, beside the run, and gone with one flag."""

import csv
from collections import Counter

import pytest

pytest.importorskip("datamodules.text", reason="deleted with its task")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
TEXT = ("--config", "configs/text_csv.yaml", *QUIET, "--figures.enabled", "true")


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_test_of_sentences_leaves_pictures_and_tables_and_one_flag_leaves_them_out(cli, tmp_path, capsys):
    run, off = tmp_path / "run", tmp_path / "off"
    cli("fit", *TEXT, "--trainer.max_epochs", 3, "--trainer.default_root_dir", run)
    assert not (run / "figures").exists()
    cli("test", *TEXT, "--ckpt_path", run / "checkpoints/last.ckpt")
    pictures = {"confusion", "reliability", "risk_coverage", "threshold", "scores", "top_features"}
    assert {path.stem for path in (run / "figures").iterdir()} == pictures
    assert f"{len(pictures)} pictures in {run / 'figures'}" in capsys.readouterr().out
    wrong = Counter((row["target"], row["predicted"]) for row in read_csv(run / "errors.csv"))
    assert {(r["target"], r["predicted"]): int(r["rows"]) for r in read_csv(run / "confusions.csv")} == wrong
    top = Counter(row["label"] for row in read_csv(run / "top_features.csv"))
    assert top == dict.fromkeys(("alarm", "music", "other", "weather"), 20)

    where = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.default_root_dir", off)
    cli("test", *TEXT, *where, "--figures.enabled", "false")
    assert {path.name for path in off.iterdir()} == {"test_metrics.json", "per_class.csv", "errors.csv"}


def test_a_class_that_the_data_has_not_is_refused_in_one_line(cli, tmp_path):
    cli("fit", *TEXT, "--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path / "run")
    with pytest.raises(SystemExit) as exit:
        where = ("--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
        cli("test", *TEXT, *where, "--figures.classes", "[weather, finance]")
    assert exit.value.code == "error: figures.classes: expected names of classes, got ['finance']"
