"""Large files: from a CSV of 100,000 or 1,000,000 made-up sentences to a model on disk, seconds and peak memory.

Sentences of 5 to 19 words, 77 labels, fixed seed. A word is one of 30,000 by Zipf's law, or, one in four, one of the 30
words of the sentence's label. Each fit is a process of its own, from its start to its end, imports included. Ours is
`python train.py fit` with configs/text_csv.yaml as it ships, which validates on the 10,000 sentences that the others
are asked about at their end. Ours and LIBLINEAR keep the 100,000 most frequent words and pairs of words, the
others hash them.

Takes minutes, so that it is run only by its name: python -m benchmarks --only large_files. A million sentences are
measured in every fifth round.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure
from benchmarks.classifiers import FastText, Liblinear, TextClassifier, VowpalWabbit, installed

QUESTION = "Large files: from a CSV of made-up sentences to a model, the whole process"
SIZES = {100_000: 1, 1_000_000: 5}  # sentences, and in which of the rounds they are measured: every one, every fifth
HELD_OUT = 10_000
OURS = "ours"
OPTIONS = {"trainer.accelerator": "cpu"}
PEERS: dict[str, Callable[[], TextClassifier]] = {
    "fastText": partial(FastText, lr=0.5, epoch=5, minn=0, maxn=0, bucket=200_000),
    "Vowpal Wabbit": partial(VowpalWabbit, "-b 24 -l 4 --passes 2"),
    "LIBLINEAR, SVM": partial(Liblinear, "-s 4 -c 1 -e 1", min_df=2, max_features=100_000),
}


class Cost(NamedTuple):
    """Seconds and peak memory in bytes of a process, and the accuracy of its model on the sentences held out."""

    seconds: float
    memory: float
    accuracy: float


def write_sentences(path: Path, number: int, seed: int) -> None:
    """A CSV with the columns text and label."""
    import numpy as np

    random, num_words, num_labels, own_words = np.random.default_rng(seed), 30_000, 77, 30
    topics = np.random.default_rng(0).integers(num_words, size=(num_labels, own_words))  # whatever the seed
    zipf, own_zipf = (np.cumsum(1 / np.arange(1, size + 1)) for size in (num_words, own_words))
    label, ends = random.integers(num_labels, size=number), random.integers(5, 20, size=number).cumsum()
    common = zipf.searchsorted(random.uniform(0, zipf[-1], ends[-1]))
    own = own_zipf.searchsorted(random.uniform(0, own_zipf[-1], ends[-1]))
    label_of_word = np.repeat(label, np.diff(ends, prepend=0))
    words = [f"w{n}" for n in np.where(random.random(ends[-1]) < 0.25, topics[label_of_word, own], common).tolist()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer, start = csv.writer(file), 0
        writer.writerow(["text", "label"])
        for end, name in zip(ends.tolist(), label.tolist(), strict=True):
            writer.writerow([" ".join(words[start:end]), f"label {name}"])
            start = end


def read_sentences(path: Path) -> tuple[list[str], list[str]]:
    """The texts and the labels of such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        texts, labels = zip(*list(csv.reader(file))[1:], strict=True)
    return list(texts), list(labels)


def fit_peer(name: str, data: Path, folder: Path) -> None:
    """What the process of a peer does; leaves its accuracy in a file."""
    classifier = PEERS[name]()
    classifier.fit(*read_sentences(data / "train.csv"), folder, seed=0)
    texts, labels = read_sentences(data / "val.csv")
    right = [answer == label for answer, label in zip(classifier.predict(texts), labels, strict=True)]
    (folder / "metrics.csv").write_text(f"val/accuracy\n{sum(right) / len(right)}\n", encoding="utf-8")


def measure_cost(name: str, data: Path) -> Cost:
    """Fit in a new process.

    Raises:
        RuntimeError: it failed; with the end of what it wrote to standard error.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = ["-m", "benchmarks.large_files", "--fit", name, str(data), str(folder)]
        if name == OURS:
            files = {"data.train_file": "train.csv", "data.val_file": "val.csv", "data.test_file": "val.csv"}
            options = OPTIONS | {option: str(data / file) for option, file in files.items()}
            options["trainer.default_root_dir"] = str(folder)
            named = [word for option, value in options.items() for word in (f"--{option}", value)]
            command = ["train.py", "fit", "--config", "configs/text_csv.yaml", *named]
        errors = data / "errors.txt"
        start = time.perf_counter()
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=measure.ROOT, stdout=subprocess.DEVNULL, stderr=file
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode, seconds = os.waitstatus_to_exitcode(status), time.perf_counter() - start
        if process.returncode:
            raise RuntimeError(f"{name} ended in {process.returncode}: {errors.read_text(encoding='utf-8')[-2000:]}")
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as table:
            accuracies = [float(row["val/accuracy"]) for row in csv.DictReader(table) if row["val/accuracy"]]
    return Cost(seconds, measure.peak_memory(usage), accuracies[-1])


def main() -> None:
    """Measure, print, write."""
    parser = measure.argument_parser(__doc__)
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)  # a process that is measured
    arguments = parser.parse_args()
    if arguments.fit:
        name, data, folder = arguments.fit
        return fit_peer(name, Path(data), Path(folder))

    names = [OURS, *installed(PEERS)]
    costs: dict[tuple[int, str], list[Cost]] = {(size, name): [] for size in SIZES for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        # In a process of its own: the peak memory of this one would count as that of each that it starts.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            for size in SIZES:
                data = Path(temporary) / str(size)
                data.mkdir()
                for file, number, seed in (("train.csv", size, 1), ("val.csv", HELD_OUT, 2)):
                    process.submit(write_sentences, data / file, number, seed).result()
        for number in range(arguments.rounds):
            for size, every in SIZES.items():
                for name in names if number % every == 0 else []:
                    costs[size, name].append(measure_cost(name, Path(temporary) / str(size)))

    measurements, goals = [], []
    for (size, name), measured in costs.items():
        what, accuracy = f"{size:,} sentences: {name}", statistics.median(cost.accuracy for cost in measured)
        note = f"accuracy {accuracy:.4f}" + (", one run" if len(measured) == 1 else "")
        measurements.append(measure.summarize(what, "s", [cost.seconds for cost in measured], note))
        measurements.append(measure.summarize(f"{what}, memory", "MB", [cost.memory / 1e6 for cost in measured]))
    for size in SIZES if len(names) > 1 else []:
        for kind, value in {"seconds": 0, "memory": 1}.items():
            best = [
                min(of_round) for of_round in zip(*([c[value] for c in costs[size, n]] for n in names[1:]), strict=True)
            ]
            ratio = measure.ratio([cost[value] for cost in costs[size, OURS]], best)
            goals.append(measure.Goal(f"{size:,} sentences, {kind}: ours / the best peer", ratio, at_most=1.0))
    measure.publish("large_files", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
