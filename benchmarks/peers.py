"""Peers: the linear classifiers of text that people pick for speed, from the same sentences of CLINC150.

  ours           python train.py fit on a terminal, from the command line's first option to the run's end: reading,
                 vectorizing, validating and checkpoints included, pictures left out; with configs/clinc150.yaml and
                 clinc150_best.yaml
  fastText       words, pairs of words and pieces of 2 to 4 characters, hashed; one-vs-all loss
  Vowpal Wabbit  words and pairs of words, hashed; one-vs-all logistic regressions
  LIBLINEAR      scikit-learn's TfidfVectorizer, words and pairs of words; logistic regressions by dual coordinate
                 descent, and the SVM of Crammer and Singer, which gives no probabilities

Theirs start from lists of sentences and labels, and write the file that fastText and Vowpal Wabbit read. Their options
are those of a short search with the fastest fit near the best validation accuracy. Seconds to 0.90 end with the first
validation of ours with that in-scope accuracy, and with the whole fit of theirs that has it. Accuracy is that of the
test's in-scope rows, prediction is of all test sentences, size is that of all that prediction needs. fastText trains on
all cores, the others on one. Each round has another seed.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks import measure
from benchmarks.classifiers import FastText, Liblinear, Ours, TextClassifier, VowpalWabbit, installed

QUESTION = "Peers on CLINC150, from raw text: seconds to fit, accuracy, prediction, size"
TARGET = 0.90  # in-scope accuracy on validation
OURS: dict[str, Callable[[], TextClassifier]] = {
    "ours, clinc150": partial(Ours, "clinc150"),
    "ours, clinc150_best": partial(Ours, "clinc150_best"),
}
PEERS: dict[str, Callable[[], TextClassifier]] = {
    "fastText": partial(FastText, epoch=15),
    "Vowpal Wabbit": partial(VowpalWabbit, "-b 22 -l 4 --passes 3"),
    "LIBLINEAR, logistic": partial(Liblinear, "-s 7 -c 30 -e 1"),
    "LIBLINEAR, SVM": partial(Liblinear, "-s 4 -c 1 -e 1"),
}


class Fit(NamedTuple):
    """What is measured of one fit."""

    seconds: float
    to_target: float  # seconds
    accuracy: float
    speed: float  # sentences per second
    size: float  # bytes


KINDS: tuple[tuple[str, str, bool, Callable[[Fit], float]], ...] = (  # name, unit, whether less is better, value
    ("fit", "s", True, lambda of_fit: of_fit.seconds),
    (f"fit to {TARGET:.2f}", "s", True, lambda of_fit: of_fit.to_target),
    ("test accuracy", "%", False, lambda of_fit: 100 * of_fit.accuracy),
    ("prediction", "texts/s", False, lambda of_fit: of_fit.speed),
    ("size", "MB", True, lambda of_fit: of_fit.size / 1e6),
)


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    from benchmarks import fits, loops

    splits = loops.clinc150().load_splits()
    makers = OURS | installed(PEERS)

    def fit(make: Callable[[], TextClassifier], seed: int) -> Fit:
        classifier = make()
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure.seconds(lambda: classifier.fit(*splits["train"], Path(folder), seed))
            size = sum(path.stat().st_size for path in classifier.files(Path(folder)))
            answers: list[str] = []
            predicting = measure.seconds(lambda: answers.extend(classifier.predict(splits["test"][0])))
            accuracy, validated = (
                in_scope_accuracy(answered, splits[split][1])
                for split, answered in (("test", answers), ("val", classifier.predict(splits["val"][0])))
            )
        to_target = seconds if validated >= TARGET else math.inf
        if isinstance(classifier, Ours):
            to_target = classifier.seconds_to(TARGET)
        return Fit(seconds, to_target, accuracy, len(answers) / predicting, size)

    fits.cli_fit("--trainer.max_epochs", "1")  # imports what all need
    for make in makers.values():
        import_module(make().package)
    measured: dict[str, list[Fit]] = {name: [] for name in makers}
    for seed in range(arguments.rounds):
        for name, make in makers.items():
            measured[name].append(fit(make, seed))
    measure.publish("peers", QUESTION, *summarize(measured), arguments.out)


def summarize(measured: dict[str, list[Fit]]) -> tuple[list[measure.Measurement], list[measure.Goal]]:
    """The table, which says where a peer is ahead of ours, and the goals: the better of ours against the best peer."""
    measurements, goals = [], []
    for kind, unit, less_is_better, value in KINDS:
        best = min if less_is_better else max
        values = {name: [value(of_fit) for of_fit in of_fits] for name, of_fits in measured.items()}
        medians = {name: statistics.median(of_name) for name, of_name in values.items()}
        ours = best((name for name in medians if name in OURS), key=medians.__getitem__)
        for name, of_name in values.items():
            ahead = medians[name] != medians[ours] and best(medians[name], medians[ours]) == medians[name]
            measurements.append(measure.summarize(f"{kind}: {name}", unit, of_name, "ahead of ours" if ahead else ""))
        if peers := [of_name for name, of_name in values.items() if name not in OURS]:
            ratio = measure.ratio(values[ours], [best(of_round) for of_round in zip(*peers, strict=True)])
            limits = {"at_most": 1.0} if less_is_better else {"at_least": 1.0}
            goals.append(measure.Goal(f"{kind}: {ours} / the best peer", ratio, **limits))
    return measurements, goals


def in_scope_accuracy(answers: Sequence[str], labels: Sequence[str]) -> float:
    """Of the sentences whose label is not "oos"."""
    right = [answer == label for answer, label in zip(answers, labels, strict=True) if label != "oos"]
    return sum(right) / len(right)


if __name__ == "__main__":
    main()
