"""Own data: are text_csv and table_csv, as they ship, as good as scikit-learn?

`train.py fit` with configs/text_csv.yaml or configs/table_csv.yaml and no option but the files, beside scikit-learn's
LogisticRegression on the same rows, all of them, at the C that is best in each figure on the test rows, which ours
never sees. For texts it is one of 1, 10 and 100, with the same n-grams, and with words and pairs as they are; for
tables one of 0.1, 1, 10 and 100, with the same standardised numbers, marks of missing ones and one-hot categories. The
recipes were chosen by test figures on data of the same kinds, so this flatters them a little. The data:

- docstrings: first paragraphs of the docstrings in six packages that this project needs; the label is the package, or
  the module. Another version of a package has other ones.
- topics: made with a fixed seed: words by Zipf's law, those of a topic 20 times as likely in its texts, and a share of
  the labels exchanged at random. The words are numbers, so that n-grams of characters tell nothing and only disturb.
- codes: numbers whose first three digits tell the label: only n-grams of characters see them.
- CLINC150: its in-scope sentences, or some of each intent; from the folder in CLINC150_DIR, or downloaded.
- tables: four of scikit-learn's, four that are made (benchmarks/labelled_tables.py). A third of the rows is for the
  test; figures of a table of less than 2,000 rows are the mean of three splits.

Seconds are CPU seconds of one process on one thread, without imports, from file to model; one of ours goes into
pictures. Takes some seven minutes.
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
from benchmarks.labelled_tables import TABLES

TABLE = measure.ROOT / "docs/own_data.md"
PACKAGES = ("torch", "scipy", "sklearn", "matplotlib", "numpy", "lightning")
Rows = tuple[Any, Any]  # texts or lists of cells, labels


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


def codes(rows: int) -> tuple[Rows, Rows]:
    """Training rows, and 1,000 to test on: two numbers, of which the first begins with three digits of its label."""
    import numpy as np

    random = np.random.default_rng(0)
    label, prefixes = random.integers(0, 12, rows + 1_000), random.integers(100, 1_000, (12, 6))
    numbers = zip(label, random.integers(0, 6, len(label)), random.integers(0, 10_000, (len(label), 2)), strict=True)
    texts, labels = [f"{prefixes[k, n]}{a:04d} {b}" for k, n, (a, b) in numbers], [f"group {k}" for k in label]
    return (texts[:rows], labels[:rows]), (texts[rows:], labels[rows:])


TEXTS: dict[str, Callable[[], tuple[Rows, Rows]]] = {
    "topics, half the labels at random, 100 rows": lambda: topics(2, 0.5, 100),
    "topics, half the labels at random, 1,000 rows": lambda: topics(2, 0.5, 1_000),
    "topics, half the labels at random, 5,000 rows": lambda: topics(2, 0.5, 5_000),
    "20 topics": lambda: topics(20, 0.2, 4_000),
    "codes": lambda: codes(1_000),
    "docstrings by package, 1,000 rows": lambda: docstrings(False, 1_000),
    "docstrings by package, 5,000 rows": lambda: docstrings(False, 5_000),
    "docstrings by module": lambda: docstrings(True, 1_500),
    "CLINC150, five of each intent": lambda: clinc150(750),
    "CLINC150, 20 of each intent": lambda: clinc150(3_000),
}


def ours(config: str, columns: list[str], train: Rows, test: Rows) -> Scores:
    """What `train.py fit` makes of the rows in files with these columns; rows of one column are texts."""
    from sklearn.metrics import log_loss

    from benchmarks.fits import silence_lightning
    from cli.main import main
    from deploy.classifier import Classifier

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"--config={measure.ROOT / config}", f"--trainer.default_root_dir={folder}/run"]
        arguments += ["--data.label_column=label", "--trainer.accelerator=cpu"]
        arguments += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
        for name, (rows, labels) in (("train", train), ("test", test)):
            file = Path(folder) / f"{name}.csv"
            with file.open("w", newline="", encoding="utf-8") as opened:
                csv.writer(opened).writerow([*columns, "label"])
                cells = [[row] for row in rows] if len(columns) == 1 else rows
                csv.writer(opened).writerows([*row, label] for row, label in zip(cells, labels, strict=True))
            arguments.append(f"--data.{name}_file={file}")
        argv, sys.argv = sys.argv, ["train.py", "fit", *arguments]
        start = time.process_time()
        try:
            with silence_lightning():
                main()
        finally:
            sys.argv = argv
        seconds = time.process_time() - start
        classifier = Classifier.load(f"{folder}/run")
    proba, names = classifier.predict_proba(test[0]).astype("float64"), classifier.class_names
    proba /= proba.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only
    accuracy = sum(names[k] == label for k, label in zip(proba.argmax(1).tolist(), test[1], strict=True)) / len(test[1])
    return Scores(accuracy, log_loss(test[1], proba, labels=names), seconds)


def scikit_learn(features: Any, train: Rows, test: Rows, strengths: tuple[float, ...]) -> Scores:
    """The best C in each figure; the seconds are of one, the slowest. N-grams and columns have scikit-learn's bits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    start = time.process_time()
    x, tested = features.fit_transform(train[0]), features.transform(test[0])
    preparing, found = time.process_time() - start, []
    for C in strengths:
        start = time.process_time()
        peer = LogisticRegression(C=C, max_iter=300).fit(x, train[1])
        seconds = preparing + time.process_time() - start
        loss = log_loss(test[1], peer.predict_proba(tested), labels=peer.classes_)
        found.append(Scores(peer.score(tested, test[1]), loss, seconds))
    return Scores(max(f.accuracy for f in found), min(f.log_loss for f in found), max(f.seconds for f in found))


def compare_texts(name: str) -> dict[str, Any]:
    """Rows, labels, and the scores of all three."""
    from datamodules.text.features import Ngrams, TfidfFeatures
    from datamodules.text.recipe import ngrams_for

    train, test = TEXTS[name]()
    same, words = TfidfFeatures(ngrams_for(train[0])), TfidfFeatures({"words": Ngrams(ngram_range=(1, 2))})
    found = {
        "ours": ours("configs/text_csv.yaml", ["text"], train, test),
        "scikit-learn, same features": scikit_learn(same, train, test, (1, 10, 100)),
        "scikit-learn, words": scikit_learn(words, train, test, (1, 10, 100)),
    }
    return {"data": name, "rows": len(train[0]), "labels": len(set(train[1])), "scores": found}


def compare_tables(name: str) -> dict[str, Any]:
    """Rows, labels, and the mean scores of both."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    found: dict[str, list[Scores]] = {"ours": [], "scikit-learn, same features": []}
    for seed in range(3):
        numbers, categories, labels = TABLES[name](seed)
        cells = [[*row, *kinds] for row, kinds in zip(numbers.tolist(), categories.tolist(), strict=True)]
        rows = [["" if cell != cell else cell for cell in row] for row in cells]
        some, held_out = train_test_split(range(len(rows)), test_size=1 / 3, random_state=seed, stratify=labels)
        train, test = (([rows[n] for n in part], labels[part].tolist()) for part in (some, held_out))
        columns = [f"column {n}" for n in range(len(rows[0]))]
        found["ours"].append(ours("configs/table_csv.yaml", columns, train, test))
        x = np.array(cells, dtype=object)
        peer = _columns(numbers.shape[1], len(columns))
        peers = scikit_learn(peer, (x[some], labels[some]), (x[held_out], labels[held_out]), (0.1, 1, 10, 100))
        found["scikit-learn, same features"].append(peers)
        if len(rows) >= 2_000:
            break
    scores = {who: Scores(*np.mean(each, axis=0).tolist()) for who, each in found.items()}
    return {"data": name, "rows": len(train[0]), "labels": len(set(labels)), "scores": scores}


def _columns(numbers: int, width: int) -> Any:
    """Numbers standardised, with a mark where one is missing, and categories one-hot encoded."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import MissingIndicator, SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    first, rest = [*range(numbers)], [*range(numbers, width)]
    return make_column_transformer(
        (make_pipeline(StandardScaler(), SimpleImputer()), first),
        (MissingIndicator(error_on_new=False), first),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), rest),
    )


def markdown(*tables: list[dict[str, Any]]) -> str:
    """The page in docs/: the module's text, and a table for each kind of data."""
    text = (__doc__ or "").partition("\n")
    cells = "accuracy / log loss / CPU s"
    lines = ["# " + text[0], text[2], f"`python -m benchmarks.own_data` writes this page. Each cell: {cells}."]
    for results in filter(None, tables):
        who = list(results[0]["scores"])
        lines += ["", f"| data | rows | labels | {' | '.join(who)} |", "|---|---:|---:|" + "---:|" * len(who)]
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
    results: list[list[dict[str, Any]]] = [[], []]
    jobs = [*((0, compare_texts, name) for name in TEXTS), *((1, compare_tables, name) for name in TABLES)]
    for kind, compare, name in jobs:
        if arguments.only is None or arguments.only in name:
            results[kind].append(compare(name))
            print(markdown(results[kind]).splitlines()[-1], flush=True)
    if arguments.only is None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {"name": "own_data", "machine": measure.machine(), "results": [*results[0], *results[1]]}
        (arguments.out / "own_data.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        arguments.table.write_text(markdown(*results), encoding="utf-8")


if __name__ == "__main__":
    main()
