"""Checks for multi-process launches; the default number of threads."""

import os

import lightning as L
import torch
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher


def require_commands(trainer: L.Trainer, rank: int) -> None:
    """Refuse, with a ValueError, copies of this process, and a `rank` in the environment that the Trainer has not.

    Copies (ddp_spawn, ddp_fork, ddp_notebook) hand back no signal, no error as one line, and no state of a callback.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ValueError(
            "trainer.strategy: processes that are forked or spawned hand back neither errors nor results: "
            "use --trainer.strategy ddp"
        )
    if rank != 0 and trainer.is_global_zero:
        raise ValueError(
            f"the environment (RANK, LOCAL_RANK or SLURM_PROCID) makes this process number {rank} of several, but the "
            "Trainer has one: unset it, or start all of them"
        )


def spare_threads(model: L.LightningModule) -> None:
    """One thread for a linear model on a CPU, unless OMP_NUM_THREADS asks for another number.

    More threads save a tenth to a third of its step where all cores are idle, and double it where one is not, as they
    wait for each other. With one, the bits are the same on any number of cores.
    """
    if hasattr(type(model), "coefficients") and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
