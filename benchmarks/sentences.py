"""Sentences to race on: made-up ones by Zipf's law, and those of CLINC150, as CSV files of train, val and test."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

HELD_OUT = 10_000  # made-up sentences for validation, and as many for the test


def write_data(name: str, folder: Path) -> None:
    """The files of a data set: "clinc150", its sentences in scope, or a number of made-up ones."""
    if name == "clinc150":
        from benchmarks.loops import clinc150

        rows = {}
        for split, (texts, labels) in clinc150().load_splits().items():
            rows[split] = [(text, label) for text, label in zip(texts, labels, strict=True) if label != "oos"]
            write_rows(folder / f"{split}.csv", rows[split])
        write_rows(folder / "train+val.csv", rows["train"] + rows["val"])
        return
    for seed, (split, number) in enumerate({"train": int(name), "val": HELD_OUT, "test": HELD_OUT}.items(), 1):
        write_made_up(folder / f"{split}.csv", number, seed)


def write_made_up(path: Path, number: int, seed: int) -> None:
    """Sentences of 5 to 19 words with 77 labels.

    A word is one of 30,000 by Zipf's law, or, one in four, one of the 30 words of the sentence's label.
    """
    random, num_words, num_labels, own_words = np.random.default_rng(seed), 30_000, 77, 30
    topics = np.random.default_rng(0).integers(num_words, size=(num_labels, own_words))  # whatever the seed
    zipf, own_zipf = (np.cumsum(1 / np.arange(1, size + 1)) for size in (num_words, own_words))
    label, ends = random.integers(num_labels, size=number), random.integers(5, 20, size=number).cumsum()
    common = zipf.searchsorted(random.uniform(0, zipf[-1], ends[-1]))
    own = own_zipf.searchsorted(random.uniform(0, own_zipf[-1], ends[-1]))
    label_of_word = np.repeat(label, np.diff(ends, prepend=0))
    is_own = random.random(ends[-1]) < 0.25
    words = [f"w{n}" for n in np.where(is_own, topics[label_of_word, own], common).tolist()]
    starts = [0, *ends[:-1].tolist()]
    texts = (" ".join(words[start:end]) for start, end in zip(starts, ends.tolist(), strict=True))
    write_rows(path, zip(texts, (f"label {name}" for name in label.tolist()), strict=True))


def write_rows(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """A CSV with the columns text and label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def read_rows(path: Path) -> tuple[list[str], list[str]]:
    """The texts and the labels of such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        texts, labels = zip(*list(csv.reader(file))[1:], strict=True)
    return list(texts), list(labels)
