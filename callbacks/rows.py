"""The collector of a split's rows, batch by batch on every process, for reports and pictures.

N rows of a batch, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from callbacks.protocols import datamodule_of

SAMPLE = 100_000  # rows that a sample of a split holds at most, over all processes


class ClassifiedBatch(NamedTuple):
    """N rows with their predictions."""

    indices: Tensor  # numbers of the rows within their split, (N,)
    target: Tensor | None  # true classes, (N,); None where the batch has none
    label: Tensor  # (N,), as the model's decision rule gives it
    confidence: Tensor  # probability of that label, (N,)
    proba: Tensor  # (N, K)


class RowCollector:
    """Tensors over the rows of a split.

    A batch is `(x, target, indices)`, as the datamodules here yield it, where `indices` (N,) are the numbers of its
    rows within their split. Without them, `(x, target)` or a bare `x`, rows are numbered in the order they come.

    Args:
        reporter: the callback that the rows are for, named where they cannot be numbered.
    """

    def __init__(self, reporter: str) -> None:
        self.reporter = reporter
        self.problem: str | None = None  # the reason for which there are no rows: outputs that are no probabilities
        self._batches: list[tuple[Tensor, ...]] = []
        self.num_rows = 0

    def classify(self, trainer: L.Trainer, model: Any, outputs: Any, batch: Any, step: str) -> ClassifiedBatch | None:
        """A batch with the outputs of a step of a `CLASSIFIER`; None, and a `problem`, unless they are probabilities.

        Raises:
            ValueError: rows without indices, which several processes cannot number.
        """
        x, target, indices = batch_parts(batch)
        shape = (len(x), len(datamodule_of(trainer).class_names))
        if (got := _other_than_probabilities(outputs, shape)) is not None:
            self.problem = self.problem or f"expected {step} to return probabilities (N, K), here {shape}, got {got}"
            return None
        if indices is None:
            if trainer.world_size > 1:
                raise ValueError(
                    f"{self.reporter} expected batches (x, target, indices), got no indices, and several "
                    "processes cannot number their rows without: add them, or use --trainer.devices 1"
                )
            indices = torch.arange(self.num_rows, self.num_rows + len(x))
        self.num_rows += len(x)
        label = model.predict_label(outputs)
        confidence = outputs.gather(1, label.unsqueeze(1)).squeeze(1)
        return ClassifiedBatch(indices, target, label, confidence, outputs)

    def add(self, indices: Tensor, *columns: Tensor) -> None:
        """Keep tensors of N rows each."""
        self._batches.append((indices, *columns))

    def gather(self) -> tuple[Tensor, ...]:
        """Indices and columns, of all batches and processes, by ascending index; empty if there was no row.

        All processes must call it.
        """
        columns = [torch.cat([part.cpu() for part in column]) for column in zip(*self._batches, strict=True)]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            of_process: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(of_process, columns)
            columns = [torch.cat(parts) for parts in zip(*filter(None, of_process), strict=True)]
        self._batches = []
        if not columns or not len(columns[0]):
            return ()
        if bool((columns[0].diff() > 0).all()):  # as one process leaves them; a copy would take as much memory again
            return tuple(columns)
        order = columns[0].argsort()
        return tuple(column[order] for column in columns)


class SampledRows(RowCollector):
    """Likewise of all rows up to `SAMPLE`, and beyond of a random sample of them, which their indices decide.

    An index gives a number in [0, 1), and rows with one below `share` are kept: `share` is 1 at first, and halved
    whenever they are too many.
    """

    def __init__(self, reporter: str) -> None:
        super().__init__(reporter)
        self.share = 1.0

    def add(self, indices: Tensor, *columns: Tensor) -> None:
        """Keep those of N rows that are in the sample."""
        super().add(*self._kept(indices, *columns))
        several = dist.is_available() and dist.is_initialized()
        while sum(len(batch[0]) for batch in self._batches) > SAMPLE // (dist.get_world_size() if several else 1):
            self.share /= 2
            self._batches = [self._kept(*batch) for batch in self._batches]

    def _kept(self, indices: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
        if self.share == 1:
            return (indices, *columns)
        mixed = indices.cpu().long() * 0x9E3779B1 % 2**32  # by two rounds of multiplication, as hash functions do
        mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA6B % 2**32
        kept = mixed ^ (mixed >> 13) < self.share * 2**32
        return tuple(column[kept.to(column.device)] for column in (indices, *columns))


def batch_parts(batch: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x, target and indices of a batch; None for what it lacks."""
    parts = [batch] if isinstance(batch, Tensor) else batch
    if not isinstance(parts, list | tuple) or not 1 <= len(parts) <= 3:
        raise ValueError(f"expected a batch x, (x, target) or (x, target, indices), got a {type(batch).__name__}")
    x, target, indices = (*parts, None, None)[:3]
    return x, target, indices


def _other_than_probabilities(outputs: Any, shape: tuple[int, int]) -> str | None:
    """A description of outputs that are not probabilities of this shape; NaN, as of a diverged model, counts as one."""
    if not isinstance(outputs, Tensor):
        return "None" if outputs is None else f"a {type(outputs).__name__}"
    if outputs.shape != shape or not outputs.is_floating_point():
        return f"a tensor of {tuple(outputs.shape)}, {outputs.dtype}"
    off = (outputs.float().sum(dim=1) - 1).abs() > 0.05  # bfloat16 has two digits
    return "numbers below 0, or rows whose sum is not 1" if bool((outputs < 0).any() or off.any()) else None


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
