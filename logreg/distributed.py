"""The one number that several processes must agree on: how many rows a global batch has."""

import torch
import torch.distributed as dist
from torch import Tensor


def rows_per_process(target: Tensor) -> Tensor | int:
    """Rows of the global batch divided by the number of processes; with one process simply the rows of the batch.

    DistributedDataParallel averages gradients over processes. Dividing each process's summed loss by this number,
    instead of by its own rows, makes that average the mean over the global batch, also where the processes hold
    unequal shares of the last batch, or none of it.

    Args:
        target: this process's share of the batch, (n,).
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return len(target)
    count = torch.tensor(float(len(target)), device=target.device)
    dist.all_reduce(count)
    return count / dist.get_world_size()


def reduces_sparse_gradients() -> bool:
    """Whether gradients may stay sparse: always with one process, else where the backend can add sparse tensors.

    NCCL, the backend of several GPUs, cannot; gloo, that of CPUs, can.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return True
    return dist.get_backend() == "gloo"
