"""The configs train, go on where they were, test and predict."""

import json
from pathlib import Path

import pytest

CONFIGS = [path.stem for path in sorted(Path(__file__).parents[1].glob("configs/made_up*.yaml"))]
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_fit_goes_on_and_ends_above_nine_tenths(cli, tmp_path, config):
    run = ("--config", f"configs/{config}.yaml", *QUIET, "--trainer.default_root_dir", tmp_path)
    cli("fit", *run, "--trainer.max_epochs", 10)
    cli("fit", *run, "--ckpt_path", "last")
    cli("test", *run, "--ckpt_path", "best")
    cli("predict", *run, "--ckpt_path", "best")
    assert json.loads((tmp_path / "test_metrics.json").read_text())["test/accuracy"] > 0.9
