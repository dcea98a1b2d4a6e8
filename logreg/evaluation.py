"""Loss and metrics of one split, for every model alike."""

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.utilities import dim_zero_cat

SAMPLE = 100_000  # rows that a sample of a split holds at most, over all processes


class Evaluation(nn.Module):
    """Loss and metrics of the rows of one split, exact over all batches and all processes.

    `{split}/loss` is the mean negative log-likelihood, class weights included. `{split}/objective`, what training
    minimises, adds the penalty. The penalty grows with W: the epoch with the lowest objective can be an early, unsteady
    one, and the model that predicts best is the one with the lowest loss.

    Args:
        split: "val" or "test", the first half of every metric's name.
        metrics: by name; copied.
    """

    def __init__(self, split: str, metrics: Mapping[str, Metric]) -> None:
        super().__init__()
        self.split = split
        self.loss = MeanMetric(nan_strategy="disable")  # the default leaves NaN out, and a diverged model looks fine
        # Groups of metrics that share a state are found from the first batch, which differs from process to process.
        self.metrics = MetricCollection(dict(metrics), prefix=f"{split}/", compute_groups=False).clone()

    def update(self, loss: Tensor, **scores: Any) -> None:
        """Add a batch: its mean loss, its `target`, and what the metrics' `update` takes by name."""
        if len(scores["target"]):  # a process may hold no row of the last batch
            self.loss.update(loss.expand(len(scores["target"])))  # with "disable" torchmetrics drops a weight
            self.metrics.update(**scores)

    def log(self, module: L.LightningModule, penalty: Tensor | None = None) -> None:
        """Log all of it through `module` at the end of an epoch, and start afresh."""
        loss = self.loss.compute()
        values = {f"{self.split}/loss": loss, **self.metrics.compute()}
        if penalty is not None:
            values[f"{self.split}/objective"] = loss + penalty
        self.loss.reset()
        self.metrics.reset()
        on_bar = (f"{self.split}/loss", f"{self.split}/accuracy")
        for name, value in values.items():
            # Equal on all processes by now; without sync_dist Lightning warns that it might not be.
            module.log(name, value, prog_bar=name in on_bar, sync_dist=True)

    def log_at(self, module: L.LightningModule, metric: str, group: str, **chosen: float) -> None:
        """Log a `Collected` metric at a number chosen on validation rows, and that number, as `{split}_{group}/...`."""
        collected: Any = self.metrics[metric]
        values = collected.compute_at(*chosen.values()) | {name: torch.tensor(v) for name, v in chosen.items()}
        module.log_dict({f"{self.split}_{group}/{name}": value for name, value in values.items()}, sync_dist=True)


def multiclass_metrics(num_classes: int) -> dict[str, Metric]:
    """Accuracy, and the mean of the classes' F1 scores."""
    accuracy = MulticlassAccuracy(num_classes, average="micro")
    return {"accuracy": accuracy, "macro_f1": MulticlassF1Score(num_classes, average="macro")}


class Collected(Metric):
    """A metric that keeps columns of all rows, one tensor for each batch."""

    full_state_update = False
    columns: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        for name in self.columns:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def add(self, *columns: Tensor) -> None:
        """Keep rows of a batch."""
        for name, column in zip(self.columns, columns, strict=True):
            getattr(self, name).append(column)

    def rows(self) -> list[Tensor]:
        """The columns of the rows of this process; within `compute`, of all processes."""
        return [dim_zero_cat(getattr(self, name)) for name in self.columns]

    def gather(self) -> list[Tensor]:
        """The columns of the rows of all processes; not within `compute`."""
        with self.sync_context(should_sync=self._to_sync):
            return self.rows()


class Sampled(Collected):
    """A metric that keeps columns of all rows up to `SAMPLE`, and beyond of a random sample of them.

    Memory does not grow with the rows. A row is kept with a probability that is 1 at first, and halved whenever rows
    are too many, for those that are there as well. The draws are the same in every epoch.
    """

    def add(self, *columns: Tensor) -> None:
        """Keep those rows of a batch that are in the sample."""
        batches = list(zip(*(getattr(self, name) for name in self.columns), strict=True))
        if not batches:
            several = dist.is_available() and dist.is_initialized()
            rank, processes = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
            self._share, self._limit, self._random = 1.0, SAMPLE // processes, torch.Generator().manual_seed(rank)
        batches.append(self._drawn(columns, self._share))
        while sum(len(batch[0]) for batch in batches) > self._limit:
            self._share /= 2
            batches = [self._drawn(batch, 0.5) for batch in batches]
        for name, column in zip(self.columns, zip(*batches, strict=True), strict=True):
            setattr(self, name, [*column])

    def _drawn(self, batch: tuple[Tensor, ...], share: float) -> tuple[Tensor, ...]:
        """This share of the rows."""
        if share == 1:
            return batch
        kept = (torch.rand(len(batch[0]), generator=self._random) < share).to(batch[0].device)
        return tuple(column[kept] for column in batch)
