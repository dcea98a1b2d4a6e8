"""The out-of-scope threshold: chosen in fit, kept in the checkpoint, beaten by an option, and always said."""

import json

import pytest
import torch

pytest.importorskip("datamodules.text.sentences", reason="deleted with its task")
QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
TEXT = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", *QUIET)


@pytest.fixture(scope="module")
def checkpoint(cli, tmp_path_factory):
    run = tmp_path_factory.mktemp("fit") / "run"
    cli("fit", *TEXT, "--trainer.max_epochs", 5, "--trainer.default_root_dir", run)
    return run / "checkpoints/best.ckpt"


def metrics(cli, checkpoint, folder, *options):
    cli("test", *TEXT, "--ckpt_path", checkpoint, "--trainer.default_root_dir", folder, *options)
    return json.loads((folder / "test_metrics.json").read_text())


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
