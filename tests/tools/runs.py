"""A Trainer that prints nothing, and the tables that a run leaves."""

import csv
from pathlib import Path
from typing import Any

import lightning as L


def quiet_trainer(folder: Path | None, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    """On the CPU, without a logger unless the options name one."""
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    quiet |= {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 1}
    return L.Trainer(**quiet | {"default_root_dir": folder, "callbacks": [*callbacks]} | options)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The lines below the header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
