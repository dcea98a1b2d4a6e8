"""Runs train.py's command line in a process of its own, and records how long each of its parts takes.

imports        torch, Lightning and ours; what is imported later belongs to the part that needs it
command line   building the parser, reading the configuration
reading        the files with the data
vectorizing    fitting TF-IDF, or restoring it from a checkpoint; from sentences to rows
training       in fit, and validation apart from it; in test and predict "evaluating"
checkpoints    writing and reading them
reports        what callbacks write after training, while evaluating and after it
pictures       those of the validation rows after training, those of the test rows while evaluating and after it
the rest       of the process, from its start to its end
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc import locate
from typing import Any

import train
from benchmarks.measure import ROOT

REST = "the rest"
METHODS = {
    "command line": (
        "lightning.pytorch.cli.LightningCLI.setup_parser",
        "cli.lightning_cli.TemplateCLI.parse_arguments",
    ),
    "reading": (
        "datamodules.text.clinc150.CLINC150DataModule.load_splits",
        "datamodules.text.sentences.TextDataModule.load_splits",
    ),
    "vectorizing": tuple(
        f"datamodules.text.features.TfidfFeatures.{m}" for m in ("fit_transform", "transform", "load_state_dict")
    ),
    "training": ("lightning.pytorch.Trainer.fit",),
    "validation": tuple(
        f"logreg.classifier_module.ClassifierModule.{m}" for m in ("validation_step", "on_validation_epoch_end")
    ),
    "evaluating": ("lightning.pytorch.Trainer.test", "lightning.pytorch.Trainer.predict"),
    "checkpoints": (
        "callbacks.run.checkpoint_io.AtomicCheckpointIO.save_checkpoint",
        "callbacks.run.checkpoint_io.AtomicCheckpointIO.load_checkpoint",
        "cli.lightning_cli.read_checkpoint",
    ),
    "reports": (
        "callbacks.reports.data.DataReport.on_fit_start",
        "callbacks.reports.coefficients.CoefficientsWriter.on_fit_end",
        "callbacks.reports.summary.HyperparameterSummary.on_fit_end",
        *(f"callbacks.reports.evaluation.EvaluationReport.on_test_{when}" for when in ("batch_end", "end")),
        *(f"callbacks.reports.predictions.PredictionWriter.on_predict_{when}" for when in ("batch_end", "end")),
    ),
    "pictures": tuple(
        f"callbacks.figures.evaluation.Figures.on_{when}" for when in ("fit_end", "test_batch_end", "test_end")
    ),
}


class Stopwatch:
    """Seconds of each part; while a part within another runs, only the inner one's time goes on.

    Args:
        started: on the clock of time.perf_counter.
    """

    def __init__(self, started: float) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running, self._since = [REST], started

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within as that part's."""
        self.switch()
        self._running.append(name)
        try:
            yield
        finally:
            self.switch()
            self._running.pop()

    def switch(self) -> None:
        """Add the time since the last call to the part that runs."""
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now


def measure_parts(arguments: list[str], folder: Path) -> dict[str, float]:
    """Run `train.py arguments...`, its output discarded; returns seconds of each part, which add up to all of it.

    Raises:
        RuntimeError: the command failed; with the end of what it wrote to standard error.
    """
    started, file = time.perf_counter(), folder / "seconds.json"
    command = [sys.executable, "-m", "benchmarks.timed_command", str(started), str(file), *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    total = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended in {process.returncode}: {process.stderr[-2000:]}")
    seconds = json.loads(file.read_text(encoding="utf-8"))
    return seconds | {REST: seconds[REST] + total - sum(seconds.values())}


def main() -> None:
    """In the new process: `STARTED FILE ARGUMENTS...`."""
    _, started, file, *arguments = sys.argv
    stopwatch = Stopwatch(float(started))
    with stopwatch.part("imports"):
        run = train.load_main()
    for name, methods in METHODS.items():
        for method in methods:
            path, _, attribute = method.rpartition(".")
            owner: Any = locate(path)
            setattr(owner, attribute, stopwatch.part(name)(getattr(owner, attribute)))
    sys.argv = ["train.py", *arguments]
    run()
    stopwatch.switch()
    Path(file).write_text(json.dumps(stopwatch.seconds), encoding="utf-8")


if __name__ == "__main__":
    main()
