"""Temperature and out-of-scope threshold: chosen in fit, kept in the checkpoint, beaten by an option, and said."""

import json

import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.logreg.test_calibration import by_search
from tests.tools.ready import ready

pytest.importorskip("datamodules.text.sentences", reason="deleted with its task")
QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
TEXT = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", *QUIET)
TEXT += ("--data.words", "{ngram_range: [1, 2]}", "--trainer.max_epochs", 5)


def fit(cli, run, calibrate):
    cli("fit", *TEXT, "--model.calibrate", calibrate, "--trainer.default_root_dir", run)
    return run / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def checkpoint(cli, tmp_path_factory):
    return fit(cli, tmp_path_factory.mktemp("fit") / "run", "true")


def metrics(cli, checkpoint, folder, *options):
    cli("test", *TEXT, "--ckpt_path", checkpoint, "--trainer.default_root_dir", folder, *options)
    return json.loads((folder / "test_metrics.json").read_text())


def test_the_threshold_is_chosen_after_the_temperature(cli, checkpoint, tmp_path):
    from datamodules import TextDataModule
    from logreg import SoftmaxRegression
    from logreg.decision import best_threshold, max_in_scope_proba

    state, shares = torch.load(checkpoint, weights_only=True)["state_dict"], {"val_fraction": 0.2, "test_fraction": 0.2}
    data = ready(TextDataModule("tests/data/sentences.csv", seed=42, oos_label="other", **shares))
    model = SoftmaxRegression(data.num_features, data.num_classes, oos_class=data.oos_class)
    model.load_state_dict(state)
    temperature, threshold = (float(state[f"{name}._extra_state"]) for name in ("calibration", "decision"))
    rows = next(iter(data.val_dataloader()))
    with torch.no_grad():
        logits = model(rows.x).double()
    assert temperature == pytest.approx(by_search(log_softmax(logits.numpy(), axis=1), rows.target.numpy()), rel=1e-3)
    proba = torch.from_numpy(softmax(logits.numpy() / temperature, axis=1))
    expected = best_threshold(*max_in_scope_proba(proba, data.oos_class), rows.target, data.oos_class)
    assert threshold == pytest.approx(expected, abs=1e-4)
    assert temperature != 1

    found = metrics(cli, checkpoint, tmp_path / "calibrated")
    plain = metrics(cli, fit(cli, tmp_path / "plain", "false"), tmp_path / "plain")
    for name in ("test/accuracy", "test/in_scope_accuracy", "test/oos_recall", "test/loss", "test/ece"):
        assert found[name] == plain[name]


def test_the_threshold_of_the_checkpoint_is_used_and_said(cli, capsys, checkpoint, tmp_path):
    stored = float(torch.load(checkpoint, weights_only=True)["state_dict"]["decision._extra_state"])
    found = metrics(cli, checkpoint, tmp_path)
    assert found["test_at_threshold/threshold"] == pytest.approx(stored)
    assert f"test rows right with the threshold {stored:.4g}" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0])
def test_a_number_beats_the_checkpoint(cli, checkpoint, tmp_path, threshold):
    found = metrics(cli, checkpoint, tmp_path, "--model.threshold", threshold)
    assert found["test_at_threshold/threshold"] == threshold
    assert (found["test_at_threshold/oos_recall"] == 1.0) == (threshold == 1.0) or threshold == 0.25
    assert threshold != 0.0 or found["test_at_threshold/oos_recall"] == 0.0


def test_none_beats_the_checkpoint(cli, capsys, checkpoint, tmp_path):
    found = metrics(cli, checkpoint, tmp_path, "--model.threshold", "none")
    assert not [name for name in found if "threshold" in name]
    assert "with the threshold" not in capsys.readouterr().out


@pytest.mark.parametrize("threshold", ["1.5", "-0.1", "often"])
def test_what_is_no_threshold_is_refused(cli, checkpoint, tmp_path, threshold):
    with pytest.raises(SystemExit, match=r"^error: [^\n]*threshold[^\n]*$"):
        metrics(cli, checkpoint, tmp_path, "--model.threshold", threshold)
