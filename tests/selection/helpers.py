"""What tests of several commands share."""

import csv
from pathlib import Path

import pytest


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config_file(name: str) -> str:
    """The path of a configuration; skips the test where it was deleted with its task (docs/template.md)."""
    path = f"configs/{name}.yaml"
    if not Path(path).is_file():
        pytest.skip(f"no {path}")
    return path
