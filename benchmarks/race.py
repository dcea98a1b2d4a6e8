"""Race: from a CSV of sentences to a model on disk, beside fastText, Vowpal Wabbit and LIBLINEAR, each at its best.

Each chooses n-grams, epochs and rate (or C) from a grid by validation rows: of the points whose accuracy is within
0.002 of its best the one that takes the fewest CPU seconds. `python -m benchmarks.race --choose` does that, in half an
hour, and writes benchmarks/choices.json. The race then fits these points in turns, each in a process of its own, from
its start to its end, imports included, and scores test rows that nobody chose by, in another process. Ours is
`python train.py fit` with configs/text_csv.yaml, pictures and reports included: once with no option but the files, and
once with its choice.

Data: the sentences of CLINC150 in scope (15,000, 150 labels), and 100,000 and 1,000,000 made-up ones (77 labels). The
million is fitted once, as it takes minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.classifiers import PEERS, Point
from benchmarks.sentences import read_rows, write_data

QUESTION = "Race: from a CSV of sentences to a model on disk, the whole process"
CHOICES = Path(__file__).parent / "choices.json"
SIZES = {"clinc150": 5, "100000": 5, "1000000": 1}  # data sets, and in how many rounds they are fitted at most
OURS, DEFAULT = "ours, chosen", "ours, no option"
SLOW = ("Vowpal Wabbit", "LIBLINEAR")  # minutes for a million: what they choose for 100,000 stands for it
TOLERANCE = 0.002  # of accuracy
FIVE_EPOCHS, FIVE = "fastText, 5 epochs", {"lr": 0.5, "epoch": 5, "wordNgrams": 2}  # what is often run
GOALS = {  # CPU seconds of ours without an option, as a share of theirs
    "clinc150": {"fastText": 1.0},
    "100000": {FIVE_EPOCHS: 1.4},
    "1000000": {FIVE_EPOCHS: 0.5, "fastText": 1.6},
}
KINDS = {  # unit and factor
    "cpu": ("CPU s", 1.0),
    "wall": ("s", 1.0),
    "memory": ("MB", 1e-6),
    "accuracy": ("%", 100.0),
    "log_loss": ("nats", 1.0),
}
SMALL: dict[str, dict[str, list[Any]]] = {  # the grid for CLINC150
    "fastText": {"lr": [0.5, 1.0], "epoch": [5, 15], "wordNgrams": [2], "pieces": [0, 4], "loss": ["ova"]},
    "Vowpal Wabbit": {"passes": [1, 3], "learning_rate": [0.5, 4], "ngram": ["w2"]},
    "LIBLINEAR": {"s": [4, 7], "c": [1, 30], "ngram_range": [[1, 2]]},
    OURS: {"data.preset": ["words", "words+chars"], "trainer.max_epochs": [5, 10, 20]},
}
LARGE: dict[str, dict[str, list[Any]]] = {  # that for made-up sentences, whose words have no pieces to learn from
    "fastText": {"lr": [0.5, 1.0], "epoch": [1, 2, 5], "wordNgrams": [2], "loss": ["softmax"]},
    "Vowpal Wabbit": {"passes": [1, 2], "learning_rate": [0.5, 4], "ngram": ["w2"]},
    "LIBLINEAR": {"s": [4], "c": [0.3, 1], "ngram_range": [[1, 2]]},
    OURS: {"rate": [800, 1600], "trainer.max_epochs": [1, 2, 5]},
}


class Cost(NamedTuple):
    """CPU and wall seconds and peak memory in bytes of a fit, and how its model does on rows held out."""

    cpu: float
    wall: float
    memory: float
    accuracy: float
    log_loss: float


def points(name: str, data: str) -> Iterator[Point]:
    """The grid of a contestant for a data set."""
    options = (SMALL if data == "clinc150" else LARGE)[name]
    for values in product(*options.values()):
        yield dict(zip(options, values, strict=True))


def command_of(name: str, point: Point, data: Path, folder: Path, split: str) -> list[str]:
    """What is run to fit before the rows of a split are scored: ours is train.py, a peer's is `--fit` of this file."""
    if name.partition(",")[0] in PEERS:
        # Of a few rows ours fits again, with those of validation; so do all in the race, when these have served.
        file = "train+val.csv" if split == "test" and data.name == "clinc150" else "train.csv"
        return ["-m", "benchmarks.race", "--fit", name, json.dumps(point), str(data / file), str(folder)]
    options = {"trainer.accelerator": "cpu", "trainer.default_root_dir": folder}
    options |= {f"data.{split}_file": data / f"{split}.csv" for split in ("train", "val", "test")}
    for option, value in point.items():
        if option == "rate":
            options |= {"model.lr": value, "data.batch_size": 1024}
        else:
            options[option] = value
    options["refit"] = "auto" if split == "test" else "false"
    named = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    return ["train.py", "fit", "--config", "configs/text_csv.yaml", *named]


def fit_peer(name: str, point: Point, file: Path, folder: Path) -> None:
    """What the process of a peer does."""
    point = dict(point)
    if point.pop("pieces", 0):
        point |= {"minn": 2, "maxn": 4}
    PEERS[name.partition(",")[0]].fit(point, *read_rows(file), folder, 0)


def score(name: str, file: Path, folder: Path) -> dict[str, float]:
    """Accuracy and log loss of a model on the rows of a file."""
    import numpy as np
    from sklearn.metrics import accuracy_score, log_loss

    texts, labels = read_rows(file)
    classes = sorted(set(labels))
    if (peer := name.partition(",")[0]) in PEERS:
        proba = PEERS[peer].load(folder, len(classes))(texts)
    else:
        from deploy.classifier import Classifier

        model = Classifier.load(folder)
        proba = model.predict_proba(texts)[:, [model.class_names.index(label) for label in classes]]
    right = accuracy_score(labels, np.array(classes)[proba.argmax(1)])
    proba = np.clip(proba, 1e-15, 1)
    return {"accuracy": float(right), "log_loss": float(log_loss(labels, proba / proba.sum(1, keepdims=True)))}


def measure_cost(name: str, point: Point, data: Path, split: str) -> Cost:
    """Fit and score in new processes.

    Raises:
        RuntimeError: one failed; with the end of what it wrote.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary), time.perf_counter()
        usage = _run(command_of(name, point, data, folder, split))
        wall, scores = time.perf_counter() - start, folder / "scores.json"
        _run(["-m", "benchmarks.race", "--score", name, str(data / f"{split}.csv"), str(folder), str(scores)])
        cpu, memory = usage.ru_utime + usage.ru_stime, measure.peak_memory(usage)
        return Cost(cpu, wall, memory, **json.loads(scores.read_text(encoding="utf-8")))


def _run(command: list[str]) -> Any:
    """Run Python in the project's root; what it used."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *command], cwd=measure.ROOT, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command} ended in {process.returncode}: {output.read()[-2000:].decode()}")
    return usage


def choose(data: str, folder: Path, contestants: list[str]) -> dict[str, Any]:
    """Of each contestant all points with their figures on validation rows, and the choice."""
    chosen = {}
    for name in contestants:
        tried: list[dict[str, Any]] = []
        for point in points(name, data):
            cost = measure_cost(name, point, folder, "val")
            tried.append({"point": point, "cpu": round(cost.cpu, 2), "accuracy": cost.accuracy})
            print(f"{data} {name} {point}: {cost.cpu:.1f} CPU s, {cost.accuracy:.4f}", flush=True)
        best = max(of_point["accuracy"] for of_point in tried)
        near = [of_point for of_point in tried if of_point["accuracy"] >= best - TOLERANCE]
        chosen[name] = {"choice": min(near, key=lambda of_point: of_point["cpu"])["point"], "tried": tried}
    return chosen


def main() -> None:
    """Measure, print, write."""
    parser = measure.argument_parser(__doc__)
    parser.add_argument("--choose", action="store_true", help="run the grids and write benchmarks/choices.json")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES], help="data sets")
    parser.add_argument("--fit", nargs=4, help=argparse.SUPPRESS)  # processes that are measured
    parser.add_argument("--score", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        name, point, file, folder = arguments.fit
        return fit_peer(name, json.loads(point), Path(file), Path(folder))
    if arguments.score:
        name, file, folder, scores = arguments.score
        Path(scores).write_text(json.dumps(score(name, Path(file), Path(folder))), encoding="utf-8")
        return None

    there = [name for name, peer in PEERS.items() if find_spec(peer.package)]
    if missing := sorted({*PEERS} - {*there}):
        print(f"not installed, and left out: {', '.join(missing)}; pip install -e '.[bench]'")
    choices = json.loads(CHOICES.read_text(encoding="utf-8")) if CHOICES.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {data: Path(temporary) / data for data in arguments.sizes}
        # In a process of its own: the peak memory of this one would count as that of each that it starts.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            for data, folder in folders.items():
                folder.mkdir()
                process.submit(write_data, data, folder).result()
        if arguments.choose:
            for data, folder in folders.items():
                names = [name for name in [*there, OURS] if data != "1000000" or name not in SLOW]
                chosen = {name: choices["100000"][name] for name in there if name not in names}
                choices[data] = chosen | choose(data, folder, names)
                CHOICES.write_text(json.dumps(choices, indent=1) + "\n", encoding="utf-8")
            return None
        costs: dict[str, dict[str, list[Cost]]] = {}
        for data, folder in folders.items():
            chosen = {name: choices[data][name]["choice"] for name in [OURS, *there]}
            runners = {DEFAULT: {}, **chosen} | ({FIVE_EPOCHS: FIVE} if "fastText" in there else {})
            costs[data] = {name: [] for name in runners}
            for _ in range(min(arguments.rounds, SIZES[data])):
                for name, point in runners.items():
                    costs[data][name].append(measure_cost(name, point, folder, "test"))
    points_run = {data: {name: of_data[name]["choice"] for name in [OURS, *there]} for data, of_data in choices.items()}
    measure.publish("race", QUESTION, *summarize(costs), arguments.out, choices=points_run)


def summarize(
    costs: dict[str, dict[str, list[Cost]]],
) -> tuple[list[measure.Measurement], list[measure.Goal]]:
    """A row for each figure, with who is ahead, and the goals: ours without an option, beside the fastest peer."""
    measurements, goals = [], []
    for data, of_data in costs.items():
        for kind, (unit, factor) in KINDS.items():
            values = {name: [factor * getattr(cost, kind) for cost in of_name] for name, of_name in of_data.items()}
            medians = {name: measure.summarize(name, unit, of_name).median for name, of_name in values.items()}
            first = (max if kind == "accuracy" else min)(medians, key=medians.__getitem__)
            for name, of_name in values.items():
                note = "ahead" if name == first else ""
                measurements.append(measure.summarize(f"{data}, {kind}: {name}", unit, of_name, note))
        for name, limit in GOALS[data].items() if {*GOALS[data]} <= {*of_data} else []:
            cpu = [[cost.cpu for cost in of_data[runner]] for runner in (DEFAULT, name)]
            goals.append(measure.Goal(f"{data}, CPU s: {DEFAULT} / {name}", measure.ratio(*cpu), at_most=limit))
    return measurements, goals


if __name__ == "__main__":
    main()
