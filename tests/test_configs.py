"""Every config trains, by the command that its own first lines give, if they give one."""

import os
import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._pytree import tree_flatten_with_path

from tests.tools.runs import ROOT, read_csv

CONFIGS = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.glob("configs/**/*.yaml"))}

each_config = pytest.mark.parametrize("path", CONFIGS.values(), ids=CONFIGS)


def header(path):
    """The comment that a config opens with, as one string."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end])


def needed(path):
    """The configs that the command in the header names: the config itself, and for an overlay what it lies over."""
    command = re.search(r"^python train\.py fit (.*)$", header(path), re.MULTILINE)
    return re.findall(r"--config (configs/\S+\.yaml)", command[1] if command else f"--config {path.relative_to(ROOT)}")


def assert_plain(path):
    """A checkpoint holds only what can be loaded without running code, and names no class to build."""
    checkpoint = torch.load(path, weights_only=True)
    leaves = tree_flatten_with_path(checkpoint)[0]
    assert {type(value) for _, value in leaves} <= {torch.Tensor, str, bytes, int, float, bool, type(None)}
    keys = {getattr(key, "key", None) for keys, _ in leaves for key in keys}
    assert not {"_instantiator", "_class_path", "class_path", "datamodule_hyper_parameters"} & keys
    assert checkpoint["state_dict"]


@each_config
def test_config_trains_by_its_own_command(cli, tmp_path, path):
    configs = needed(path)
    assert configs[-1] == str(path.relative_to(ROOT))
    for variable in re.findall(r"\b[A-Z0-9]+_DIR\b", "".join(Path(config).read_text() for config in configs)):
        if variable not in os.environ:
            pytest.skip(f"needs the real data: set {variable} to the folder that holds it")
    for package in ("wandb", "mlflow"):
        if path.stem == package:
            pytest.importorskip(package)
            warnings.simplefilter("ignore")  # of what it imports
    if "shards" in path.name:
        pytest.importorskip("datasets", reason="needs the package datasets: pip install -e '.[shards]'")
    arguments = [part for config in configs for part in ("--config", config)]
    run = tmp_path / "run"
    short = ("--trainer.max_epochs", 1, "--trainer.log_every_n_steps", 1)
    cli("fit", *arguments, "--trainer.default_root_dir", run, *short)

    # A config of one's own, which needs no comment, may log any names, and none that tells the best state.
    for name in ("best", "last") if header(path) else ("last",):
        assert_plain(run / f"checkpoints/{name}.ckpt")
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["trainer"]["max_epochs"] == 1
    rows = read_csv(run / "metrics.csv")
    for name in ("train/loss", "val/loss") if header(path) else ():
        assert any(row[name] for row in rows)
