"""The best state of a fit: chosen by the loss on the data, and tested at the end with --test true."""

import csv
import json

import pytest
import torch
import yaml
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from tests.conftest import refused

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", 2, "--seed_everything", 1)
IRIS = ("--config", "configs/iris_ova.yaml", *QUIET, "--trainer.callbacks", "null")


class Untestable(BoringModel):
    test_step = None


class NoTestRows(BoringDataModule):
    test_dataloader = BoringDataModule.__mro__[1].test_dataloader


def test_the_best_epoch_has_the_lowest_loss_on_the_data_and_not_the_lowest_objective(cli, tmp_path):
    config = ("--config", "configs/iris_binary.yaml", *QUIET[:2], "--trainer.callbacks", "null", "--model.l2", 0.02)
    cli("fit", *config, "--trainer.max_epochs", 6, "--trainer.default_root_dir", tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as rows:
        epochs = [row for row in csv.DictReader(rows) if row["val/loss"]]
    loss, objective = ([float(row[name]) for row in epochs] for name in ("val/loss", "val/objective"))
    best = 1 + loss.index(min(loss))
    assert best != 1 + objective.index(min(objective))  # whose penalty grows with W; else this data shows nothing
    state = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)["callbacks"]["RelocatableModelCheckpoint"]
    assert state["best_state"] == f"epoch {best}"
    assert float(state["best"]) == pytest.approx(min(loss), rel=1e-5)


def test_it_leaves_what_fit_and_then_test_leave(cli, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    cli("fit", *IRIS, "--test", "true", "--trainer.default_root_dir", one)
    cli("fit", *IRIS, "--trainer.default_root_dir", two)
    fitted = {path.relative_to(two) for path in two.rglob("*")}
    cli("test", *IRIS, "--trainer.default_root_dir", two, "--ckpt_path", "best")
    first, second = (json.loads((run / "test_metrics.json").read_text()) for run in (one, two))
    assert first == second
    assert first["test/accuracy"] > 0.5
    reports = [path.relative_to(two) for path in two.rglob("*.csv") if path.relative_to(two) not in fitted]
    assert reports
    for report in reports:
        assert (one / report).read_text() == (two / report).read_text()
    configs = [yaml.safe_load((run / "config.yaml").read_text()) for run in (one, two)]
    assert configs[0].keys() == configs[1].keys()
    with (one / "metrics.csv").open(newline="") as file:
        assert not [name for name in next(csv.reader(file)) if name.startswith("test")]


def test_of_a_refit_the_second_run_is_tested(cli, tmp_path):
    pytest.importorskip("datamodules.text")
    text = ("--config", "configs/text_csv.yaml", *QUIET, "--trainer.callbacks", "null")
    cli("fit", *text, "--test", "true", "--refit", "true", "--trainer.default_root_dir", tmp_path / "run")
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("test_metrics.json")]
    assert [str(path) for path in found] == ["run/version_0/test_metrics.json"]


def test_without_a_best_state_the_last_one_is_tested(cli, tmp_path):
    boring = "lightning.pytorch.demos.boring_classes.Boring"
    cli(
        *("fit", "--model", f"{boring}Model", "--data", f"{boring}DataModule", *QUIET, "--test", "true"),
        *("--trainer.limit_train_batches", 2, "--trainer.default_root_dir", tmp_path / "run"),
    )
    assert not (tmp_path / "run/checkpoints/best.ckpt").exists()
    assert json.loads((tmp_path / "run/test_metrics.json").read_text()) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trainer.fast_dev_run", "true"), "--test: a dry run"),
        (("--model", f"{__name__}.Untestable"), "--test needs a test_step, Untestable has none"),
        (("--data", f"{__name__}.NoTestRows"), "--test needs a test_dataloader, NoTestRows has none"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_the_fit(cli, tmp_path, options, message):
    boring = "lightning.pytorch.demos.boring_classes.Boring"
    place = ("--trainer.default_root_dir", tmp_path / "run")
    own = ("--model", f"{boring}Model", "--data", f"{boring}DataModule", *QUIET, *place, *options)
    line = refused(cli, "fit", "--test", "true", *own)
    assert message in line
    assert not (tmp_path / "run").exists()
