"""What every test may use: the command line, run inside the test's own process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tensors here are tiny, and threads that wait for busy cores make them slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`cli("fit", "--config", ...)` is `python train.py fit --config ...`, without the seconds for importing."""
    from cli.main import main

    def run(*arguments: object) -> None:
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # of the command before
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        monkeypatch.chdir(ROOT)
        main()

    return run
