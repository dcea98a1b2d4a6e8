"""Batches: the same samples in each after a resume, and on one device or many; `datamodules.sampler` orders them."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from checkpoint_file import load_checkpoint
from datamodules.sampler import BatchIndices, ResumableBatchSampler, StatefulDataLoader

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


class BatchedDataset(Dataset):
    """A dataset that is indexed by whole batches.

    Args:
        gather: from a `BatchIndices` to the features of these samples, (N, D), dense or sparse CSR.
        target: (num_samples,) class numbers, -1 where unknown; int32 takes half the memory, and batches have int64.
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
        target = target.long() if target.dtype == torch.int32 else target
        target.global_batch_size = batch.global_batch_size  # type: ignore[attr-defined]
        found = Batch(self.gather(batch), target, batch.indices)
        return found if self.weight is None else WeightedBatch(*found, self.weight[batch.indices])  # type: ignore


class BatchedDataModule(L.LightningDataModule):
    """A LightningDataModule whose batches are the same after a resume, and on one device or many.

    A subclass must offer:
        dataset(split): a `BatchedDataset` for "train", "val", "test" and "predict".
        class_names: the names of the K classes, a list of plain str.

    It may offer, after `setup`:
        num_features: D; by default the width of the first training sample.
        class_counts: training samples of each class, K integers, for models that weigh the classes.
        feature_names: what reports and pictures call the features, a list of plain str.
        oos_class: number of the class that means "none of the others", or None.

    It may replace `num_classes`, `describe`, `train_weights`, `require_known_rows`, `eval_batch_size`, and both of
    `state_dict` and `load_state_dict`, which must extend the inherited ones: these keep `trains_on_validation`, what
    `refit` did. It may add what reports, pictures or use without a Trainer need, such as `points` and `transform`, or
    `encode`.

    `prepare_data` fetches, `setup` reads, splits and encodes, each at most once; the command line calls both before it
    builds a model of these sizes. A checkpoint's state, taken before, replaces what `setup` would learn from the rows.
    At its end `setup` may call `report_oddities`, which prints the lines of `oddities`.

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
        self._reported: set[str] = set()  # stages

    def __str__(self) -> str:
        """Without Lightning's list of loaders, for which the data would be read once more."""
        return type(self).__name__

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no {name}; if setup makes it, call .setup('fit') first")

    def dataset(self, split: str) -> BatchedDataset:
        """The samples of a split: "train", "val", "test" or "predict"."""
        raise NotImplementedError

    def oddities(self, stage: str) -> list[str]:
        """Likely mistakes in the data of a stage, in one line each."""
        return []

    def report_oddities(self, stage: str) -> None:
        """Print them on standard error, once; for `setup` to call at its end."""
        for line in self.oddities(stage) if stage not in self._reported else ():
            rank_zero_only(print)(line, file=sys.stderr)
        self._reported.add(stage)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_features(self) -> int:
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
        """Learn whether the validation samples were trained on; a ValueError refuses the state of another version."""
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
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", weights_only: bool | None = True, **options: Any
    ) -> Any:
        """Build the datamodule from the caller's options, and restore its state from the file.

        Unlike Lightning's own, it never runs, imports or instantiates anything that the file names.

        Raises:
            ValueError: weights_only=False, or a file that holds more than tensors and plain values, or no state of such
                a datamodule.
        """
        if weights_only is False:
            raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
        return cls.from_checkpoint(load_checkpoint(checkpoint_path), **options)

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], **options: Any) -> Any:
        """Likewise, from what a checkpoint file holds."""
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
