"""Which rows make up which batch: the same answer after a resume, and on one device or many.

The order of the rows is a pure function of (seed, epoch). A run that is killed and resumed therefore sees the rows it
would have seen, and several processes that each take every world-th row of a global batch see, together, exactly the
batches that one process would.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

AHEAD = 16  # batches whose rows a dataset hears of at once
EVAL_BATCH_SIZE = 4096  # without gradients a larger batch only saves time; the figures do not depend on it


class Batch(NamedTuple):
    """What every loader here yields.

    `x`: (N, D) features, dense or sparse CSR; `target`: (N,) class numbers; `rows`: (N,) numbers of the rows within
    their split, so that reports can name a row and several processes can put rows back in order.
    """

    x: Tensor
    target: Tensor
    rows: Tensor


class Draw(NamedTuple):
    """What the sampler asks a dataset for: these rows (N,), in this epoch.

    Every so many batches `upcoming` announces what the coming draws will ask for, these rows first: a dataset may
    collect them in one go. Nothing but speed depends on it.
    """

    rows: Tensor
    epoch: int
    upcoming: Tensor | None = None


class EpochBatches(DistributedSampler):
    """Yields one `Draw` per batch: this process's share of the batch's rows.

    Args:
        num_rows: rows in the split.
        batch_size: rows of a global batch, that is, over all processes together. The last one may be smaller.
        shuffle: new order every epoch; False keeps the rows in order, for validation and test.
        seed: of the order.
        rank: number of this process.
        world_size: number of processes; this one takes rows rank, rank + world_size, ... of every global batch, which
            leaves it with an empty share where a last batch has fewer rows than there are processes.
        weights: (num_rows,) relative probabilities to draw rows with replacement instead of each row once.
        strata: (num_rows,) class numbers, to shuffle so that every batch holds each class in the proportion that all
            rows do, as nearly as whole rows allow (stratified sampling: Zhao and Zhang, arXiv 1405.3080). The
            gradients of such batches differ less from each other, so that fewer epochs are needed.
    """

    # A DistributedSampler by name, because Lightning replaces any other sampler by one that pads with repeated rows;
    # nothing of the base class but set_epoch is used, which Lightning calls before each epoch.
    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        weights: Tensor | None = None,
        strata: Tensor | None = None,
    ) -> None:
        super().__init__(range(num_rows), num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.num_rows, self.batch_size, self.weights, self.strata = num_rows, batch_size, weights, strata
        self.first_batch = 0  # set by a resume in mid-epoch: batches already done

    def __len__(self) -> int:
        return -(-self.num_rows // self.batch_size)

    def order(self) -> Tensor:
        """All rows in this epoch's order, (num_rows,)."""
        if not self.shuffle:
            return torch.arange(self.num_rows)
        # One number out of (seed, epoch), spread by the generator itself; no two epochs of two nearby seeds collide.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is not None:
            return torch.multinomial(self.weights, self.num_rows, replacement=True, generator=generator)
        order = torch.randperm(self.num_rows, generator=generator)
        if self.strata is None:
            return order
        # Spread each class over the epoch: of n rows the k-th (from 0) comes at a random point in [k / n, (k + 1) / n).
        order = order[self.strata[order].argsort(stable=True)]  # class by class
        sizes = self.strata.bincount()
        k = torch.arange(self.num_rows) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        point = (k + torch.rand(self.num_rows, generator=generator)) / sizes.repeat_interleave(sizes)
        return order[point.argsort(stable=True)]

    def __iter__(self) -> Iterator[Draw]:  # type: ignore[override]
        # A generator: the order is computed at the first batch, after set_epoch, and not when the loader is set up.
        order = self.order()
        first, self.first_batch = self.first_batch, 0
        starts = range(first * self.batch_size, self.num_rows, self.batch_size)
        for number in range(0, len(starts), AHEAD):
            shares = [
                order[start : start + self.batch_size][self.rank :: self.num_replicas]
                for start in starts[number : number + AHEAD]
            ]
            yield Draw(shares[0], self.epoch, upcoming=torch.cat(shares))
            yield from (Draw(rows, self.epoch) for rows in shares[1:])


class EpochLoader(DataLoader):
    """A DataLoader over `EpochBatches` that can be resumed in the middle of an epoch.

    Lightning stores `state_dict` in the checkpoint and gives it back to `load_state_dict` on resume.
    """

    # Lightning makes a copy of a loader for `predict`, from its attributes: hence the keywords.
    def __init__(self, dataset: Dataset, *, sampler: EpochBatches, batch_size: None = None, **options: Any) -> None:
        super().__init__(dataset, sampler=sampler, batch_size=batch_size, **options)
        self.batches, self.done = sampler, 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator again: worker processes start, and prefetch, only after Lightning has set the epoch.
        self.done = self.batches.first_batch
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches of this epoch are done; 0 at its end, for the next one starts from its first batch."""
        return {"batches_done": self.done % len(self.batches) if len(self.batches) else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches that the interrupted epoch had done."""
        self.batches.first_batch = state["batches_done"]


class Rows(Dataset):
    """Rows that are cut into a batch all at once, by a tensor of row numbers instead of one by one.

    Args:
        cut: from a `Draw` to the features x of its rows, (N, D).
        target: (num_rows,) class numbers.
    """

    def __init__(self, cut: Callable[[Draw], Tensor], target: Tensor) -> None:
        self.cut, self.target = cut, target

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, draw: Draw | int) -> Batch:
        if isinstance(draw, int):  # the Trainer's overfit_batches puts its own sampler in, which asks row by row
            draw = Draw(torch.tensor([draw]), epoch=0)
        return Batch(self.cut(draw), self.target[draw.rows], draw.rows)


class RowsDataModule(L.LightningDataModule):
    """The four loaders over whatever `rows(split)` gives; the datamodules of this folder add the data.

    A subclass offers, all of them known before training starts, so that train.py can hand them to the model:
    `num_features` D, `num_classes` K, `class_names` (K names), `class_counts` (training rows of each class) and
    `feature_names`; `rows(split)` for "train", "val", "test" and "predict"; and `describe(rows, split)`, what a
    report writes about rows of the test or the predict split.

    Args:
        batch_size: rows per update, over all devices together.
        seed: of the split, the order of the rows and whatever else is drawn.
        num_workers: processes that cut batches; 0 is fastest, since the rows are in memory.
        stratified_batches: shuffle training rows so that every batch holds each class in its proportion.
    """

    def __init__(self, batch_size: int, seed: int, num_workers: int = 0, stratified_batches: bool = False) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {num_workers}")
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.stratified_batches = stratified_batches

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, *, weights_only: bool | None = True, **options: Any
    ) -> Any:
        """As in Lightning, but always with weights_only=True, so that nothing in the file is run.

        Raises:
            ValueError: weights_only=False was asked for.
            pickle.UnpicklingError: the file holds more than tensors and plain values.
        """
        if weights_only is False:
            raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
        return super().load_from_checkpoint(checkpoint_path, weights_only=True, **options)

    def rows(self, split: str) -> Rows:
        """The rows of a split: "train", "val", "test" or "predict"."""
        raise NotImplementedError

    def train_weights(self) -> Tensor | None:
        """Probabilities to draw training rows with, (N,); None takes each row once per epoch."""
        return None

    def train_dataloader(self) -> EpochLoader:
        """Training rows in an order drawn from (seed, epoch)."""
        return self._loader("train", shuffle=True, weights=self.train_weights())

    def val_dataloader(self) -> EpochLoader:
        """Validation rows, each exactly once whatever the number of devices."""
        return self._loader("val")

    def test_dataloader(self) -> EpochLoader:
        """Test rows, each exactly once."""
        return self._loader("test")

    def predict_dataloader(self) -> EpochLoader:
        """Rows to predict, each exactly once."""
        return self._loader("predict")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """What Lightning would do as well, but by a search through all that a batch could be, at every step."""
        if device.type == "mps" and batch.x.layout == torch.sparse_csr:  # Apple's GPUs have no CSR tensors
            batch = batch._replace(x=batch.x.to_dense())
        return Batch(*(part.to(device) for part in batch))

    def _loader(self, split: str, shuffle: bool = False, weights: Tensor | None = None) -> EpochLoader:
        rows = self.rows(split)
        batches = EpochBatches(
            len(rows),
            self.batch_size if split == "train" else max(self.batch_size, EVAL_BATCH_SIZE),
            shuffle=shuffle,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            weights=weights,
            strata=rows.target if shuffle and self.stratified_batches else None,
        )
        return EpochLoader(rows, sampler=batches, num_workers=self.num_workers)
