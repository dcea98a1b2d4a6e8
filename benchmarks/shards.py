"""Shards: from Parquet files of made-up sentences to a model; CPU seconds, peak memory and accuracy of a process each.

Sentences as in the race, in ten files of unequal length; 10,000 further ones to be asked about. All see each
sentence once, words and pairs of words hashed to 2¹⁸ columns, on one thread:

- ours, `python train.py fit` with configs/text_shards.yaml: in a first fit, which copies the files as Arrow and keeps
  the hashed rows; in a second, which finds them; and hashing as it reads, from the copy;
- `SGDClassifier.partial_fit` of scikit-learn, on the rows of its HashingVectorizer, 10,000 at a time;
- fastText, which writes its text file first.

Private memory is what a process allocates: mapped pages, which the system takes back when it needs them, are not in it.
Takes an hour of CPU: python -m benchmarks.shards --sentences 2000000 10000000
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.sentences import HELD_OUT, write_made_up

QUESTION = "Shards: from Parquet files of made-up sentences to a model, the whole process, each sentence once"
OURS = {"ours, first fit": "true", "ours, hashed before": "true", "ours, hashed as read": "false"}
PEERS = ("SGDClassifier.partial_fit", "fastText")
LR = 1000  # 100 and 300 end lower at 200,000 sentences
ROWS = 10_000  # read together by a peer


class Cost(NamedTuple):
    """CPU seconds, peak of private and of all resident memory in bytes, and accuracy on the sentences held out."""

    seconds: float
    private: float
    resident: float
    accuracy: float


def write_shards(folder: Path, number: int) -> None:
    """Ten Parquet files of so many sentences, and one to validate on."""
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    share = number // 55
    sizes = [share * part for part in range(1, 10)]
    for shard, size in enumerate([HELD_OUT, *sizes, number - sum(sizes)]):
        write_made_up(folder / "rows.csv", size, seed=shard)
        name = f"train-{shard:02}" if shard else "val"
        parquet.write_table(arrow_csv.read_csv(folder / "rows.csv"), folder / f"{name}.parquet")
    (folder / "rows.csv").unlink()


def read_shards(folder: Path, name: str) -> Iterator[tuple[list[str], list[str]]]:
    """Texts and labels, some rows at a time."""
    from pyarrow import parquet

    for file in sorted(folder.glob(f"{name}*.parquet")):
        for batch in parquet.ParquetFile(file).iter_batches(ROWS):
            yield batch["text"].to_pylist(), batch["label"].to_pylist()


def fit_sgd(data: Path) -> Iterator[str]:
    """Fit on one pass, and predict the sentences held out."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    rows = HashingVectorizer(n_features=2**18, ngram_range=(1, 2), alternate_sign=False)
    classes = sorted({label for _, labels in read_shards(data, "val") for label in labels})
    # 3·10⁻⁶ ends at 0.918 where this ends at 0.921; at 200,000 sentences 10⁻⁷ and 10⁻⁵ were worse than both.
    model = SGDClassifier(loss="log_loss", alpha=1e-6)
    for texts, labels in read_shards(data, "train"):
        model.partial_fit(rows.transform(texts), labels, classes)
    for texts, _ in read_shards(data, "val"):
        yield from model.predict(rows.transform(texts))


def fit_fasttext(data: Path) -> Iterator[str]:
    """Likewise."""
    import fasttext

    file = data / "train.txt"
    with file.open("w", encoding="utf-8") as lines:
        for texts, labels in read_shards(data, "train"):
            lines.writelines(f"__label__{n.replace(' ', '_')} {t}\n" for t, n in zip(texts, labels, strict=True))
    options = {"lr": 0.5, "epoch": 1, "dim": 50, "wordNgrams": 2, "minn": 0, "maxn": 0, "bucket": 2**18}
    model = fasttext.train_supervised(str(file), loss="ova", thread=1, verbose=0, **options)
    file.unlink()
    for texts, _ in read_shards(data, "val"):
        for [label] in model.predict(texts)[0]:
            yield label.removeprefix("__label__").replace("_", " ")


def fit_peer(name: str, data: Path) -> None:
    """What the process of a peer does; leaves its accuracy in a file."""
    predicted = list((fit_sgd if name == PEERS[0] else fit_fasttext)(data))
    labels = [label for _, part in read_shards(data, "val") for label in part]
    right = sum(one == other for one, other in zip(predicted, labels, strict=True))
    (data / "metrics.csv").write_text(f"val/accuracy\n{right / len(labels)}\n", encoding="utf-8")


def measure_cost(name: str, data: Path) -> Cost:
    """Fit in a new process, and look at its memory ten times a second.

    Raises:
        RuntimeError: it failed; with the end of what it wrote to standard error.
    """
    command, metrics = ["-m", "benchmarks.shards", "--fit", name, str(data)], data / "metrics.csv"
    if name in OURS:
        run = data / name.replace(" ", "_").replace(",", "")
        options: dict[str, Any] = {"trainer.accelerator": "cpu", "trainer.max_epochs": 1}
        options |= {"trainer.default_root_dir": run, "data.cache_dir": data / "cache", "model.lr": LR}
        options |= {f"data.{split}_files": data / f"{split}*.parquet" for split in ("train", "val")}
        options |= {"data.hash_once": OURS[name], "data.batch_size": 1024}
        named = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        command = ["train.py", "fit", "--config", "configs/text_shards.yaml", *named]
        metrics = run / "metrics.csv"
    private = 0
    with (data / "errors.txt").open("wb") as errors:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, *command], cwd=measure.ROOT, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
            private = max([private, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.1)
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = (data / "errors.txt").read_text(encoding="utf-8")[-2000:]
        raise RuntimeError(f"{name} ended in {process.returncode}: {said}")
    with metrics.open(newline="", encoding="utf-8") as table:
        accuracies = [float(row["val/accuracy"]) for row in csv.DictReader(table) if row["val/accuracy"]]
    seconds = usage.ru_utime + usage.ru_stime
    return Cost(seconds, private * 1024, measure.peak_memory(usage), accuracies[-1])


def main() -> None:
    """Measure, print, and write after each fit, since all of them take long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*OURS, *PEERS]
    parser.add_argument("--sentences", type=int, nargs="+", default=[200_000])
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure only these")
    parser.add_argument("--folder", type=Path, default=Path("shards"), help="for the files, 350 bytes a sentence")
    parser.add_argument("--out", type=Path, default=measure.RESULTS, help="folder for the JSON file")
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)  # a process that is measured
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)  # another, or its peak would count as each fit's
    arguments = parser.parse_args()
    if arguments.fit:
        return fit_peer(arguments.fit[0], Path(arguments.fit[1]))
    if arguments.write:
        return write_shards(Path(arguments.write[0]), int(arguments.write[1]))
    path = arguments.out / "shards.json"
    content: dict[str, Any] = {"question": QUESTION, "machine": measure.machine(), "figures": {}}
    if path.is_file():
        content["figures"] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    for number in arguments.sentences:
        data = arguments.folder.resolve() / str(number)
        if not data.is_dir():
            data.mkdir(parents=True)
            words = ["--write", str(data), str(number)]
            subprocess.run([sys.executable, "-m", "benchmarks.shards", *words], cwd=measure.ROOT, check=True)
        for name in arguments.only:
            cost = measure_cost(name, data)
            memory = f"{cost.private / 1e6:.0f} MB private, {cost.resident / 1e6:.0f} MB resident"
            print(f"{number:>10,}  {name:27}{cost.seconds:8.1f} s  {memory}, accuracy {cost.accuracy:.4f}", flush=True)
            content["figures"].setdefault(str(number), {})[name] = cost._asdict()
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
