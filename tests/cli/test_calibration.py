"""--model.calibrate: T is fitted on validation, kept in the checkpoint, used by test and predict, and resumed."""

import json

import pytest
import torch
from scipy.special import log_softmax, softmax

from tests.logreg.test_calibration import by_search
from tests.tools.ready import ready

QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
IRIS = ("--config", "configs/iris_ova.yaml", *QUIET)
TEXT = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", *QUIET)
TEXT += ("--data.words", "{ngram_range: [1, 2]}", "--trainer.max_epochs", 5)


@pytest.fixture
def run(cli, tmp_path):
    """Fits and tests with and without calibration; returns the checkpoints and test metrics of both."""

    def both(*config):
        found = []
        for calibrate in ("true", "false"):
            folder = tmp_path / calibrate
            cli("fit", *config, "--model.calibrate", calibrate, "--trainer.default_root_dir", folder)
            cli("test", *config, "--ckpt_path", folder / "checkpoints/last.ckpt")
            metrics = json.loads((folder / "test_metrics.json").read_text())
            found += [torch.load(folder / "checkpoints/last.ckpt", weights_only=True), metrics]
        return found

    return both


def test_the_out_of_scope_threshold_is_chosen_after_the_temperature(run):
    pytest.importorskip("datamodules.text.sentences")
    from datamodules import TextDataModule
    from logreg import SoftmaxRegression
    from logreg.decision import best_threshold, max_in_scope_proba

    checkpoint, metrics, _, plain_metrics = run(*TEXT)
    shares = {"val_fraction": 0.2, "test_fraction": 0.2}
    data = ready(TextDataModule("tests/data/sentences.csv", seed=42, oos_label="other", **shares))
    model = SoftmaxRegression(data.num_features, data.num_classes, oos_class=data.oos_class)
    model.load_state_dict(checkpoint["state_dict"])
    temperature, threshold = (float(checkpoint["state_dict"][f"{n}._extra_state"]) for n in ("calibration", "decision"))
    rows = next(iter(data.val_dataloader()))
    with torch.no_grad():
        logits = model(rows.x).double()
    assert temperature == pytest.approx(by_search(log_softmax(logits.numpy(), axis=1), rows.target.numpy()), rel=1e-3)
    proba = torch.from_numpy(softmax(logits.numpy() / temperature, axis=1))
    expected = best_threshold(*max_in_scope_proba(proba, data.oos_class), rows.target, data.oos_class)
    assert threshold == pytest.approx(expected, abs=1e-4)
    assert temperature != 1
    for name in ("test/accuracy", "test/in_scope_accuracy", "test/oos_recall", "test/loss", "test/ece"):
        assert metrics[name] == plain_metrics[name]
