"""--model.calibrate: T is fitted on validation, kept in the checkpoint, used by test and predict, and resumed."""

import json

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax, softmax
from sklearn.metrics import log_loss

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


@pytest.mark.slow
def test_the_trios_temperature_is_that_of_its_validation_rows_and_its_metrics_are_scikit_learns(run):
    checkpoint, metrics, plain, plain_metrics = run(*IRIS)
    iris = pytest.importorskip("datamodules.table.iris")
    data = ready(iris.IrisDataModule(features=["petal length", "petal width"], seed=0))
    state = checkpoint["state_dict"]
    weights, biases = (
        [state[f"classifiers.{k}.linear.{name}"].double().numpy() for k in range(3)] for name in ("weight", "bias")
    )
    W, b = np.concatenate(weights), np.concatenate(biases)

    def log_proba(split):
        x, target = data.points(split)
        logits = data.transform(x).double().numpy() @ W.T + b
        return log_softmax(log_expit(logits), axis=1), target.numpy()

    temperature = float(state["calibration._extra_state"])
    assert temperature == pytest.approx(by_search(*log_proba("val")), rel=1e-3)
    assert temperature != 1
    scores, target = log_proba("test")
    assert metrics["test/nll"] == pytest.approx(log_loss(target, np.exp(scores)), abs=1e-4)
    expected = log_loss(target, softmax(scores / temperature, axis=1))
    assert metrics["test_calibrated/nll"] == pytest.approx(expected, abs=1e-4)
    assert metrics["test_calibrated/temperature"] == pytest.approx(temperature)
    assert metrics["test_calibrated/nll"] < metrics["test/nll"]

    assert float(plain["state_dict"]["calibration._extra_state"]) == 1
    assert {k: v for k, v in metrics.items() if "calibrated" not in k} == plain_metrics  # accuracy among them


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
