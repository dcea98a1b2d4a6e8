"""Fits, tests and predicts every config in two checkouts, and compares what they wrote, to the digit.

    python -m tests.tools.compare_checkouts ../before . [iris_ova text_csv ...]

Each line of the output is a difference; none means that both checkouts give the same figures.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NO_FIGURES, BEST = ["--figures.enabled", "false"], ["--ckpt_path", "best"]
CONFIGS = [file.stem for file in sorted(Path("configs").glob("*.yaml"))]


def outcome(checkout: Path, config: str, folder: Path) -> dict[str, Any]:
    """The numbers and labels that a config's three commands write, by file."""
    options = ["--config", f"configs/{config}.yaml", "--trainer.default_root_dir", str(folder)]
    for name, own in (("fit", NO_FIGURES), ("test", [*NO_FIGURES, *BEST]), ("predict", BEST)):
        command = [sys.executable, "train.py", name, *options, *own]
        subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    with (folder / "metrics.csv").open(newline="") as file:
        metrics = list(csv.DictReader(file))
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    found = {"metrics.csv": metrics, "predictions.jsonl": [json.loads(line) for line in lines]}
    return found | {"test_metrics.json": json.loads((folder / "test_metrics.json").read_text())}


def differences(before: Any, after: Any, place: str) -> list[str]:
    """Places at which two outcomes differ, each with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys([*before, *after])
        return [line for name in names for line in differences(before.get(name), after.get(name), f"{place} {name}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for n, pair in pairs for line in differences(*pair, f"{place}[{n}]")]
    return [] if before == after else [f"{place}: {before} before, {after} after"]


def main(before: str, after: str, *configs: str) -> None:
    for config in configs or CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            pair = [outcome(Path(path), config, Path(folder, name)) for path, name in ((before, "a"), (after, "b"))]
        found = differences(*pair, config)
        print(f"{config}: {len(found) or 'no'} differences", *found[:20], sep="\n  ", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
