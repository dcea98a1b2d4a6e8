"""What every test may use: the command line, run inside the test's own process."""

import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

torch.set_num_threads(1)  # tensors here are tiny, and threads that wait for busy cores make them slow

ROOT = Path(__file__).parents[1]
INSIDE = r"functools|compute_fn|object at 0x|Namespace\(|NestedArg|has no attribute|Union subtypes|weights_only"

# A slow machine is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def refused(command: Callable[..., object], *arguments: object) -> str:
    """The one line that a command, such as `cli`, ends in, without a traceback."""
    said = io.StringIO()
    with pytest.raises(SystemExit) as exit, redirect_stderr(said):
        command(*arguments)
    line = exit.value.code
    assert isinstance(line, str), f"expected a message as exit status, got {line!r}"
    assert line.startswith("error: ")
    assert "\n" not in line
    assert len(line) < 500
    assert not re.search(INSIDE, line), f"a message for the programmer, not for the user: {line}"
    assert "Traceback" not in said.getvalue()
    sys.stderr.write(said.getvalue())
    return line


@pytest.fixture(autouse=True, scope="session")
def on_one_cpu() -> Iterator[None]:
    """What leaves the device to Lightning takes one CPU here, on a machine with a GPU too; tests marked gpu name it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_AcceleratorConnector, "_choose_auto_accelerator", staticmethod(lambda: "cpu"))
        yield


@pytest.fixture(autouse=True, scope="session")
def coarse_pictures() -> Iterator[None]:
    """A third of the dots in each direction takes half the time."""
    from cli.config import CALLBACKS

    with pytest.MonkeyPatch.context() as patch:
        if "figures" in CALLBACKS:
            folder, _, _ = CALLBACKS["figures"].__module__.rpartition(".")
            patch.setattr(f"{folder}.canvas.DPI", 50)
        yield


@pytest.fixture(autouse=True)
def no_seed_of_the_test_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning keeps the seed of a run in the environment, where data without a seed of its own looks for one."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)


@pytest.fixture(scope="session")
def cli() -> Callable[..., None]:
    """`cli("fit", "--config", ...)` is `python train.py fit --config ...`, without the seconds for importing.

    Pictures, which take seconds too, are drawn only with `--figures.enabled true`, and a second fit on all rows is made
    only with `--refit`.
    """
    from cli.config import CALLBACKS
    from cli.main import main

    def run(*arguments: object, folder: Path = ROOT) -> None:
        words = [*map(str, arguments)]
        words[1:1] = ["--figures.enabled", "false"] if words[0] in ("fit", "test") and "figures" in CALLBACKS else []
        words += ["--refit", "false"] if words[0] == "fit" and "--refit" not in words else []
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PL_GLOBAL_SEED", raising=False)  # of the command before
            patch.setattr(sys, "argv", ["train.py", *words])
            patch.chdir(folder)
            main()

    return run


@pytest.fixture(scope="session")
def short_fit(cli: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`short_fit("iris_ova")` is the directory of a run of three epochs, the same one for every test that asks."""

    @cache
    def fit(config: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp(config)
        quiet = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
        short = ("--trainer.max_epochs", 3, "--trainer.callbacks", "null", "--trainer.default_root_dir", folder)
        cli("fit", "--config", f"configs/{config}.yaml", *options, *quiet, *short)
        return folder

    return fit
