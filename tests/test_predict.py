"""From a CSV file to answers: `test` and `predict` on the command line, with nothing but the checkpoint."""

import contextlib
import csv
import io
import json
import math
import re
import shutil
import sys

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
from tests.tools.runs import ROOT, contents, metrics, read_csv, records

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

    def ask(*options):
        place = ["--ckpt_path", trained.best, "--trainer.default_root_dir", tmp_path / "out"]
        cli("predict", "--config", trained.run / "config.yaml", *place, *options)
        return records(tmp_path / "out")

    return ask


# --- test -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out():
    """Texts and labels of the test split that configs/text_csv.yaml makes."""
    data = ready(TextDataModule(str(SENTENCES), oos_label="other", val_fraction=0.2, test_fraction=0.2, seed=42))
    texts = [row["text"] for row in data.describe(range(len(data.dataset("test"))), "test")]
    return texts, data.dataset("test").target.numpy()


def test_test_writes_its_metrics_by_their_names(trained, held_out):
    texts, target = held_out
    figures = metrics(trained.run)
    assert {
        *("test/loss", "test/accuracy", "test/macro_f1", "test/in_scope_accuracy", "test/oos_recall"),
        *("test_at_threshold/in_scope_accuracy", "test_at_threshold/oos_recall"),
    } <= set(figures)
    assert all(type(value) is float and math.isfinite(value) for value in figures.values())
    said, inside = trained.proba(texts).argmax(axis=1), target != 3
    assert figures["test/accuracy"] == pytest.approx(np.mean(said == target), abs=1e-6)
    assert figures["test/in_scope_accuracy"] == pytest.approx(np.mean((said == target)[inside]), abs=1e-6)
    assert figures["test/oos_recall"] == pytest.approx(np.mean((said == target)[~inside]), abs=1e-6)
    right = trained.answers(texts) == target
    assert figures["test_at_threshold/in_scope_accuracy"] == pytest.approx(np.mean(right[inside]), abs=1e-6)
    assert figures["test_at_threshold/oos_recall"] == pytest.approx(np.mean(right[~inside]), abs=1e-6)


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


FILES = {
    "q.txt": "\n".join(QUESTIONS),
    "q.csv": "\ufeffid,text\n" + "\n".join('{},"{}"'.format(n, q.replace('"', '""')) for n, q in enumerate(QUESTIONS)),
    "q.jsonl": "\n".join(json.dumps({"text": question}) for question in QUESTIONS),
    "-": "\r\n".join(QUESTIONS),  # standard input
}


@pytest.mark.parametrize("name", [None, *FILES])
def test_predictions_are_scikit_learns_vectors_times_the_weights_by_hand(trained, predict, tmp_path, monkeypatch, name):
    if name is None:
        found = predict("--data.predict_inputs", json.dumps(QUESTIONS, ensure_ascii=False))
    else:
        (tmp_path / name).write_bytes(FILES[name].encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FILES[name].encode()), encoding="utf-8"))
        found = predict("--data.predict_file", name if name == "-" else tmp_path / name)
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


# --- one line, nothing harmed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data.predict_inputs", "will it snow"], r"predict_inputs.*will it snow"),
        (["--data.predict_inputs", '{"a": "b"}'], r"predict_inputs"),
        (["--data.predict_inputs", "[1, 2]"], r"predict_inputs"),
        (["--data.predict_inputs", '["open'], r"predict_inputs"),
        (["--data.predict_inputs", '["half \\ud83d"]'], r"predict_inputs"),
        (["--data.predict_file", "missing.csv"], r"missing\.csv"),
        (["--data.predict_inputs", '["snow"]', "--data.predict_file", "-"], r"inputs or predict_file, got both"),
        ([], r"sentences\.csv"),  # neither: the test rows, whose file is gone
        (["--data.predict_file", "LICENSE"], r"LICENSE: expected a file that ends in"),
    ],
)
def test_bad_input_to_predict_is_one_line_and_harms_nothing(trained, predict, tmp_path, options, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text("earlier predictions")
    before = contents(trained.run), contents(tmp_path)
    assert re.search(message, refused(predict, *options))
    assert (contents(trained.run), contents(tmp_path)) == before
