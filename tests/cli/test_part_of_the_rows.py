"""Evaluations of a part of the rows say so, and leave out what they know nothing of; of none they are refused."""

import json

import pytest

from tests.conftest import refused

pytest.importorskip("datamodules.text.sentences", reason="deleted with its task")
ROWS = [("will it rain", "weather"), ("will it snow", "weather"), ("play some jazz", "music"), ("sing to me", "music")]
QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false")


@pytest.fixture(scope="module")
def evaluate(cli, tmp_path_factory):
    """`evaluate(command, ...)` in one run, whose test rows are two batches: 4,096 in scope, and one out of scope."""
    folder = tmp_path_factory.mktemp("part")
    files = []
    for split, times in {"train": 4, "val": 1, "test": 1024}.items():
        lines = [f"{text},{label}\n" for text, label in (*ROWS * times, ("hm", "other"))]
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(lines))
        files += [f"--data.{split}_file", folder / f"{split}.csv"]
    files += ["--data.oos_label", "other"]
    run = ("--config", "configs/text_csv.yaml", *files, *QUIET, "--trainer.default_root_dir", folder / "run")
    cli("fit", *run, "--trainer.max_epochs", 1)

    def command(name, *options):
        cli(name, *run, "--ckpt_path", folder / "run/checkpoints/last.ckpt", *options)

    command.folder = folder / "run"
    return command


def metrics(evaluate):
    return json.loads((evaluate.folder / "test_metrics.json").read_text())


def test_a_test_of_a_part_of_the_rows_says_so_and_one_of_all_does_not(evaluate, capsys):
    part = "1 of 2 batches (trainer.limit_test_batches)"
    for limit in (1, 0.5):
        evaluate("test", "--trainer.limit_test_batches", limit)
        assert f"of a part of the rows: {part}" in capsys.readouterr().out.splitlines()
        assert metrics(evaluate)["partial"] == part
    evaluate("test", "--trainer.limit_test_batches", 2)
    assert "of a part" not in capsys.readouterr().out
    assert "partial" not in metrics(evaluate)


def test_a_metric_of_no_rows_is_left_out(evaluate):
    evaluate("test", "--trainer.limit_test_batches", 1)
    found = metrics(evaluate)
    assert {name for name in found if "oos" in name} == set()
    assert "test_at_threshold/in_scope_accuracy" in found
    other = (evaluate.folder / "per_class.csv").read_text().splitlines()[3]
    assert other == "other,,,,0"
    evaluate("test")
    assert {"test/oos_recall", "test/oos_precision", "test_at_threshold/oos_recall"} <= set(metrics(evaluate))


@pytest.mark.parametrize(("command", "kind"), [("validate", "val"), ("predict", "predict")])
def test_the_screen_says_which_part(evaluate, capsys, command, kind):
    evaluate(command, f"--data.{kind}_file", evaluate.folder.parent / "test.csv", f"--trainer.limit_{kind}_batches", 1)
    assert f"of a part of the rows: 1 of 2 batches (trainer.limit_{kind}_batches)" in capsys.readouterr().out


LIMITS = {
    "none to validate": ("validate", 0, ": expected more than 0, got 0"),
    "none to test": ("test", 0.0, ": expected more than 0, got 0.0"),
    "none to predict": ("predict", 0, ": expected more than 0, got 0"),
    "less than a batch": ("fit", 0.5, "`limit_val_batches` argument. Try at least `limit_val_batches=1.0`"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_leaves_no_rows_is_refused_with_what_can_be_done(evaluate, tmp_path, name):
    command, limit, message = LIMITS[name]
    option = f"trainer.limit_{'val' if command in ('validate', 'fit') else command}_batches"
    elsewhere = ("--trainer.default_root_dir", tmp_path / "run")
    line = refused(evaluate, command, f"--{option}", limit, *elsewhere)
    assert message in line and option.partition(".")[2] in line
    assert list(tmp_path.rglob("*.*")) == []
