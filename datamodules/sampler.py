"""The order of the samples: a pure function of (seed, epoch), shared out batch by batch to any number of processes.

A run that is killed and resumed sees the batches it would have seen, and several processes that each take every
world_size-th sample of a global batch see, together, exactly the batches of a single process.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

if TYPE_CHECKING:
    from datamodules.batches import Batch

MAX_WEIGHTED = 2**24  # rows that torch.multinomial can draw from
PREFETCH_BATCHES = 16  # announced together, so that a dataset can gather them with one indexing call


class BatchIndices(NamedTuple):
    """What the sampler asks of a dataset for one batch.

    Attributes:
        indices: (N,) positions of the samples.
        epoch: the epoch they are for.
        prefetch: with every 16th batch, the indices of this batch and of the following 15, concatenated: a dataset may
            gather all of them at once. Only speed depends on it.
        global_batch_size: samples of the batch over all processes together; None where nobody asks.
    """

    indices: Tensor
    epoch: int
    prefetch: Tensor | None = None
    global_batch_size: int | None = None


def generator(seed: int, epoch: int, stream: int = 0) -> torch.Generator:
    """A random generator that depends on nothing but its arguments.

    Args:
        seed: any two seeds give different generators.
        epoch: below 500,000.
        stream: separates independent draws of one epoch: 0 for the order of the samples, 1 for feature dropout.
    """
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch + stream * 500_000)


class ResumableBatchSampler(DistributedSampler):
    """Yields one `BatchIndices` per batch: this process's share of the global batch.

    Args:
        num_samples: samples in the split.
        batch_size: samples of a global batch, over all processes together. The last batch may be smaller.
        shuffle: new order every epoch; False keeps the samples in order, for validation and test.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes. Each takes samples rank, rank + world_size, ... of every global batch, which is
            none where the last batch is smaller than world_size.
        weights: (num_samples,) relative probabilities to draw samples with replacement, instead of each sample once; of
            at most 2²⁴ samples, torch's limit.
        strata: (num_samples,) class numbers, to shuffle so that every batch holds each class in its overall proportion,
            up to rounding (stratified sampling: Zhao and Zhang 2014, https://arxiv.org/abs/1405.3080). The gradients of
            such batches vary less, so fewer epochs are needed.

    Raises:
        ValueError: more weights than torch can draw from.
    """

    # A DistributedSampler, because Lightning replaces any other sampler by one that pads with repeated samples. Of the
    # base class only set_epoch is used, which Lightning calls before each epoch.
    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        weights: Tensor | None = None,
        strata: Tensor | None = None,
    ) -> None:
        if weights is not None and num_samples > MAX_WEIGHTED:
            raise ValueError(
                f"weighted sampling: expected at most {MAX_WEIGHTED:,} training rows, got {num_samples:,}; leave "
                "weights of rows out, and give the model class_weight in their place"
            )
        super().__init__(range(num_samples), num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.num_samples, self.batch_size, self.weights, self.strata = num_samples, batch_size, weights, strata
        self.start_batch = 0  # where the next epoch starts; not 0 only after a resume in the middle of an epoch

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def order(self) -> Tensor:
        """All samples in this epoch's order, (num_samples,) in int32, of 4 bytes each."""
        if not self.shuffle:
            return torch.arange(self.num_samples, dtype=torch.int32)
        random = generator(self.seed, self.epoch)
        if self.weights is not None:
            return torch.multinomial(self.weights, self.num_samples, replacement=True, generator=random).int()
        order = torch.randperm(self.num_samples, dtype=torch.int32, generator=random)
        if self.strata is None:
            return order
        # Spread each class over the epoch: of n samples, the k-th goes to a random point in [k / n, (k + 1) / n).
        order = order[self.strata[order].argsort(stable=True)]  # class by class
        sizes = self.strata.bincount()
        k = torch.arange(self.num_samples) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        point = (k + torch.rand(self.num_samples, generator=random)) / sizes.repeat_interleave(sizes)
        return order[point.argsort(stable=True)]

    def __iter__(self) -> Iterator[BatchIndices]:
        # A generator: the order is computed at the first batch, after set_epoch, and not when the loader is set up.
        order = self.order()
        start_batch, self.start_batch = self.start_batch, 0
        starts = range(start_batch * self.batch_size, self.num_samples, self.batch_size)
        for first in range(0, len(starts), PREFETCH_BATCHES):
            wholes = [order[start : start + self.batch_size] for start in starts[first : first + PREFETCH_BATCHES]]
            batches = [whole[self.rank :: self.num_replicas].long() for whole in wholes]
            yield BatchIndices(batches[0], self.epoch, torch.cat(batches), len(wholes[0]))
            for indices, whole in zip(batches[1:], wholes[1:], strict=True):
                yield BatchIndices(indices, self.epoch, None, len(whole))


class StatefulDataLoader(DataLoader):
    """A DataLoader over a `ResumableBatchSampler` that can resume in the middle of an epoch.

    Lightning stores `state_dict` in the checkpoint and passes it to `load_state_dict` on resume.

    Args:
        dataset: indexed by `BatchIndices`.
        sampler: yields them.
        batch_size: None; the sampler makes the batches.
        limit: the batches of an epoch that the Trainer takes (limit_train_batches): a number, or a share up to 1.0.
        options: of DataLoader.
    """

    sampler: ResumableBatchSampler

    # For `predict` Lightning makes a copy of a loader from its attributes, hence the keywords.
    def __init__(
        self,
        dataset: Dataset,
        *,
        sampler: ResumableBatchSampler,
        batch_size: None = None,
        limit: int | float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=batch_size, **options)
        self.limit = limit
        self.batches_yielded = 0  # in this epoch, those before a resume included

    def __iter__(self) -> Iterator["Batch"]:  # type: ignore[override]
        # A generator again: the sampler is not asked for anything before Lightning has set the epoch.
        self.batches_yielded = self.sampler.start_batch
        for batch in super().__iter__():
            self.batches_yielded += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The batches of this epoch that are done; 0 at its end, because the next epoch starts with its first batch."""
        epoch_length = min(len(self), self.limit) if isinstance(self.limit, int) else int(len(self) * self.limit)
        return {"batches_yielded": self.batches_yielded % epoch_length if epoch_length else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches that the interrupted epoch had done; a ValueError refuses more than an epoch has."""
        done = state["batches_yielded"]
        if not 0 <= done < max(len(self), 1):
            raise ValueError(f"batches_yielded: expected at least 0 and below {len(self)}, got {done}")
        self.sampler.start_batch = done
