"""A second run of `fit --refit`, on training and validation rows, with what the first or cross-validation has chosen.

It is an ordinary run, beside the first or, where the first has a directory of its own, in it. Its config.yaml holds
what was chosen: epochs, threshold and temperature. It has no validation, and best.ckpt is its end.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning as L
import yaml

from cli.capabilities import additions_to
from cli.checkpoint import read_checkpoint
from cli.trainer_defaults import as_list


class Choice(NamedTuple):
    """Epochs, their part of the planned steps in (0, 1], and options of the model ("calibrate", "threshold")."""

    epochs: int
    part: float
    options: dict[str, float]


def refits(options: Any, trainer: L.Trainer, data: L.LightningDataModule) -> Literal[False, True, "folds"]:
    """Whether and how to fit again; a ValueError refuses what cannot be, and `auto` leaves it out."""
    if options.refit == "auto":
        can = options.data.get("init_args", {}).get("refit") is False and trainer.world_size == 1
        pays = bool((getattr(data, "recipe", None) or {}).get("refit", True))
        return can and pays and not options.trainer.fast_dev_run
    if not options.refit:
        return False
    if options.trainer.fast_dev_run:
        raise ValueError("--refit: a dry run (fast_dev_run) chooses nothing, leave one of them out")
    if trainer.world_size > 1:
        raise ValueError(f"--refit needs a single process, got {trainer.world_size}: set trainer.devices to 1")
    if "refit" not in options.data.get("init_args", {}):
        name = options.data.class_path.rpartition(".")[2]
        raise ValueError(f"--refit needs data with an option refit, {name} has none: leave --refit out")
    if options.refit == "folds" and not additions_to("folds"):
        raise ValueError("--refit folds needs cross-validation, which this project lacks: use --refit true")
    return options.refit


def refit_arguments(run: Path, trainer: L.Trainer, how: Literal[True, "folds"]) -> list[str]:
    """The command line of the second run: the configuration of the first, then what was chosen there or by folds."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    if how == "folds":
        [choose_by_folds] = additions_to("folds")
        choice: Choice = choose_by_folds(run / "config.yaml")
    else:
        best = read_checkpoint(str(run / "checkpoints/best.ckpt"), resumes=False)
        found = {"threshold": "decision._extra_state", "calibrate": "calibration._extra_state"}
        chosen = {name: best["state_dict"].get(key) for name, key in found.items()}
        model = {name: float(value) for name, value in chosen.items() if value is not None and value.numel()}
        choice = Choice(best["epoch"] + 1, best["global_step"] / trainer.estimated_stepping_batches, model)
    values = "".join(f", {name} {value:.4g}" for name, value in choice.options.items())
    print(f"now again on training and validation rows: {choice.epochs} epochs{values}\n(--refit false leaves this out)")
    options: dict[str, Any] = {"data.refit": True, "checkpoint.monitor": None}
    options |= {"trainer.max_epochs": choice.epochs, "trainer.max_steps": -1, "trainer.max_time": None}
    options |= {f"model.{name}": value for name, value in choice.options.items()}
    scheduler = config["model"]["init_args"].get("lr_scheduler") or {}
    if scheduler.get("class_path", "").endswith(".DecayToZero"):  # its rates, up to the last epoch
        options["model.lr_scheduler.init_args.part"] = scheduler["init_args"]["part"] * choice.part
    callbacks = as_list(config["trainer"]["callbacks"])
    kept = [spec for spec in callbacks if not spec["class_path"].endswith(".EarlyStopping")]
    if kept != callbacks:  # there is no validation to watch
        options["trainer.callbacks"] = kept or None
    return ["fit", "--config", str(run / "config.yaml"), *(f"--{name}={json.dumps(v)}" for name, v in options.items())]
