"""Run `train.py` in one or several processes, and let each of them write down what it did.

python tests/on_ranks.py JOBS.json

JOBS.json is a list of jobs, {"ranks": 2, "arguments": ["fit", "--config", ...], "dense": false}, run one after another.
Every process is forked from this one, which has imported everything. "dense" lets the model believe that its backend
cannot add sparse tensors, as NCCL can't. The first job that fails ends the script with its output.
"""

import faulthandler
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import lightning as L
import sklearn.feature_extraction.text
import sklearn.metrics  # noqa: F401 - so that the forked processes need not
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)

import logreg.distributed  # noqa: E402 - only now can it be found
import train  # noqa: E402
from datamodules.tabular import TabularDataModule  # noqa: E402


class Table(TabularDataModule):
    """Clouds of points, as many as you like; 1,025 for validation and 1,027 for the test.

    Both are one batch of 1,024 and a bit, so that of two processes one has more rows than the other, or all.
    """

    def __init__(self, num_rows: int, num_classes: int, batch_size: int = 256, seed: int = 1) -> None:
        super().__init__(batch_size, seed)
        self.num_rows, self.class_names = num_rows, [f"cloud {number}" for number in range(num_classes)]
        self.feature_names = ["x1", "x2", "x3"]

    def load(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw them."""
        generator = torch.Generator().manual_seed(self.seed)
        centres = 2 * torch.randn(self.num_classes, 3, generator=generator)
        splits = {}
        for split, rows in (("train", self.num_rows), ("val", 1025), ("test", 1027)):
            target = torch.randint(self.num_classes, (rows,), generator=generator)
            splits[split] = centres[target] + torch.randn(rows, 3, generator=generator), target
        return splits


class Notes(L.Callback):
    """Leaves notes_RANK.pt in the run directory: the rows of each batch, and what the model had become."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[int]]] = {"train": [], "val": [], "test": [], "predict": []}

    def on_train_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        """Note the rows."""
        self.rows["train"].append(batch.rows.tolist())

    def on_validation_start(self, *_: Any) -> None:
        """Only the last validation is of interest."""
        self.rows["val"] = []

    def on_validation_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        """Note the rows."""
        self.rows["val"].append(batch.rows.tolist())

    def on_test_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        """Note the rows."""
        self.rows["test"].append(batch.rows.tolist())

    def on_predict_batch_start(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, *_: Any) -> None:
        """Note the rows."""
        self.rows["predict"].append(batch.rows.tolist())

    def teardown(self, trainer: L.Trainer, model: L.LightningModule, stage: str) -> None:
        """Write it all."""
        notes = {
            "steps": trainer.global_step,
            "rows": self.rows,
            "weights": {name: value.detach().clone() for name, value in model.named_parameters()},
            "threshold": getattr(model, "threshold", None),
            "sparse": getattr(getattr(model, "table", None), "sparse", None),
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        run = Path(trainer.default_root_dir)
        run.mkdir(parents=True, exist_ok=True)
        torch.save(notes, run / f"notes_{trainer.global_rank}.pt")


def run(arguments: list[str], log: Path, ranks: int, dense: bool) -> list[int]:
    """`train.py` with these arguments in forked processes; returns their statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1), os.dup2(output, 2)
            faulthandler.enable()  # in DDP a crash below Python would leave no trace but a broken connection
            sys.argv = ["train.py", *arguments, "--trainer.callbacks", "on_ranks.Notes", "--trainer.accelerator", "cpu"]
            if ranks > 1:
                sys.argv += ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]
                rank_zero_only.rank = rank  # a fresh process would have read it from LOCAL_RANK while importing
                os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            if dense:

                class Backend:  # what torch.distributed looks like where the backend is NCCL
                    def __getattr__(self, name: str) -> Any:
                        return (lambda *_: "nccl") if name == "get_backend" else getattr(dist, name)

                logreg.distributed.dist = Backend()  # type: ignore[assignment]
            train.main()
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:
            import traceback

            traceback.print_exc()
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
    return [os.waitpid(child, 0)[1] for child in children]


def main() -> None:
    """The command line."""
    jobs = Path(sys.argv[1])
    for number, job in enumerate(json.loads(jobs.read_text())):
        log = jobs.with_name(f"job_{number}.log")
        statuses = run(job["arguments"], log, job["ranks"], job.get("dense", False))
        if any(statuses):
            sys.exit(f"{job}: statuses {statuses}\n{log.read_text()[-3000:]}")


if __name__ == "__main__":
    main()
