"""Batches: the same samples in each after a resume, and on one device or many.

The order of the samples is a pure function of (seed, epoch). A run that is killed and resumed therefore sees the
batches it would have seen, and several processes that each take every world_size-th sample of a global batch see,
together, exactly the batches of a single process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from checkpoint_file import load_checkpoint

PREFETCH_BATCHES = 16  # announced together, so that a dataset can gather them with one indexing call
FORMAT_VERSION = 1  # of the state that a datamodule keeps in a checkpoint
MAX_SEED = 2**32 - 1  # numpy's, and so scikit-learn's and Lightning's
WITHOUT_CSR = {"mps"}  # kinds of device: Apple's GPUs have no CSR tensors, and spoil copies that nobody waits for
LARGEST_DENSE = 2**28  # numbers of an evaluation batch there, 1 GB: one of 4,096 rows of 10⁶ features would take 16


class Batch(NamedTuple):
    """What every loader here yields.

    Attributes:
        x: (N, D) features, dense or sparse CSR.
        target: (N,) class numbers, -1 where unknown.
        indices: (N,) positions of the samples within their split, by which reports name a sample and several processes
            restore its place; on the CPU.
    """

    x: Tensor
    target: Tensor
    indices: Tensor


class WeightedBatch(NamedTuple):
    """A `Batch` whose rows count by `weight`, (N,), in the loss."""

    x: Tensor
    target: Tensor
    indices: Tensor
    weight: Tensor


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


def on_device(x: Tensor, device: torch.device) -> Tensor:
    """A copy there, which nobody has to wait for; dense where the device has no CSR tensors."""
    if device.type in WITHOUT_CSR:
        return (x.to_dense() if x.layout == torch.sparse_csr else x).to(device)
    return x.to(device, non_blocking=True)


def parts_on_device(x: Tensor, device: torch.device) -> Iterator[Tensor]:
    """x (N, D), dense or sparse CSR, there; in several parts where it becomes dense and would be too large."""
    if device.type not in WITHOUT_CSR or x.layout != torch.sparse_csr:
        yield on_device(x, device)
        return
    bounds, rows = x.crow_indices(), max(1, LARGEST_DENSE // x.shape[1])
    for start in range(0, max(len(x), 1), rows):
        part = bounds[start : start + rows + 1]
        cells, size = slice(int(part[0]), int(part[-1])), (len(part) - 1, x.shape[1])
        columns, values = x.col_indices()[cells], x.values()[cells]
        yield on_device(torch.sparse_csr_tensor(part - part[0], columns, values, size, check_invariants=False), device)


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
        weights: (num_samples,) relative probabilities to draw samples with replacement, instead of each sample once.
        strata: (num_samples,) class numbers, to shuffle so that every batch holds each class in its overall proportion,
            up to rounding (stratified sampling: Zhao and Zhang 2014, https://arxiv.org/abs/1405.3080). The gradients of
            such batches vary less, so fewer epochs are needed.
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
        super().__init__(range(num_samples), num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.num_samples, self.batch_size, self.weights, self.strata = num_samples, batch_size, weights, strata
        self.start_batch = 0  # where the next epoch starts; not 0 only after a resume in the middle of an epoch

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def order(self) -> Tensor:
        """All samples in this epoch's order, (num_samples,)."""
        if not self.shuffle:
            return torch.arange(self.num_samples)
        random = generator(self.seed, self.epoch)
        if self.weights is not None:
            return torch.multinomial(self.weights, self.num_samples, replacement=True, generator=random)
        order = torch.randperm(self.num_samples, generator=random)
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
            batches = [whole[self.rank :: self.num_replicas] for whole in wholes]
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

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
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
        """Skip the batches that the interrupted epoch had done.

        Raises:
            ValueError: not a number of batches that an epoch has.
        """
        done = state["batches_yielded"]
        if not 0 <= done < max(len(self), 1):
            raise ValueError(f"batches_yielded: expected at least 0 and below {len(self)}, got {done}")
        self.sampler.start_batch = done


class BatchedDataset(Dataset):
    """A dataset that is indexed by whole batches.

    Args:
        gather: from a `BatchIndices` to the features of these samples, (N, D), dense or sparse CSR.
        target: (num_samples,) class numbers, -1 where unknown.
        weight: (num_samples,) by which the samples count in the loss; None counts each once.
    """

    def __init__(self, gather: Callable[[BatchIndices], Tensor], target: Tensor, weight: Tensor | None = None) -> None:
        self.gather, self.target, self.weight = gather, target, weight

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, batch: BatchIndices | int) -> Batch:
        if isinstance(batch, int):  # a single sample is a batch of one
            batch = BatchIndices(torch.tensor([batch]), epoch=0)
        target = self.target[batch.indices]
        target.global_batch_size = batch.global_batch_size  # type: ignore[attr-defined]
        found = Batch(self.gather(batch), target, batch.indices)
        return found if self.weight is None else WeightedBatch(*found, self.weight[batch.indices])  # type: ignore


class BatchedDataModule(L.LightningDataModule):
    """A LightningDataModule whose batches are the same after a resume, and on one device or many.

    A subclass must offer:
        dataset(split): a `BatchedDataset` for "train", "val", "test" and "predict".
        class_names: the names of the K classes, a list of plain str; attribute or property.

    It may replace:
        num_classes: K; by default len(class_names).
        num_features: D; by default the width of the first training sample.
        require_known_rows(split): refuse rows that do not go with a restored state; by default all do.
        describe(indices, split): what reports write about these samples of a split, "predict" among them, one dict
            for each; by default [{"row": index}, ...].
        train_weights(): (num_samples,) probabilities to draw training samples with; by default None.
        state_dict(), load_state_dict(state): what a checkpoint keeps of the data, in plain values and tensors; both
            must extend the inherited ones, which keep and check the format version.
        eval_batch_size: samples per batch outside training.

    Its dataset("train") may ask trains_on_validation: whether the validation samples belong to it, as after `refit`.

    It may add, where it has them:
        class_counts: training samples of each class, K integers, for models that weigh the classes.
        feature_names: what reports and pictures call the features, a list of plain str.
        oos_class: number of the class that means "none of the others", or None.
        points(split), transform(x): raw points, and how to make the model's x of them, for pictures.
        encode(inputs): what a user has, sentences or rows, to the model's x (N, D), for use outside of a Trainer.
        sklearn_transformer(): the fitted scikit-learn transformer that does the same, to export it.

    The command line reads num_features, num_classes, class_names, class_counts and oos_class right after the
    constructor, before there is a Trainer.

    Args:
        batch_size: samples per update, over all devices together.
        seed: of everything that is drawn at random; null takes the run's own (seed_everything), or else 42.
        stratified_batches: shuffle so that every training batch holds each class in the proportion that all training
            samples do, instead of leaving it to chance: with many classes fewer epochs are needed.
        refit: train on the validation samples as well, and validate on none: for a last fit, once all is chosen. What
            `train.py fit --refit true` sets.

    Raises:
        ValueError: an option out of its range.
    """

    class_names: Sequence[str]
    # Without gradients a larger batch only saves time; the metrics do not depend on it. Lower it if memory is short.
    eval_batch_size = 4096

    def __init__(
        self, batch_size: int = 256, seed: int | None = None, stratified_batches: bool = False, refit: bool = False
    ) -> None:
        super().__init__()
        seed = int(os.environ.get("PL_GLOBAL_SEED", 42)) if seed is None else seed
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed must be at least 0 and at most {MAX_SEED}, got {seed}")
        self.batch_size, self.seed, self.stratified_batches = batch_size, seed, stratified_batches
        self.refit = refit
        self._was_refit = False  # whether a checkpoint was trained on the validation samples as well

    def __str__(self) -> str:
        """Without Lightning's list of loaders, for which the data would be read or fetched once more."""
        return type(self).__name__

    def dataset(self, split: str) -> BatchedDataset:
        """The samples of a split: "train", "val", "test" or "predict"."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def num_features(self) -> int:
        """D."""
        return self.dataset("train")[0].x.shape[1]

    def require_known_rows(self, split: str) -> None:
        """Refuse rows of "train", "val" or "test" with a ValueError, if a restored state does not go with them."""

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        """What reports write about these samples of a split, one dict for each."""
        return [{"row": int(index)} for index in indices]

    def train_weights(self) -> Tensor | None:
        """Relative probabilities to draw training samples with, (num_samples,); None takes each once per epoch."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"format_version": FORMAT_VERSION} | ({"refit": True} if self.trains_on_validation else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check the format version, and learn whether the validation samples were trained on.

        Raises:
            ValueError: another version of this project wrote the state.
        """
        version = state.get("format_version")
        if version != FORMAT_VERSION:
            age = "a later" if isinstance(version, int) and version > FORMAT_VERSION else "an earlier"
            raise ValueError(
                f"the checkpoint was written by {age} version of this project "
                f"(format {version!s:.100}, this one reads {FORMAT_VERSION}): train again"
            )
        self._was_refit = state.get("refit", False)

    @property
    def trains_on_validation(self) -> bool:
        """Whether the training samples are all but those of the test: by `refit`, or in a checkpoint that had it."""
        return self.refit or self._was_refit

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = "cpu",
        hparams_file: Any = None,
        weights_only: bool | None = True,
        **options: Any,
    ) -> Any:
        """Build the datamodule from the caller's options, and restore its state from the file.

        Unlike Lightning's own, it never runs, imports or instantiates anything that the file names.

        Raises:
            ValueError: weights_only=False, an hparams_file, or a file that holds more than tensors and plain values, or
                no state of such a datamodule.
        """
        if weights_only is False:
            raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
        if hparams_file is not None:
            raise ValueError("expected no hparams_file: give the datamodule's options by name")
        return cls.from_checkpoint(load_checkpoint(checkpoint_path), **options)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], **options: Any) -> Any:
        """Build the datamodule from the caller's options, and restore its state from what a checkpoint file holds.

        Raises:
            ValueError: no state of such a datamodule.
        """
        if cls.__qualname__ not in checkpoint:
            raise ValueError(f"expected a checkpoint with the state of a {cls.__qualname__}, got one without")
        if cls.CHECKPOINT_HYPER_PARAMS_KEY in checkpoint:
            raise ValueError(f"expected no {cls.CHECKPOINT_HYPER_PARAMS_KEY}: give the datamodule's options by name")
        data = cls(**options)
        data.load_state_dict(checkpoint[cls.__qualname__])
        return data

    def train_dataloader(self) -> DataLoader:
        """Training samples, in an order drawn from (seed, epoch)."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """Validation samples, each exactly once on any number of devices; none where they are trained on."""
        return [] if self.trains_on_validation else self._loader("val")  # type: ignore[return-value]

    def test_dataloader(self) -> DataLoader:
        """Test samples, each exactly once."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader:
        """Samples to predict, each exactly once."""
        return self._loader("predict")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """All but the indices go to the device: those are for reports, and for them nobody has to wait."""
        target = on_device(batch.target, device)
        target.global_batch_size = getattr(batch.target, "global_batch_size", None)  # type: ignore[attr-defined]
        moved = batch._replace(x=on_device(batch.x, device), target=target)
        return moved._replace(weight=on_device(batch.weight, device)) if isinstance(batch, WeightedBatch) else moved

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        dataset = self.dataset(split)
        if split != "predict" and len(dataset):  # once, and not in every step's loss, which would wait for a GPU
            low, high = dataset.target.aminmax()
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"{split}: expected targets 0 to {self.num_classes - 1}, got {low} to {high}")
        batch_size = self.batch_size if split == "train" else max(self.batch_size, self.eval_batch_size)
        if split != "train" and self.trainer and self.trainer.strategy.root_device.type in WITHOUT_CSR:
            batch_size = min(batch_size, max(1, LARGEST_DENSE // self.num_features))
        sampler = ResumableBatchSampler(
            len(dataset),
            batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
            weights=self.train_weights() if shuffle else None,
            strata=dataset.target if shuffle and self.stratified_batches else None,
        )
        limit = self.trainer.limit_train_batches if self.trainer and split == "train" else 1.0
        loader = StatefulDataLoader(dataset, sampler=sampler, limit=limit)
        if self.trainer and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            # Lightning wants the same batches in every epoch, and would replace any sampler that may shuffle by one
            # that yields single samples. Of a list of batches it takes the first ones.
            return DataLoader(list(loader), batch_size=None)  # type: ignore[arg-type]
        return loader
