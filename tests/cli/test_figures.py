"""Pictures on the command line: there after `fit` and `test`, beside the run, and gone with one flag."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.figures import evaluation, plots
from tests.tools.runs import read_csv

pytest.importorskip("datamodules.text.sentences", reason="deleted with its task")
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.logger", "false")
TEXT = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", *QUIET, "--figures.enabled", "true")
TEXT += ("--data.words", "{ngram_range: [1, 2]}", "--data.batch_size", 128, "--data.feature_dropout", 0.3)
PICTURES = {"confusion", "top_features"}  # of fewer than 100 rows
VAL_PICTURES = {f"val_{name}" for name in PICTURES}


def test_a_test_of_sentences_leaves_pictures_and_tables_and_one_flag_leaves_them_out(cli, tmp_path, capsys):
    run, off = tmp_path / "run", tmp_path / "off"
    cli("fit", *TEXT, "--trainer.max_epochs", 3, "--trainer.default_root_dir", run)
    of_fit = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert of_fit.keys() == {f"{name}.png" for name in VAL_PICTURES}
    cli("test", *TEXT, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert {path.stem for path in (run / "figures").iterdir()} == PICTURES | VAL_PICTURES
    assert of_fit == {name: (run / "figures" / name).read_bytes() for name in of_fit}
    assert f"{len(PICTURES)} pictures in {run / 'figures'}" in capsys.readouterr().out
    wrong = Counter((row["target"], row["predicted"]) for row in read_csv(run / "errors.csv"))
    assert {(r["target"], r["predicted"]): int(r["rows"]) for r in read_csv(run / "confusions.csv")} == wrong
    top = Counter(row["label"] for row in read_csv(run / "top_features.csv"))
    assert top == dict.fromkeys(("alarm", "music", "other", "weather"), 20)

    where = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.default_root_dir", off)
    cli("test", *TEXT, *where, "--figures.enabled", "false")
    assert {path.name for path in off.iterdir()} == {"test_metrics.json", "per_class.csv", "errors.csv"}


@pytest.fixture
def drawn(monkeypatch):
    """The rows of each set of pictures."""
    seen, draw = [], plots.pictures

    def look_and_draw(rows, *rest):
        seen.append(rows)
        return draw(rows, *rest)

    monkeypatch.setattr(evaluation, "pictures", look_and_draw)
    return seen


def validation_rows(run):
    """Probabilities, answers and true classes of the validation rows, by best.ckpt, from Python."""
    from deploy.classifier import Classifier

    classifier = Classifier.load(run / "checkpoints/best.ckpt")
    classifier.data.setup("fit")
    texts, labels = classifier.data.splits["val"]
    names = classifier.class_names
    answers = [names.index(label) for label in classifier.predict(texts)]
    return classifier, classifier.predict_proba(texts), answers, [names.index(label) for label in labels]


def test_a_fit_ends_with_pictures_of_the_validation_rows_as_its_best_state_answers_them(cli, tmp_path, drawn, capsys):
    run, board = tmp_path / "run", ("--trainer.logger", "true", "--model.calibrate", "true")
    # At this rate an early epoch is the best.
    options = (*TEXT, *board, "--trainer.max_epochs", 8, "--model.lr", 3000, "--trainer.default_root_dir", run)
    cli("fit", *options)
    best, last = (torch.load(run / f"checkpoints/{n}.ckpt", weights_only=True)["state_dict"] for n in ("best", "last"))
    assert not torch.equal(best["W.weight"], last["W.weight"])
    classifier, proba, answers, target = validation_rows(run)
    [rows] = drawn
    np.testing.assert_allclose(rows.proba, proba, atol=1e-6)
    assert rows.target.tolist() == target
    assert rows.predicted.tolist() == answers
    assert rows.threshold == float(best["decision._extra_state"]) == classifier.model.threshold
    assert rows.temperature == float(best["calibration._extra_state"]) != 1
    W, _ = classifier.coefficients
    torch.testing.assert_close(rows.scores, (W - W.mean(dim=1, keepdim=True)) / rows.temperature)
    number = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["epoch"] + 1
    assert rows.caption == f"{len(target)} validation rows, answered by best.ckpt of epoch {number}"
    curves = [row for row in read_csv(run / "metrics.csv") if row["val/loss"]]
    logged = curves[number - 1]
    assert float(logged["val_at_threshold/threshold"]) == pytest.approx(rows.threshold)
    out = np.array(target) == len(classifier.class_names) - 1
    matrix = confusion_matrix(rows.target, rows.predicted, labels=range(4))
    assert float(logged["val_at_threshold/oos_recall"]) == pytest.approx(matrix[3, 3] / matrix[3].sum())
    assert float(logged["val/oos_auroc"]) == pytest.approx(roc_auc_score(out, 1 - rows.proba[:, :3].max(axis=1)))

    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == VAL_PICTURES | {"loss"}
    for name in VAL_PICTURES | {"loss"}:
        (event,) = events.Images(name)
        with Image.open(run / "figures" / f"{name}.png") as image:
            assert (event.width, event.height) == image.size
            assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pictures: ")]
    assert line == f"pictures: loss.png, val_confusion.png in {run / 'figures'}"

    # A run killed while it drew: a resume, which has nothing to train, draws the same.
    before = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    shutil.rmtree(run / "figures")
    cli("fit", *options, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == before


def test_only_the_rows_that_a_validation_takes_are_drawn(cli, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr("datamodules.batches.BatchedDataModule.eval_batch_size", 5)
    short = (*TEXT, "--data.batch_size", 5, "--trainer.max_epochs", 1, "--trainer.default_root_dir")
    cli("fit", *short, tmp_path / "part", "--trainer.limit_val_batches", 2)
    [rows] = drawn
    assert len(rows.target) == 10
    without = ("--trainer.limit_val_batches", 0, "--checkpoint.monitor", "train/loss", "--model.threshold", "none")
    without += ("--trainer.callbacks", "null")  # EarlyStopping watches the validation
    cli("fit", *short, tmp_path / "none", *without)
    assert (tmp_path / "none/checkpoints/best.ckpt").is_file()
    assert len(drawn) == 1
    assert not (tmp_path / "none/figures").exists()


def test_a_class_that_the_data_has_not_is_refused_in_one_line(cli, short_fit, tmp_path):
    checkpoint = short_fit("text_csv", "--data.oos_label", "other") / "checkpoints/last.ckpt"
    where = ("--ckpt_path", checkpoint, "--trainer.default_root_dir", tmp_path)
    with pytest.raises(SystemExit) as exit:
        cli("test", *TEXT, *where, "--figures.classes", "[weather, finance]")
    assert exit.value.code == "error: figures.classes: expected names of classes, got ['finance']"
