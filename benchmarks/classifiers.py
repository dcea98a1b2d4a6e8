"""Classifiers of sentences behind one interface: ours, and fastText, Vowpal Wabbit and LIBLINEAR."""

import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from benchmarks import measure

WORD = re.compile(r"(?u)\b\w+\b")


class TextClassifier(Protocol):
    """What is compared: it is trained, kept in files, and asked."""

    package: str  # to import

    def fit(self, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
        """Train on N sentences and their labels, and leave in `folder` what prediction needs."""

    def files(self, folder: Path) -> list[Path]:
        """What prediction needs."""

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each sentence."""


class FastText:
    """Joulin et al. 2017, https://aclanthology.org/E17-2068; `pip install fasttext-numpy2`.

    Each fit has a process of its own, whose start is a fifth of a second of it: fastText trains on from what it finds
    in memory, so that a second fit of a process begins with the weights of the first, or ends in "Encountered NaN".

    Args:
        options: of its `train_supervised`, beside those below.
    """

    package = "fasttext"

    def __init__(self, **options: Any) -> None:
        self.options = {"lr": 1.0, "dim": 50, "wordNgrams": 2, "minn": 2, "maxn": 4, "bucket": 50_000, "loss": "ova"}
        self.options |= options

    def fit(self, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
        import fasttext

        self.names, numbers = _numbered(labels)
        lines = (f"__label__{number} {_words(text)}\n" for number, text in zip(numbers, texts, strict=True))
        train = _write_shuffled(lines, folder, seed)
        options = {**self.options, "seed": seed, "thread": os.cpu_count(), "verbose": 0}
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            process.submit(_train_fasttext, train, options, str(folder / "model")).result()
        self.model = fasttext.load_model(str(folder / "model"))

    def files(self, folder: Path) -> list[Path]:
        return [folder / "model"]

    def predict(self, texts: Sequence[str]) -> list[str]:
        answers, _ = self.model.predict([_words(text) for text in texts])
        return [self.names[int(label.removeprefix("__label__"))] for [label] in answers]


class VowpalWabbit:
    """https://vowpalwabbit.org; `pip install vowpalwabbit`.

    Args:
        options: of its command line, beside those below.
    """

    package = "vowpalwabbit"

    def __init__(self, options: str) -> None:
        self.options = options

    def fit(self, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
        from vowpalwabbit import Workspace

        self.names, numbers = _numbered(labels)
        lines = (f"{number + 1} |w {_words(text)}\n" for number, text in zip(numbers, texts, strict=True))
        train = _write_shuffled(lines, folder, seed)
        loss = f"--oaa {len(self.names)} --loss_function logistic --ngram w2 --holdout_off {self.options}"
        Workspace(f"-d {train} --cache_file {folder}/cache -k -f {folder}/model {loss} --quiet").finish()
        self.model = Workspace(f"-i {folder}/model -t --quiet")

    def files(self, folder: Path) -> list[Path]:
        return [folder / "model"]

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [self.names[self.model.predict(f"|w {_words(text)}") - 1] for text in texts]


class Liblinear:
    """Fan et al. 2008, https://www.jmlr.org/papers/v9/fan08a.html; `pip install liblinear-official`.

    Args:
        options: of its command line.
        ngrams: options of scikit-learn's TfidfVectorizer, beside those below.
    """

    package = "liblinear"

    def __init__(self, options: str, **ngrams: Any) -> None:
        self.options = options
        self.ngrams = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": WORD.pattern} | ngrams

    def fit(self, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
        import joblib
        import numpy as np
        from liblinear.liblinearutil import save_model, train
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(**self.ngrams)
        X = self.vectorizer.fit_transform(texts)
        self.names, numbers = _numbered(labels)
        order = np.random.default_rng(seed).permutation(len(numbers))
        self.model = train(np.array(numbers)[order], X[order], f"{self.options} -B 1 -q")
        save_model(str(folder / "model"), self.model)
        joblib.dump(self.vectorizer, folder / "vectorizer")

    def files(self, folder: Path) -> list[Path]:
        return [folder / "model", folder / "vectorizer"]

    def predict(self, texts: Sequence[str]) -> list[str]:
        from liblinear.liblinearutil import predict

        numbers, _, _ = predict([], self.vectorizer.transform(texts), self.model, "-q")
        return [self.names[int(number)] for number in numbers]


class Ours:
    """`train.py fit` in this process, with a configuration whose datamodule reads the sentences itself.

    Args:
        config: name of a file in configs/.
    """

    package = "deploy"

    def __init__(self, config: str) -> None:
        self.config = measure.ROOT / f"configs/{config}.yaml"

    def fit(self, texts: Sequence[str], labels: Sequence[str], folder: Path, seed: int) -> None:
        from benchmarks.fits import cli_fit
        from deploy.classifier import Classifier

        start = time.perf_counter()
        seeded = ("--seed_everything", str(seed), "--trainer.default_root_dir", str(folder / "run"))
        timer = cli_fit(*seeded, config=self.config)
        self.curve = [(timer.started - start + seconds, accuracy) for seconds, accuracy in timer.curve]
        [best] = self.files(folder)
        self.model = Classifier.load(best, threshold="none")  # the others have no threshold either

    def seconds_to(self, target: float) -> float:
        """From the start to the end of the first validation with this in-scope accuracy."""
        return next((seconds for seconds, accuracy in self.curve if accuracy >= target), math.inf)

    def files(self, folder: Path) -> list[Path]:
        return [folder / "run/checkpoints/best.ckpt"]

    def predict(self, texts: Sequence[str]) -> list[str]:
        return self.model.predict(texts)


def installed(makers: Mapping[str, Callable[[], TextClassifier]]) -> dict[str, Callable[[], TextClassifier]]:
    """Those whose package is there; a line names the others."""
    missing = [name for name, make in makers.items() if find_spec(make().package) is None]
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}; pip install -e '.[bench]'")
    return {name: make for name, make in makers.items() if name not in missing}


def _train_fasttext(train: str, options: dict[str, Any], file: str) -> None:
    import fasttext

    fasttext.train_supervised(train, **options).save_model(file)


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def _numbered(labels: Sequence[str]) -> tuple[list[str], list[int]]:
    """The K different labels, and the number of each of the N."""
    names = sorted(set(labels))
    number = {name: k for k, name in enumerate(names)}
    return names, [number[label] for label in labels]


def _write_shuffled(lines: Iterable[str], folder: Path, seed: int) -> str:
    """The path of a file with these lines, which sorted by class would mislead stochastic gradients."""
    shuffled = list(lines)
    random.Random(seed).shuffle(shuffled)
    path = folder / "train.txt"
    path.write_text("".join(shuffled), encoding="utf-8")
    return str(path)
