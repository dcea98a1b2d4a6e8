"""Jobs that SLURM or torchrun start again, and the file by which such a job finds its run."""

import os
import signal
import subprocess
from pathlib import Path

import lightning as L
from lightning.fabric.plugins.environments import SLURMEnvironment

from callbacks.files import atomic_write_text

UNFINISHED = "unfinished_job.txt"  # in the run directory: the job, and all options of the command


def slurm_job() -> str | None:
    """The number of the SLURM job that this process belongs to, or of its part of an array, such as 120_3."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def torchrun_job() -> str | None:
    """The id of the torchrun that starts this process, anew after a failure; None without one."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else f"torchrun {name}"


def requeue_signal(trainer: L.Trainer) -> signal.Signals | None:
    """The signal with which SLURM announces the end of a job that Lightning may requeue."""
    environment = trainer._accelerator_connector.cluster_environment
    return (
        environment.requeue_signal if isinstance(environment, SLURMEnvironment) and environment.auto_requeue else None
    )


def requeue(marker: Path, command: str) -> None:
    """Let SLURM start this process's job again, and write the marker of its run."""
    job = str(slurm_job())
    atomic_write_text(marker, f"{job}\n{command}")
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
        print(f"requeued SLURM job {job}, which goes on by itself")
    except (OSError, subprocess.CalledProcessError) as error:
        marker.unlink()
        print(f"SLURM job {job} could not be requeued: {error}")
