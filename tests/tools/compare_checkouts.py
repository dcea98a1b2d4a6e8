"""Compare what two checkouts compute: weights, metrics and predictions of every config, to the last bit.

python -m tests.tools.compare_checkouts ../older-checkout

Where a config has changed its options, both get the older ones, by `OPTIONS`; --as-shipped leaves these out.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.tools.runs import QUIET, ROOT, differences, finish, metrics, read_csv, weights

OPTIONS = {
    "clinc150": "--model.lr 300 --data.batch_size 256",
    "text_csv": '--refit false --model.lr 240 --data.words {"ngram_range":[1,2]} --data.feature_dropout 0.3 '
    "--data.oos_label other --data.batch_size 128 --trainer.max_epochs 30",
    "table_csv": "--refit false --checkpoint.monitor val/loss --model.lr 0.5 --model.l2 1e-3 --data.batch_size 32 "
    "--trainer.max_epochs 50",
}


def results(checkout: Path, config: str, options: list[str]) -> dict[str, Any]:
    """All figures of fit, test and predict, by name: tensors, numbers and columns of tables."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        words = ("--config", checkout / f"configs/{config}.yaml", *QUIET, *options, "--trainer.default_root_dir", run)
        for command in (["fit"], ["test", "--ckpt_path", "best"], ["predict", "--ckpt_path", "best"]):
            finish(checkout / "train.py", *command, *words, PYTHONPATH=str(checkout))
        found: dict[str, Any] = {f"best.ckpt {name}": tensor for name, tensor in weights(run, "best").items()}
        found |= metrics(run)
        for name in ("predictions.csv", "per_class.csv", "confusions.csv", "metrics.csv"):
            rows = read_csv(run / name) if (run / name).is_file() else []
            found |= {f"{name} {column}": [row[column] for row in rows if row[column]] for column in (rows or [{}])[0]}
        return found


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
        unlike = [found[0] for name in both if (found := differences(here[name], there[name], name))]
        print(
            f"{config}: {len(both) - len(unlike)} of {len(both)} figures are the same", *unlike, sep="\n  ", flush=True
        )
        for name in [name for name in {**there, **here} if name not in both]:
            print(f"  {name}: only {'here' if name in here else 'there'}")


if __name__ == "__main__":
    main()
