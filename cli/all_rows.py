"""`fit --refit true`: once all is chosen on the validation rows, a second run that trains on them as well.

`fit --refit folds` chooses by cross-validation over training and validation rows instead, for data so small that few
rows are held out.

The second run is an ordinary one, beside the first or, where the first has a directory of its own, in it. Its
config.yaml says what was chosen: epochs, threshold and temperature. It has no validation, and best.ckpt is its end.
"""

import json
from pathlib import Path
from typing import Any, Literal

import lightning as L
import yaml

from cli.checkpoint import read_checkpoint
from cli.chosen_by_folds import Choice, choose_by_folds
from cli.trainer_defaults import as_list


def require_refittable(options: Any, trainer: L.Trainer) -> None:
    """Refuse, before the first fit, what cannot be fitted again; without --refit, nothing.

    Raises:
        ValueError: several processes, a dry run, or data that cannot join its validation rows to the others.
    """
    if not options.refit:
        return
    if options.trainer.fast_dev_run:
        raise ValueError("--refit: a dry run (fast_dev_run) chooses nothing, leave one of them out")
    if trainer.world_size > 1:
        raise ValueError(f"--refit needs a single process, got {trainer.world_size}: set trainer.devices to 1")
    if "refit" not in options.data.get("init_args", {}):
        name = options.data.class_path.rpartition(".")[2]
        raise ValueError(f"--refit needs data with an option refit, {name} has none: leave --refit out")


def refit_arguments(run: Path, trainer: L.Trainer, how: Literal[True, "folds"]) -> list[str]:
    """The command line of the second run: the configuration of the first, then what was chosen.

    Args:
        run: directory of the first run.
        trainer: of the first run, after its fit.
        how: True takes over what the first run has chosen on its validation rows; "folds" chooses by cross-validation.

    Raises:
        ValueError: the first run has no best.ckpt.
    """
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    choice = choose_by_folds(run / "config.yaml") if how == "folds" else _chosen_on_validation(run, trainer)
    found = "".join(f", {name} {value:.4g}" for name, value in choice.options.items())
    print(f"now on all rows: {choice.epochs} epochs{found}")
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
    chosen = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
    return ["fit", "--config", str(run / "config.yaml"), *chosen]


def _chosen_on_validation(run: Path, trainer: L.Trainer) -> Choice:
    """What best.ckpt is and has."""
    best = read_checkpoint(str(run / "checkpoints/best.ckpt"), resumes=False)
    options = {}
    for name, key in (("threshold", "decision._extra_state"), ("calibrate", "calibration._extra_state")):
        chosen = best["state_dict"].get(key)
        if chosen is not None and chosen.numel():
            options[name] = float(chosen)
    return Choice(best["epoch"] + 1, best["global_step"] / trainer.estimated_stepping_batches, options)
