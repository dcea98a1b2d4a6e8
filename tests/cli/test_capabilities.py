"""Capabilities: the core trains, tests and predicts without the folders of reports and figures."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.capabilities import CAPABILITIES

ROOT = Path(__file__).parents[2]
CORE = [*(ROOT / "cli").rglob("*.py"), *(ROOT / "callbacks/run").rglob("*.py"), *(ROOT / "callbacks").glob("*.py")]


def test_the_core_imports_no_capability():
    folders = {path.rsplit(".", 2)[0] for _, path in CAPABILITIES}
    statement = re.compile(rf"(from|import) ({'|'.join(map(re.escape, folders))})")
    assert len(CORE) > 15
    assert [path for path in CORE if statement.search(path.read_text(encoding="utf-8"))] == []


@pytest.fixture
def core(tmp_path):
    """`core("fit", ...)` runs the command line in a copy of the tree that has neither reports nor figures."""
    left_out = shutil.ignore_patterns("reports", "figures", "__pycache__")
    for folder in ("callbacks", "cli", "datamodules", "logreg", "configs", "tests/data"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    for file in ("train.py", "checkpoint_file.py"):
        shutil.copy(ROOT / file, tmp_path)
    for name in ("reports", "figures"):  # as git leaves them
        (tmp_path / "callbacks" / name / "__pycache__").mkdir(parents=True)

    def run(*words):
        command = [sys.executable, "train.py", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_fit_test_and_predict_work_without_reports_and_figures(core, tmp_path):
    config, short = ("--config", "configs/text_csv.yaml"), ("--trainer.max_epochs", 1)
    for words in (("fit", *config, *short), ("test", *config, "--ckpt_path", "best")):
        done = core(*words)
        assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/text_csv/version_0"
    assert (run / "test_metrics.json").is_file()
    assert not (run / "figures").is_dir()
    done = core("predict", *config, "--ckpt_path", "best", "--data.predict_inputs", '["will it snow"]')
    assert done.returncode == 0, done.stderr
    assert "figures" in core("fit", *config, "--figures.enabled", "false").stderr


@pytest.mark.slow
def test_an_import_error_inside_a_folder_that_is_there_is_raised(core, tmp_path):
    (tmp_path / "callbacks/reports/__init__.py").write_text("import nonsense_of_mine\n")
    done = core("fit", "--config", "configs/text_csv.yaml")
    assert done.returncode != 0
    assert "nonsense_of_mine" in done.stderr
