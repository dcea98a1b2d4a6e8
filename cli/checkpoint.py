"""Checkpoints on the command line: read once, compared with the configuration, and restored into the datamodule."""

from pathlib import Path
from typing import Any

import lightning as L

from checkpoint_file import load_checkpoint
from datamodules.batches import BatchedDataModule

OF_A_FIT = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
SPLITS = {"fit": "train", "validate": "val", "test": "test"}  # what a subcommand reads; predict may need no data


def read_checkpoint(path: str, resumes: bool) -> dict[str, Any]:
    """The content of a checkpoint, of which nothing is run.

    A ValueError refuses what is no checkpoint, or lacks what Lightning reads, to resume or to evaluate.
    """
    try:
        checkpoint = load_checkpoint(path)
        needed = ("pytorch-lightning_version", *(OF_A_FIT if resumes else ()))
        if missing := [key for key in needed if key not in checkpoint]:
            raise ValueError(f"{path} lacks {', '.join(missing)}: use a checkpoint that fit has written")
    except ValueError as error:
        raise ValueError(f"--ckpt_path: {error}") from error
    if not resumes:
        checkpoint.pop("loops", None)  # an evaluation begins at its beginning
    return checkpoint


def class_names(model: L.LightningModule, data: L.LightningDataModule) -> dict[str, str]:
    """Entries of a checkpoint, to be compared with a configuration; without modules, to outlive a renamed folder."""
    return {"model_class": type(model).__qualname__, "data_class": type(data).__qualname__}


def require_same_classes(checkpoint: dict[str, Any], options: Any) -> None:
    """Refuse, with a ValueError, a checkpoint of other classes; one that a plain Trainer has written names none."""
    for kind in ("model", "data"):
        name = options[kind].class_path.rpartition(".")[2]
        trained = checkpoint.get(f"{kind}_class", name)
        if trained != name:
            raise ValueError(
                f"the checkpoint holds a {trained!s:.100}, but the configuration asks for a {name}; "
                "use the run's config.yaml"
            )


def restore_state(
    data: L.LightningDataModule, checkpoint: dict[str, Any] | None, subcommand: str, path: str | None
) -> L.LightningDataModule:
    """A datamodule with its state from the checkpoint, if there is one, read from this path, set up for the command.

    Only one of this project's is set up here, as the model is built from its sizes; Lightning sets up any other. A
    ValueError refuses a checkpoint without state for a datamodule of this project's, or with that of other rows.
    """
    name = type(data).__qualname__
    if checkpoint is not None and name in checkpoint:
        data.load_state_dict(checkpoint[name])
    if not isinstance(data, BatchedDataModule):
        return data
    if checkpoint is not None and name not in checkpoint:
        raise ValueError(f"the checkpoint holds no state of a {name}; use one that fit has written")
    if checkpoint is not None and subcommand == "fit" and data.trains_on_validation != data.refit:
        raise ValueError(
            "the checkpoint is of a fit on all rows (data.refit): to go on, give its own options, --config "
            f"{Path(str(path)).parent.parent / 'config.yaml'}; to evaluate it or predict, any configuration of the "
            "data will do"
        )
    data.prepare_data()
    data.setup(subcommand)
    if checkpoint is not None and subcommand in SPLITS:
        data.require_known_rows(SPLITS[subcommand])
    return data
