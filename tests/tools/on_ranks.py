"""Run `train.py` in one or several processes, and let each of them write down what it did.

python tests/tools/on_ranks.py JOBS.json

JOBS.json is a list of jobs, {"ranks": 2, "arguments": ["fit", "--config", ...], "dense": false}, run one after another.
Every process is forked from this one, which has imported everything. "dense" lets the model believe that its backend
cannot add sparse tensors, as NCCL can't. The first job that fails ends the script with its output.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import sklearn.feature_extraction.text
import sklearn.metrics  # noqa: F401 - so that the forked processes need not
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))

from forked_cli import run_cli

import logreg.distributed


class Notes(L.Callback):
    """Leaves notes_RANK.pt in the run directory: the rows of each batch, and what the model had become."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[int]]] = {"train": [], "val": [], "test": [], "predict": []}
        self.collectives: list[Counter[str]] = []  # called in each step, DDP's own left out, which are not Python's

    def setup(self, trainer: L.Trainer, model: L.LightningModule, stage: str) -> None:
        for name in ("all_reduce", "broadcast", "all_gather", "all_gather_object", "barrier"):
            setattr(dist, name, self.counted(getattr(dist, name)))

    def counted(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            for step in self.collectives[-1:]:
                step[collective.__name__] += 1
            return collective(*arguments, **options)

        return count

    def on_train_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        self.rows["train"].append(batch.indices.tolist())
        self.collectives.append(Counter())

    def on_validation_start(self, *_: Any) -> None:
        """Only the last validation is of interest."""
        self.rows["val"] = []

    def on_validation_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        self.rows["val"].append(batch.indices.tolist())

    def on_test_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        self.rows["test"].append(batch.indices.tolist())

    def on_predict_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        self.rows["predict"].append(batch.indices.tolist())

    def teardown(self, trainer: L.Trainer, model: L.LightningModule, stage: str) -> None:
        """Write it all."""
        softmax = type(model).__name__ == "SoftmaxRegression"  # not imported: it may be deleted with its task
        notes = {
            "steps": trainer.global_step,
            "rows": self.rows,
            "collectives": [dict(step) for step in self.collectives],
            "weights": {name: value.detach().clone() for name, value in model.named_parameters()},
            "threshold": model.decision.threshold if softmax else None,
            "sparse": model.W.sparse if softmax else None,
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        run = Path(trainer.default_root_dir)
        run.mkdir(parents=True, exist_ok=True)
        torch.save(notes, run / f"notes_{trainer.global_rank}.pt")


def without_sparse_allreduce() -> None:
    """Let the model believe that the backend of torch.distributed is NCCL."""

    class Backend:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: "nccl") if name == "get_backend" else getattr(dist, name)

    logreg.distributed.dist = Backend()  # type: ignore[assignment]


def main() -> None:
    """The command line."""
    jobs = Path(sys.argv[1])
    for number, job in enumerate(json.loads(jobs.read_text())):
        log = jobs.with_name(f"job_{number}.log")
        arguments = [*job["arguments"], "--trainer.callbacks", "on_ranks.Notes", "--trainer.accelerator", "cpu"]
        first = without_sparse_allreduce if job.get("dense") else lambda: None
        statuses = run_cli(arguments, log, job["ranks"], first)
        if any(statuses):
            sys.exit(f"{job}: statuses {statuses}\n{log.read_text()[-3000:]}")


if __name__ == "__main__":
    main()
