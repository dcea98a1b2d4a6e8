"""Compare what two checkouts compute: weights, metrics and predictions of every config, to the last bit.

python -m tests.tools.compare_checkouts ../older-checkout

Where a config has changed its options, both get the older ones, by `OPTIONS`; --as-shipped leaves these out.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.tools.runs import ENVIRONMENT, QUIET, ROOT, weights

OPTIONS = {
    "clinc150": "--model.lr 300 --data.batch_size 256",
    "text_csv": '--refit false --model.lr 240 --data.words {"ngram_range":[1,2]} --data.feature_dropout 0.3 '
    "--data.oos_label other --data.batch_size 128 --trainer.max_epochs 30",
    "table_csv": "--refit false --checkpoint.monitor val/loss --model.lr 0.5 --model.l2 1e-3 --data.batch_size 32 "
    "--trainer.max_epochs 50",
}


def train_py(checkout: Path, command: str, config: str, folder: Path, *options: str) -> None:
    """Run a command of a checkout's train.py, with its runs in a folder."""
    words = [command, "--config", str(checkout / f"configs/{config}.yaml"), *QUIET, *options]
    environment = ENVIRONMENT | {"PYTHONPATH": str(checkout)}
    words = [sys.executable, str(checkout / "train.py"), *words, "--trainer.default_root_dir", str(folder)]
    done = subprocess.run(words, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{checkout} {command} {config}: {done.stderr[-2000:]}")


def results(checkout: Path, config: str, options: list[str]) -> dict[str, Any]:
    """All figures of fit, test and predict, by name: tensors, numbers and columns of tables."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        train_py(checkout, "fit", config, run, *options)
        for command in ("test", "predict"):
            train_py(checkout, command, config, run, *options, "--ckpt_path", "best")
        found: dict[str, Any] = {f"best.ckpt {name}": tensor for name, tensor in weights(run, "best").items()}
        found |= json.loads((run / "test_metrics.json").read_text())
        for path in (run / "predictions.csv", run / "per_class.csv", run / "confusions.csv"):
            if path.is_file():
                lines = [*csv.reader(path.open(newline="", encoding="utf-8"))]
                found |= {f"{path.name} {name}": column for name, *column in zip(*lines, strict=True)}
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            logged = [*csv.DictReader(file)]
        found |= {f"metrics.csv {name}": [row[name] for row in logged if row[name]] for name in logged[0]}
        return found


def is_same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def main() -> None:
    """Print for each config how many figures are the same, and each that is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--as-shipped", action="store_true")
    parser.add_argument("--configs", nargs="+", help="their names; all that both have if it is left out")
    given = parser.parse_args()
    names = [{path.stem for path in (root / "configs").glob("*.yaml")} for root in (ROOT, given.other)]
    for config in given.configs or sorted(set.intersection(*names)):
        options = [] if given.as_shipped else OPTIONS.get(config, "").split()
        here, there = (results(root.resolve(), config, options) for root in (ROOT, given.other))
        both = [name for name in there if name in here]
        differing = [name for name in both if not is_same(here[name], there[name])]
        print(f"{config}: {len(both) - len(differing)} of {len(both)} figures are the same", flush=True)
        for name in differing:
            one, other = here[name], there[name]
            if isinstance(one, list) and len(one) == len(other):
                one, other = next(pair for pair in zip(one, other, strict=True) if pair[0] != pair[1])
            print(f"  {name}: {str(one)[:80]} here, {str(other)[:80]} there")
        for name in [name for name in {**there, **here} if name not in both]:
            print(f"  {name}: only {'here' if name in here else 'there'}")


if __name__ == "__main__":
    main()
