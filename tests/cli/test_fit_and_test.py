"""fit --test true: the best state is tested at the end, as the command test does."""

import csv
import json

import pytest
import yaml
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from tests.conftest import refused

QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", 2, "--seed_everything", 1)
IRIS = ("--config", "configs/iris_ova.yaml", *QUIET, "--trainer.callbacks", "null")


class Untestable(BoringModel):
    test_step = None


class NoTestRows(BoringDataModule):
    test_dataloader = BoringDataModule.__mro__[1].test_dataloader


def of_this_file(name):
    return f"{__name__}.{name}"


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
    assert (
        yaml.safe_load((one / "config.yaml").read_text()).keys()
        == yaml.safe_load((two / "config.yaml").read_text()).keys()
    )
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
        (("--model", of_this_file("Untestable")), "--test needs a test_step, Untestable has none"),
        (("--data", of_this_file("NoTestRows")), "--test needs a test_dataloader, NoTestRows has none"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_the_fit(cli, tmp_path, options, message):
    boring = "lightning.pytorch.demos.boring_classes.Boring"
    place = ("--trainer.default_root_dir", tmp_path / "run")
    own = ("--model", f"{boring}Model", "--data", f"{boring}DataModule", *QUIET, *place, *options)
    line = refused(cli, "fit", "--test", "true", *own)
    assert message in line
    assert not (tmp_path / "run").exists()
