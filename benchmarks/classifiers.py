"""Peers, the linear classifiers of text that people pick for speed: fastText, Vowpal Wabbit and LIBLINEAR.

Each is a pair of functions: `fit` leaves a model in a folder, `load` returns what gives probabilities. Packages are
imported where they are used; `pip install -e ".[bench]"` brings them.
"""

import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WORD = re.compile(r"(?u)\b\w+\b")
Probabilities = Callable[[Sequence[str]], np.ndarray]  # (N, K) of N texts; columns by the sorted names of the labels
Point = dict[str, Any]  # options of one fit, by name


class Peer(NamedTuple):
    """A peer and the package that it needs."""

    package: str
    fit: Callable[[Point, Sequence[str], Sequence[str], Path, int], None]  # of texts, labels, folder and seed
    load: Callable[[Path, int], Probabilities]  # of a folder and K


def numbered(labels: Sequence[str]) -> list[int]:
    """The number of each label among their sorted names."""
    number = {name: k for k, name in enumerate(sorted(set(labels)))}
    return [number[label] for label in labels]


def fit_fasttext(point: Point, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
    """Joulin et al. 2017, https://aclanthology.org/E17-2068; on all cores.

    In a process of its own, as fastText begins with what it finds in memory, and then often ends in "Encountered NaN".
    """
    lines = (f"__label__{k} {_words(text)}\n" for k, text in zip(numbered(labels), texts, strict=True))
    fixed = {"dim": 50, "bucket": 200_000, "thread": os.cpu_count(), "verbose": 0, "seed": seed}
    train = _write_shuffled(lines, folder, seed)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(_train_fasttext, train, fixed | point, str(folder / "model")).result()


def load_fasttext(folder: Path, num_classes: int) -> Probabilities:
    """Sigmoids of one-vs-all sum to 1 once they are divided by their sum."""
    import fasttext

    model = fasttext.load_model(str(folder / "model"))

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        names, values = model.predict([_words(text) for text in texts], k=num_classes)
        proba = np.zeros((len(texts), num_classes))
        for row, of_row, p in zip(proba, names, values, strict=True):
            row[[int(name.removeprefix("__label__")) for name in of_row]] = p
        return proba / proba.sum(1, keepdims=True)

    return probabilities


def fit_vowpal_wabbit(point: Point, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
    """https://vowpalwabbit.org: one-vs-all logistic regressions of hashed words, one core."""
    from vowpalwabbit import Workspace

    lines = (f"{k + 1} |w {_words(text)}\n" for k, text in zip(numbered(labels), texts, strict=True))
    train = _write_shuffled(lines, folder, seed)
    fixed = f"--oaa {len(set(labels))} --loss_function logistic --probabilities -b 24 --holdout_off --quiet"
    options = " ".join(f"--{name} {value}" for name, value in point.items())
    Workspace(f"-d {train} --cache_file {folder}/cache -k -f {folder}/model {fixed} {options}").finish()


def load_vowpal_wabbit(folder: Path, num_classes: int) -> Probabilities:
    """Probabilities of the K classifiers, divided by their sum."""
    from vowpalwabbit import Workspace

    model = Workspace(f"-i {folder}/model -t --quiet --probabilities")
    return lambda texts: np.array([model.predict(f"|w {_words(text)}") for text in texts])


def fit_liblinear(point: Point, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
    """Fan et al. 2008, https://www.jmlr.org/papers/v9/fan08a.html, on scikit-learn's TF-IDF; one core."""
    import joblib
    from liblinear.liblinearutil import save_model, train
    from sklearn.feature_extraction.text import TfidfVectorizer

    fixed = {"sublinear_tf": True, "token_pattern": WORD.pattern, "min_df": 2, "max_features": 100_000}
    vectorizer = TfidfVectorizer(**fixed, ngram_range=tuple(point["ngram_range"]))
    X, y = vectorizer.fit_transform(texts), np.array(numbered(labels))
    order = np.random.default_rng(seed).permutation(len(y))
    save_model(str(folder / "model"), train(y[order], X[order], f"-s {point['s']} -c {point['c']} -e 1 -B 1 -q"))
    joblib.dump(vectorizer, folder / "vectorizer")


def load_liblinear(folder: Path, num_classes: int) -> Probabilities:
    """Of an SVM, which has labels alone, 0 and 1."""
    import joblib
    from liblinear.liblinearutil import load_model, predict

    model, vectorizer = load_model(str(folder / "model")), joblib.load(folder / "vectorizer")
    if not model.is_probability_model():
        return lambda texts: np.eye(num_classes)[np.int64(predict([], vectorizer.transform(texts), model, "-q")[0])]
    columns = np.argsort(model.get_labels())
    return lambda texts: np.array(predict([], vectorizer.transform(texts), model, "-b 1 -q")[2])[:, columns]


PEERS = {
    "fastText": Peer("fasttext", fit_fasttext, load_fasttext),
    "Vowpal Wabbit": Peer("vowpalwabbit", fit_vowpal_wabbit, load_vowpal_wabbit),
    "LIBLINEAR": Peer("liblinear", fit_liblinear, load_liblinear),
}


def _train_fasttext(train: str, options: Point, file: str) -> None:
    import fasttext

    fasttext.train_supervised(train, **options).save_model(file)


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def _write_shuffled(lines: Iterable[str], folder: Path, seed: int) -> str:
    """The path of a file with these lines, which sorted by class would mislead stochastic gradients."""
    shuffled = list(lines)
    random.Random(seed).shuffle(shuffled)
    path = folder / "train.txt"
    path.write_text("".join(shuffled), encoding="utf-8")
    return str(path)
