"""--refit true: after the fit, a second run on training and validation rows, with what the first one has chosen."""

import csv
import json
import re
from statistics import fmean

import numpy as np
import pytest
import torch
import yaml
from scipy.optimize import minimize_scalar

QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false")
TEXT = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", *QUIET)
TABLE = ("--config", "configs/table_csv.yaml", *QUIET)


@pytest.fixture(scope="module")
def runs(cli, tmp_path_factory):
    """The directories of the first and the second run."""
    first = tmp_path_factory.mktemp("refit") / "run"
    options = ("--model.calibrate", "true", "--trainer.max_epochs", 6, "--trainer.log_every_n_steps", 1)
    hasty = ("--model.lr", 100, "--data.batch_size", 8)  # best before its end
    cli("fit", *TEXT, "--refit", "true", *options, *hasty, "--trainer.default_root_dir", first)
    return first, first / "version_0"


def checkpoint(run, name="best"):
    return torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)


def options(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def curve(run, name):
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_the_second_run_trains_on_training_and_validation_rows(runs):
    before, after = (json.loads((run / "data_report.json").read_text()) for run in runs)
    assert after["train"]["rows"] == before["train"]["rows"] + before["val"]["rows"]
    assert after["val"]["rows"] == 0
    assert after["test"] == before["test"]
    assert sum(checkpoint(runs[1])["TextDataModule"]["class_counts"]) == after["train"]["rows"]


def test_it_has_the_epochs_threshold_and_temperature_of_the_first_ones_best_state(runs):
    first, second = map(checkpoint, runs)
    assert second["epoch"] == first["epoch"]
    for name in ("decision._extra_state", "calibration._extra_state"):
        assert second["state_dict"][name] == pytest.approx(first["state_dict"][name])
        assert first["state_dict"][name] != 1
    assert options(runs[1])["trainer"]["max_epochs"] == first["epoch"] + 1


def test_its_rates_come_down_to_0_after_as_long_a_way_as_the_first_ones_to_its_best_state(runs):
    before, after = (curve(run, "lr") for run in runs)
    until_best = len(before) // options(runs[0])["trainer"]["max_epochs"] * (checkpoint(runs[0])["epoch"] + 1)
    assert until_best < len(before)  # else there is nothing to shorten
    assert fmean(after) == pytest.approx(fmean(before[:until_best]), rel=0.05)
    assert after[-1] < 0.1 * max(after)


def test_its_best_state_is_its_last(runs):
    best, last = (checkpoint(runs[1], name)["state_dict"] for name in ("best", "last"))
    assert all(torch.equal(best[name], last[name]) for name in best)
    assert "refit" not in options(runs[0]) | options(runs[1])


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
def test_it_is_used_with_the_first_configuration(cli, runs, tmp_path, command):
    place = ("--ckpt_path", runs[1] / "checkpoints/best.ckpt", "--trainer.default_root_dir", tmp_path / "out")
    cli(command, *TEXT, *place)
    if command == "test":
        found = json.loads((tmp_path / "out/test_metrics.json").read_text())
        chosen = float(checkpoint(runs[0])["state_dict"]["decision._extra_state"])
        assert found["test_at_threshold/threshold"] == pytest.approx(chosen)


def test_it_is_resumed_with_its_own_configuration_and_with_no_other(cli, runs):
    own = re.escape(str(runs[1] / "config.yaml"))
    with pytest.raises(SystemExit, match=rf"of a fit on all rows .* give its own options, --config {own};"):
        cli("fit", *TEXT, "--ckpt_path", runs[1] / "checkpoints/last.ckpt")
    before = checkpoint(runs[1])["global_step"]
    cli("fit", "--config", runs[1] / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", 8)
    assert checkpoint(runs[1])["global_step"] > before


def test_a_callback_that_watches_the_validation_takes_part_in_the_first_fit_alone(cli, tmp_path):
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    idle = {"class_path": "lightning.pytorch.callbacks.LambdaCallback"}
    watch = {"class_path": stopping, "init_args": {"monitor": "val/loss", "patience": 1, "mode": "max"}}
    callbacks = ("--trainer.callbacks", json.dumps([watch, idle]), "--trainer.max_epochs", 6)
    cli("fit", *TEXT, *callbacks, "--refit", "true", "--trainer.default_root_dir", tmp_path / "run")
    for run, names in (("run", ["EarlyStopping", "LambdaCallback"]), ("run/version_0", ["LambdaCallback"])):
        callbacks = options(tmp_path / run)["trainer"]["callbacks"]
        assert [spec["class_path"].rpartition(".")[2] for spec in callbacks] == names


def test_folds_choose_epochs_temperature_and_threshold_by_rows_that_their_fits_have_not_seen(cli, tmp_path, capsys):
    pytest.importorskip("selection.sample")
    pytest.importorskip("logreg.decision")
    from datamodules.splits import stratified_folds
    from logreg.decision import best_threshold, max_in_scope_proba
    from selection.configured import Configured
    from selection.sample import Sample

    run = tmp_path / "run"
    few = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other")
    few += ("--model.lr_scheduler", "null", "--model.lr", "40")
    cli("fit", *few, *QUIET, "--trainer.max_epochs", 4, "--refit", "folds", "--trainer.default_root_dir", run)
    shown = capsys.readouterr().out
    # With a constant rate the state after n epochs is that of a fit of n epochs.
    log_proba = []
    for epochs in range(1, 5):
        sample = Sample(Configured([*few, "--trainer.max_epochs", str(epochs)]), "train", "val")
        folds = [sample.judge(seen, rows) for seen, rows in stratified_folds(sample.names, 5, seed=42)]
        log_proba.append(torch.cat([torch.from_numpy(fold.proba) for fold in folds]).log())
    target = torch.cat([torch.from_numpy(sample.target[fold.rows]) for fold in folds])
    loss = [float(torch.nn.functional.nll_loss(found, target)) for found in log_proba]
    best = loss.index(min(loss))
    assert sorted(target.tolist()) == sorted(sample.target.tolist())
    state, chosen = checkpoint(run / "version_0"), options(run / "version_0")
    assert state["epoch"] == best
    assert chosen["trainer"]["max_epochs"] == best + 1
    temperature, threshold = (chosen["model"]["init_args"][name] for name in ("calibrate", "threshold"))

    def with_prior(t):
        nll = torch.nn.functional.cross_entropy(log_proba[best] / t, target, reduction="sum")
        return float(nll) + 1 / t + np.log(t)

    assert temperature == pytest.approx(minimize_scalar(with_prior, bounds=(0.01, 10), method="bounded").x, rel=1e-3)
    scores = max_in_scope_proba((log_proba[best] / temperature).softmax(dim=1), 3)
    assert threshold == pytest.approx(best_threshold(*scores, target, 3), abs=1e-5)
    for name, value in (("calibration", temperature), ("decision", threshold)):
        assert float(state["state_dict"][f"{name}._extra_state"]) == pytest.approx(value)
    chosen = f"{best + 1} epochs, calibrate {temperature:.4g}, threshold {threshold:.4g}"
    assert f"now again on training and validation rows: {chosen}" in shown


@pytest.mark.parametrize(
    "given",
    [
        ("--model.threshold", "0.4", "--model.calibrate", "1.5"),
        pytest.param(("--data.oos_label", "null"), marks=pytest.mark.slow),
    ],
)
def test_folds_choose_nothing_that_is_given(cli, tmp_path, given):
    pytest.importorskip("selection.sample")
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 2)
    cli("fit", *TEXT, *place, "--refit", "folds", *given)
    found = options(tmp_path / "run/version_0")["model"]["init_args"]
    if "--model.threshold" in given:
        assert (found["threshold"], found["calibrate"]) == (0.4, 1.5)
    else:
        assert found["threshold"] == "auto"
        assert found["calibrate"] > 0
        assert found["calibrate"] is not True


def test_folds_without_the_folder_that_they_need_are_refused_before_the_first_fit(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("cli.capabilities.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="--refit folds needs cross-validation, which this project lacks"):
        cli("fit", *TEXT, "--refit", "folds", "--trainer.default_root_dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_table_is_standardised_by_all_of_its_rows(cli, tmp_path):
    pytest.importorskip("logreg.softmax", reason="deleted with its tasks, as is the config of tables")
    run = tmp_path / "run"
    cli("fit", *TABLE, "--refit", "true", "--trainer.max_epochs", 3, "--trainer.default_root_dir", run)
    first, second = (checkpoint(folder)["TableDataModule"] for folder in (run, run / "version_0"))
    held_out = json.loads((run / "data_report.json").read_text())["val"]["rows"]
    assert sum(second["class_counts"]) == sum(first["class_counts"]) + held_out
    assert not torch.equal(first["mean"], second["mean"])
    cli("test", *TABLE, "--ckpt_path", "best", "--trainer.default_root_dir", run)


def test_data_that_cannot_join_its_rows_is_refused_before_the_first_fit(cli, tmp_path):
    pytest.importorskip("datamodules.table.xor")
    with pytest.raises(SystemExit, match="needs data with an option refit, XORDataModule has none"):
        cli("fit", "--config", "configs/xor.yaml", "--refit", "true", "--trainer.default_root_dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()
