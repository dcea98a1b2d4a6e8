"""Own data: is text_csv, as it ships, as good as scikit-learn?

`train.py fit --config configs/text_csv.yaml` without an option but the file, which up to 50,000 rows ends with a second
fit on all of them; and `--refit false`, which learns from 80 %. Beside it scikit-learn's LogisticRegression on all
rows, at the best of C = 1, 10 and 100 in each figure: with the same n-grams, and with words and pairs as they are.
The recipe was chosen by test figures on samples of the same kinds of data, so this flatters it a little. The data:

- docstrings: first paragraphs of the docstrings in six packages that this project needs; the label is the package, or
  the module. Another version of a package has other ones.
- topics: made with a fixed seed: words by Zipf's law, those of a topic 20 times as likely in its texts, and a share of
  the labels exchanged at random. The words are numbers, so that n-grams of characters tell nothing and only disturb.
- CLINC150: its in-scope sentences, or five of each intent; from the folder in CLINC150_DIR, or downloaded.

Seconds are CPU seconds of one process on one thread, without imports, from file to model; one of ours goes into
pictures of the validation rows. Takes some seven minutes.
"""

import ast
import csv
import importlib.util
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure

TABLE = measure.ROOT / "docs/own_data.md"
CONFIG = measure.ROOT / "configs/text_csv.yaml"
PACKAGES = ("torch", "scipy", "sklearn", "matplotlib", "numpy", "lightning")
Rows = tuple[list[str], list[str]]  # texts, labels


class Scores(NamedTuple):
    """Of the test rows: accuracy, mean −log p(label); and the CPU seconds that it took to get there."""

    accuracy: float
    log_loss: float
    seconds: float


def docstrings(by_module: bool, rows: int) -> tuple[Rows, Rows]:
    """Training rows, and 2,000 to test on: first paragraphs, and the package or module that they are from."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for module, text in _paragraphs(package):
            found.setdefault(text, f"{package}.{module}" if by_module else package)
    counts = Counter(found.values())
    kept = [(text, label) for text, label in found.items() if counts[label] >= 40]
    return _sampled([text for text, _ in kept], [label for _, label in kept], rows)


def _paragraphs(package: str) -> Iterator[tuple[str, str]]:
    root = Path(importlib.util.find_spec(package).submodule_search_locations[0])  # type: ignore[union-attr,index]
    for path in sorted(root.rglob("*.py")):
        if any("test" in part for part in path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):  # templates
            continue
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            words = (text or "").split("\n\n")[0].split()
            if len(words) >= 4:
                yield path.relative_to(root).parts[0].removesuffix(".py"), " ".join(words)


def topics(number: int, wrong: float, rows: int) -> tuple[Rows, Rows]:
    """Training rows, and 2,000 to test on: made-up texts of 4 to 19 words, a share of the labels wrong."""
    import numpy as np

    random, vocabulary = np.random.default_rng(0), 30_000
    words, topic_of = np.array([f"w{n}" for n in range(vocabulary)]), random.integers(0, number, vocabulary)
    topic_of[:50] = -1  # the most frequent words are everybody's
    topic = random.integers(0, number, rows + 2_000)
    frequency = np.where(topic_of == np.arange(number)[:, None], 20, 1) / np.arange(1, vocabulary + 1)
    cumulative = np.cumsum(frequency / frequency.sum(axis=1, keepdims=True), axis=1)  # (topics, words)
    cumulative[:, -1] = 1
    lengths = random.integers(4, 20, len(topic))
    texts = [
        " ".join(words[np.searchsorted(cumulative[k], random.random(length))])
        for k, length in zip(topic, lengths, strict=True)
    ]
    labels = [f"topic {k}" for k in np.where(random.random(len(topic)) < wrong, random.permutation(topic), topic)]
    return (texts[:rows], labels[:rows]), (texts[rows:], labels[rows:])


def clinc150(rows: int) -> tuple[Rows, Rows]:
    """A stratified sample of the in-scope training rows, and the test rows."""
    from datamodules.text.clinc150 import CLINC150DataModule

    splits = CLINC150DataModule().load_splits()
    train, test = (
        [(t, label) for t, label in zip(*splits[s], strict=True) if label != "oos"] for s in ("train", "test")
    )
    texts, labels = map(list, zip(*train, strict=True))
    (sample, _), tested = _sampled(texts, labels, rows, 0), tuple(map(list, zip(*test, strict=True)))
    return sample, tested  # type: ignore[return-value]


def _sampled(texts: list[str], labels: list[str], rows: int, test: int = 2_000) -> tuple[Rows, Rows]:
    from datamodules.splits import stratified_split

    def take(indices: list[int]) -> Rows:
        return [texts[i] for i in indices], [labels[i] for i in indices]

    rest, tested = stratified_split(labels, test, 0, "test") if test else (list(range(len(labels))), [])
    kept = rest
    if rows < len(rest):
        _, held = stratified_split([labels[i] for i in rest], rows, 0, "train")
        kept = [rest[i] for i in held]
    return take(kept), take(tested)


DATA: dict[str, Callable[[], tuple[Rows, Rows]]] = {
    "topics, half the labels at random, 100 rows": lambda: topics(2, 0.5, 100),
    "topics, half the labels at random, 1,000 rows": lambda: topics(2, 0.5, 1_000),
    "topics, half the labels at random, 10,000 rows": lambda: topics(2, 0.5, 10_000),
    "topics, half the labels at random, 100,000 rows": lambda: topics(2, 0.5, 100_000),
    "20 topics": lambda: topics(20, 0.2, 10_000),
    "docstrings by package, 1,000 rows": lambda: docstrings(False, 1_000),
    "docstrings by package": lambda: docstrings(False, 10_000),
    "docstrings by module": lambda: docstrings(True, 3_000),
    "CLINC150, five of each intent": lambda: clinc150(750),
    "CLINC150": lambda: clinc150(15_000),
}


def ours(train: Rows, test: Rows, folder: Path, *options: str) -> Scores:
    """What `train.py fit` and `predict` make of the files."""
    from sklearn.metrics import log_loss

    from benchmarks.fits import silence_lightning
    from cli.main import main
    from deploy.classifier import Classifier

    files = {name: folder / f"{name}.csv" for name in ("train", "test")}
    for file, rows in zip(files.values(), (train, test), strict=True):
        with file.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([("text", "label"), *zip(*rows, strict=True)])
    place = [f"--trainer.default_root_dir={folder / 'run'}{''.join(options).strip('-')}", "--trainer.accelerator=cpu"]
    named = [f"--data.{name}_file={file}" for name, file in files.items()]
    argv, sys.argv = sys.argv, ["train.py", "fit", "--config", str(CONFIG), *named]
    sys.argv += [*place, "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", *options]
    start = time.process_time()
    try:
        with silence_lightning():
            main()
    finally:
        sys.argv = argv
    seconds = time.process_time() - start
    classifier = Classifier.load(place[0].partition("=")[2])
    proba, names = classifier.predict_proba(test[0]), classifier.class_names
    accuracy = sum(names[k] == label for k, label in zip(proba.argmax(1).tolist(), test[1], strict=True)) / len(test[1])
    return Scores(accuracy, log_loss(test[1], proba.astype("float64"), labels=names), seconds)


def scikit_learn(train: Rows, test: Rows, ngrams: dict[str, Any]) -> Scores:
    """The best of three C in each figure; the seconds are of one, the slowest. The n-grams have scikit-learn's bits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    from datamodules.text.features import TfidfFeatures

    start, features = time.process_time(), TfidfFeatures(ngrams)
    x, tested = features.fit_transform(train[0]), features.transform(test[0])
    vectorizing, found = time.process_time() - start, []
    for C in (1, 10, 100):
        start = time.process_time()
        peer = LogisticRegression(C=C, max_iter=300).fit(x, train[1])
        seconds = vectorizing + time.process_time() - start
        loss = log_loss(test[1], peer.predict_proba(tested), labels=peer.classes_)
        found.append(Scores(peer.score(tested, test[1]), loss, seconds))
    return Scores(max(f.accuracy for f in found), min(f.log_loss for f in found), max(f.seconds for f in found))


def compare(name: str) -> dict[str, Any]:
    """Rows, labels, and the scores of all four."""
    from datamodules.text.features import Ngrams
    from datamodules.text.recipe import ngrams_for

    train, test = DATA[name]()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "ours": ours(train, test, Path(folder)),
            "ours, --refit false": ours(train, test, Path(folder), "--refit=false"),
        }
    found |= {
        "scikit-learn, same n-grams": scikit_learn(train, test, ngrams_for(train[0])),
        "scikit-learn, words": scikit_learn(train, test, {"words": Ngrams(ngram_range=(1, 2))}),
    }
    return {"data": name, "rows": len(train[0]), "labels": len(set(train[1])), "scores": found}


def markdown(results: list[dict[str, Any]]) -> str:
    """The page in docs/: the module's text, and the table."""
    text = (__doc__ or "").partition("\n")
    who = list(results[0]["scores"])
    cells = "accuracy / log loss / CPU s"
    lines = ["# " + text[0], text[2], f"`python -m benchmarks.own_data` writes this page. Each cell: {cells}.", ""]
    lines += [f"| data | rows | labels | {' | '.join(who)} |", "|---|---:|---:|" + "---:|" * len(who)]
    for found in results:
        scores = [Scores(*found["scores"][name]) for name in who]
        row = [f"{s.accuracy:.3f} / {s.log_loss:.3f} / {s.seconds:.1f}" for s in scores]
        lines.append(f"| {found['data']} | {found['rows']:,} | {found['labels']} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write."""
    parser = measure.argument_parser(__doc__)
    parser.add_argument("--table", type=Path, default=TABLE, help="file of the table")
    parser.add_argument("--only", help="data whose name holds this, and no table")
    arguments = parser.parse_args()
    import torch
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    torch.set_num_threads(1)
    threadpool_limits(1)  # threads that wait for each other take CPU seconds as well
    results = []
    for name in DATA:
        if arguments.only is None or arguments.only in name:
            results.append(compare(name))
            print(markdown(results).splitlines()[-1], flush=True)
    if arguments.only is None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {"name": "own_data", "machine": measure.machine(), "results": results}
        (arguments.out / "own_data.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        arguments.table.write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
