"""Agreements of several processes: the size of a global batch, and whether gradients may be sparse."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_local_batch_size(target: Tensor) -> Tensor | float:
    """Rows of the global batch divided by the number of processes; with one process the rows of the batch.

    DistributedDataParallel averages gradients over processes. Dividing each process's summed loss by this number,
    instead of by its own number of rows, makes that average the mean over the global batch, also where the processes
    hold unequal shares of the last batch, or none of it.

    Args:
        target: this process's share of the batch, (n,). Those of `datamodules.batches` know the rows of the global
            batch as `global_batch_size`; else the processes add up their own, one more wait in every step.
    """
    if _is_alone():
        return len(target)
    count = getattr(target, "global_batch_size", None)
    if count is None:
        count = torch.tensor(float(len(target)), device=target.device)
        dist.all_reduce(count)
    return count / dist.get_world_size()


def supports_sparse_allreduce() -> bool:
    """Whether gradients may stay sparse: gloo, the backend of CPUs, adds sparse ones; NCCL, that of GPUs, does not."""
    return _is_alone() or dist.get_backend() == "gloo"


def _is_alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
