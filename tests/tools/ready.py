"""Datamodules that are set up, as the command line and the Trainer do it before anything is asked of them."""

from typing import Any


def ready(data: Any, stage: str = "fit") -> Any:
    """The datamodule after `prepare_data` and `setup`."""
    data.prepare_data()
    data.setup(stage)
    return data
