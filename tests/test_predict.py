"""From a CSV file to answers: `test` and `predict` on the command line, with nothing but the checkpoint."""

import contextlib
import csv
import io
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import normalize

from datamodules import TextDataModule
from datamodules.text.features import Ngrams
from tests.conftest import refused
from tests.tools.ready import ready

ROOT = Path(__file__).parents[1]
SENTENCES = ROOT / "tests" / "data" / "sentences.csv"
CONFIG = ROOT / "configs" / "text_csv.yaml"
KEYS = ["text", "label", "probability", "top_k", "out_of_scope", "words_for", "words_against"]
QUESTIONS = [
    "will it snow on friday",
    "play the song, louder",
    "wake me up",
    "zzz qqq",
    'a "quoted", naïve\u2028line ☕',
]


class Trained:
    """A run, and all that its checkpoint says, read without any code of this project."""

    def __init__(self, run, printed):
        self.run, self.printed = run, printed
        self.best = run / "checkpoints" / "best.ckpt"
        checkpoint = torch.load(self.best, weights_only=True)
        data, state = checkpoint["TextDataModule"], checkpoint["state_dict"]
        words = data["vectorizers"]["words"]
        self.names, self.vocabulary = data["class_names"], json.loads(words["vocabulary"])
        self.idf = words["idf"].numpy()
        self.W = state["W.weight"].double().numpy() * float(state["W._extra_state"])
        self.b, self.threshold = state["b"].double().numpy(), float(state["decision._extra_state"])

    def vectors(self, texts):
        counts = CountVectorizer(ngram_range=(1, 2), vocabulary=self.vocabulary).transform(texts)
        return normalize(counts.multiply(self.idf).tocsr()).toarray()

    def proba(self, texts):
        logits = self.vectors(texts) @ self.W + self.b
        power = np.exp(logits - logits.max(axis=1, keepdims=True))
        return power / power.sum(axis=1, keepdims=True)

    def answers(self, texts):
        """Out of scope, the last class, where no other one reaches the threshold."""
        in_scope = self.proba(texts)[:, :-1]
        return np.where(in_scope.max(axis=1) < self.threshold, len(self.names) - 1, in_scope.argmax(axis=1))


@pytest.fixture(scope="module")
def trained(cli, tmp_path_factory):
    """A short fit and a test on a copy of the sentences, which is then taken away."""
    folder = tmp_path_factory.mktemp("predict")
    file, run = folder / "sentences.csv", folder / "run"
    shutil.copy(SENTENCES, file)
    short = ["--trainer.max_epochs", 2, "--trainer.log_every_n_steps", 1]
    # What is computed by hand below knows no temperature; and a fit at this rate makes an error to be reported.
    short += ["--model.calibrate", "false", "--model.lr", 40, "--model.bias_lr_factor", 0.025, "--data.batch_size", 32]
    short += ["--model.lr_scheduler.init_args.power", 1, "--data.feature_dropout", 0]
    data = ("--data.train_file", file, "--data.oos_label", "other", "--data.words", "{ngram_range: [1, 2]}")
    cli("fit", "--config", CONFIG, *data, "--trainer.default_root_dir", run, *short)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        cli("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints" / "best.ckpt")
    file.unlink()
    return Trained(run, printed.getvalue())


@pytest.fixture
def predict(trained, cli, tmp_path):
    """Predictions of the trained run, written to a folder of their own."""

    def ask(*options, checkpoint=trained.best):
        place = ["--ckpt_path", checkpoint, "--trainer.default_root_dir", tmp_path / "out"]
        cli("predict", "--config", trained.run / "config.yaml", *place, *options)
        return records(tmp_path / "out")

    return ask


def records(folder):
    """Not splitlines(): a text may hold any of Unicode's other separators."""
    text = (folder / "predictions.jsonl").read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- test -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out():
    """Texts and labels of the test split that configs/text_csv.yaml makes."""
    data = ready(TextDataModule(str(SENTENCES), oos_label="other", val_fraction=0.2, test_fraction=0.2, seed=42))
    texts = [row["text"] for row in data.describe(range(len(data.dataset("test"))), "test")]
    return texts, data.dataset("test").target.numpy()


def test_test_writes_its_metrics_by_their_names(trained, held_out):
    texts, target = held_out
    metrics = json.loads((trained.run / "test_metrics.json").read_text())
    assert {
        *("test/loss", "test/accuracy", "test/macro_f1", "test/in_scope_accuracy", "test/oos_recall"),
        *("test_at_threshold/in_scope_accuracy", "test_at_threshold/oos_recall"),
    } <= set(metrics)
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    said, inside = trained.proba(texts).argmax(axis=1), target != 3
    assert metrics["test/accuracy"] == pytest.approx(np.mean(said == target), abs=1e-6)
    assert metrics["test/in_scope_accuracy"] == pytest.approx(np.mean((said == target)[inside]), abs=1e-6)
    assert metrics["test/oos_recall"] == pytest.approx(np.mean((said == target)[~inside]), abs=1e-6)
    right = trained.answers(texts) == target
    assert metrics["test_at_threshold/in_scope_accuracy"] == pytest.approx(np.mean(right[inside]), abs=1e-6)
    assert metrics["test_at_threshold/oos_recall"] == pytest.approx(np.mean(right[~inside]), abs=1e-6)


def test_test_writes_the_figures_of_each_class(trained, held_out):
    texts, target = held_out
    found = read_csv(trained.run / "per_class.csv")
    assert [row["label"] for row in found] == ["alarm", "music", "weather", "other"]
    expected = precision_recall_fscore_support(target, trained.answers(texts), labels=range(4), zero_division=0)
    for name, figures in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
        assert [float(row[name]) for row in found] == pytest.approx(figures.tolist(), abs=1e-4)


def test_test_lists_its_errors_the_surest_first(trained, held_out):
    texts, target = held_out
    answers, proba = trained.answers(texts), trained.proba(texts)
    expected = {
        text: (trained.names[truth], trained.names[said], pytest.approx(p[said], abs=1e-4))
        for text, truth, said, p in zip(texts, target, answers, proba, strict=True)
        if truth != said
    }
    found = read_csv(trained.run / "errors.csv")
    assert found, "this short fit should make an error; make it shorter"
    assert list(found[0]) == ["text", "target", "predicted", "probability"]
    assert {row["text"]: (row["target"], row["predicted"], float(row["probability"])) for row in found} == expected
    probabilities = [float(row["probability"]) for row in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert f"{len(texts) - len(found)} of {len(texts)} test rows right" in trained.printed


def test_a_list_of_no_errors_has_the_same_columns(trained, cli, tmp_path, held_out):
    texts, _ = held_out
    with open(tmp_path / "easy.csv", "w", newline="", encoding="utf-8") as file:
        answers = [trained.names[answer] for answer in trained.answers(texts)]
        csv.writer(file).writerows([("text", "label"), *zip(texts, answers, strict=True)])
    files = ["--data.train_file", SENTENCES, "--data.test_file", tmp_path / "easy.csv"]
    place = ["--ckpt_path", trained.best, "--trainer.default_root_dir", tmp_path / "out"]
    cli("test", "--config", trained.run / "config.yaml", *place, *files)
    header = (tmp_path / "out" / "errors.csv").read_text().splitlines()
    assert header == ["text,target,predicted,probability"]


def test_the_checkpoint_holds_the_vocabulary_of_the_training_rows_alone(trained):
    words = Ngrams(ngram_range=(1, 2))
    data = ready(TextDataModule(str(SENTENCES), val_fraction=0.2, test_fraction=0.2, words=words, seed=42))
    assert trained.vocabulary == data.feature_names
    assert 0 <= trained.threshold <= 1


# --- predict --------------------------------------------------------------------------------------------------------


def as_texts(folder, monkeypatch):
    return ["--data.predict_inputs", json.dumps(QUESTIONS, ensure_ascii=False)]


def as_txt(folder, monkeypatch):
    (folder / "q.txt").write_bytes("\n".join(QUESTIONS).encode())
    return ["--data.predict_file", folder / "q.txt"]


def as_csv(folder, monkeypatch):
    with open(folder / "q.csv", "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(QUESTIONS)])
    return ["--data.predict_file", folder / "q.csv"]


def as_jsonl(folder, monkeypatch):
    (folder / "q.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in QUESTIONS))
    return ["--data.predict_file", folder / "q.jsonl"]


def as_standard_input(folder, monkeypatch):
    content = io.BytesIO("\r\n".join(QUESTIONS).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content, encoding="utf-8"))
    return ["--data.predict_file", "-"]


@pytest.mark.parametrize("way", [as_texts, as_txt, as_csv, as_jsonl, as_standard_input])
def test_predictions_are_scikit_learns_vectors_times_the_weights_by_hand(trained, predict, tmp_path, monkeypatch, way):
    found = predict(*way(tmp_path, monkeypatch))
    assert [list(record) for record in found] == [KEYS] * len(QUESTIONS)
    assert [record["text"] for record in found] == QUESTIONS
    rows = zip(found, trained.proba(QUESTIONS), trained.answers(QUESTIONS), trained.vectors(QUESTIONS), strict=True)
    for record, proba, answer, vector in rows:
        assert record["label"] == trained.names[answer]
        assert record["out_of_scope"] is bool(answer == 3)
        assert record["probability"] == pytest.approx(proba[answer], abs=2e-6)
        order = np.argsort(-proba)
        assert [top["label"] for top in record["top_k"]] == [trained.names[i] for i in order]
        assert [top["probability"] for top in record["top_k"]] == pytest.approx(proba[order].tolist(), abs=2e-6)
        spoke = vector * (trained.W[:, answer] - trained.W.mean(axis=1))
        most = np.sort(spoke[np.round(spoke, 3) > 0])[::-1][:3]
        least = np.sort(spoke[np.round(spoke, 3) < 0])[:3]
        assert [amount for _, amount in record["words_for"]] == pytest.approx(most.tolist(), abs=6e-4)
        assert [amount for _, amount in record["words_against"]] == pytest.approx(least.tolist(), abs=6e-4)
        for word, amount in record["words_for"] + record["words_against"]:
            assert spoke[trained.vocabulary.index(word)] == pytest.approx(amount, abs=6e-4)


def test_unknown_words_alone_are_out_of_scope_and_nothing_spoke_for_it(trained, predict):
    (found,) = predict("--data.predict_inputs", '["zzz qqq"]')
    assert (found["words_for"], found["words_against"]) == ([], [])
    expected = trained.proba(["zzz qqq"])[0][trained.names.index(found["label"])]
    assert found["probability"] == pytest.approx(expected, abs=2e-6)


def test_the_terminal_shows_the_first_rows_and_says_where_all_are(predict, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "q.txt").write_text("\n".join(f"snow number{n:02}" for n in range(25)))
    found = predict("--data.predict_file", tmp_path / "q.txt")
    printed = capsys.readouterr().out
    assert f"5 more; 25 predictions in {tmp_path / 'out' / 'predictions.jsonl'}" in printed
    for record in found[:20]:
        assert re.search(rf"^ {record['text']}   {record['label']} ", printed, re.MULTILINE)
    assert found[20]["text"] not in printed


def test_texts_that_look_like_markup_or_formulas_are_kept_as_they_are(predict):
    texts = ["[bold]snow[/bold] [/red]", "=cmd|' /C calc'!A0", "{curly} %s \\n", "<b>song</b>", "two\nlines", "🎵"]
    found = predict("--data.predict_inputs", json.dumps(texts, ensure_ascii=False))
    assert [record["text"] for record in found] == texts


def test_more_texts_than_a_batch_holds_come_back_in_their_order(trained, predict, tmp_path):
    texts = [f"{n} {QUESTIONS[n % 3]}" for n in range(1_500)]
    (tmp_path / "q.txt").write_text("\n".join(texts))
    found = predict("--data.predict_file", tmp_path / "q.txt")
    assert [record["text"] for record in found] == texts
    assert [record["label"] for record in found] == [trained.names[answer] for answer in trained.answers(texts)]


# --- one line, nothing harmed ---------------------------------------------------------------------------------------


def bad_file(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return ["--data.predict_file", folder / name]

    return make


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data.predict_inputs", "will it snow"], r"predict_inputs.*will it snow"),
        (["--data.predict_inputs", '{"a": "b"}'], r"predict_inputs"),
        (["--data.predict_inputs", "[1, 2]"], r"predict_inputs"),
        (["--data.predict_inputs", '["open'], r"predict_inputs"),
        (["--data.predict_inputs", "[]"], r"predict_inputs: expected at least one text"),
        (["--data.predict_inputs", '["snow", " "]'], r"predict_inputs: expected no empty text"),
        (["--data.predict_inputs", '["half \\ud83d"]'], r"predict_inputs"),
        (["--data.predict_file", "missing.csv"], r"missing\.csv"),
        (["--data.predict_inputs", '["snow"]', "--data.predict_file", "-"], r"inputs or predict_file, got both"),
        ([], r"sentences\.csv"),  # neither: the test rows, whose file is gone
        (bad_file("q.csv", b"sentence\nsnow\n"), r"q\.csv line 1: expected a column 'text'"),
    ],
    ids=lambda value: None if isinstance(value, str) or callable(value) else " ".join(value) or "nothing to predict",
)
def test_bad_input_to_predict_is_one_line_and_harms_nothing(trained, predict, tmp_path, options, message):
    arguments = options(tmp_path) if callable(options) else options
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text("earlier predictions")
    before = snapshot(trained.run), snapshot(tmp_path)
    said = refused(predict, *arguments)
    with pytest.raises(ValueError, match=message):
        raise ValueError(said)
    assert (snapshot(trained.run), snapshot(tmp_path)) == before


def test_a_checkpoint_without_data_is_refused_in_one_line(trained, predict, tmp_path):
    checkpoint = torch.load(trained.best, weights_only=True)
    del checkpoint["TextDataModule"]
    torch.save(checkpoint, tmp_path / "damaged.ckpt")
    before = snapshot(tmp_path)
    said = refused(lambda: predict("--data.predict_inputs", '["snow"]', checkpoint=tmp_path / "damaged.ckpt"))
    assert "checkpoint" in said
    assert snapshot(tmp_path) == before


TEXTS = b"text,label\n" + b"snow today,weather\nrain soon,weather\nplay song,music\nplay tune,music\n" * 9


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"text,label\ncaf\xe9,drinks\n", [], r"train\.csv: expected UTF-8"),
        (TEXTS, ["--data.test_file", SENTENCES], r"label '.*' is in the test rows but not in"),
        (TEXTS, ["--data.words", "{min_df: 0.9}"], r"data\.words: .*no terms remain"),
        (TEXTS, ["--model.threshold", "validation"], r"threshold .* data\.oos_label"),
    ],
    ids=["Latin-1", "label only in test", "empty vocabulary", "threshold without oos label"],
)
def test_bad_input_to_fit_is_one_line_and_no_run_is_left_behind(cli, tmp_path, content, options, message):
    file, run = tmp_path / "train.csv", tmp_path / "run"
    file.write_bytes(content)
    arguments = ["--data.train_file", file, "--data.oos_label", "null", "--trainer.default_root_dir", run, *options]
    said = refused(cli, "fit", "--config", CONFIG, *arguments)
    with pytest.raises(ValueError, match=message):
        raise ValueError(said)
    assert snapshot(tmp_path) == {file: content} and not run.exists()


def test_softmax_regression_on_flowers_fits_tests_and_predicts_with_the_words_for_each_label(cli, capsys, tmp_path):
    arguments = ("--model", "logreg.SoftmaxRegression", "--data", "datamodules.IrisDataModule")
    arguments += ("--trainer.default_root_dir", tmp_path, "--seed_everything", 42)
    cli("fit", *arguments, "--trainer.max_epochs", 2, "--trainer.log_every_n_steps", 1)
    for command in ("test", "predict"):
        cli(command, *arguments, "--ckpt_path", "last")
    assert "leaves out" not in capsys.readouterr().out
    assert "test/accuracy" in json.loads((tmp_path / "test_metrics.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 30
    features = {"sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"}
    for line in lines:
        named = [name for name, _ in line["words_for"] + line["words_against"]]
        assert set(named) <= features and len(named) >= 3
