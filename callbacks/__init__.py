"""Callbacks and loggers of a run, reports and figures; each is imported on first use."""

from importlib import import_module
from typing import Any

# Imported on first use, so that deleting a file deletes its callbacks and nothing else.
EXPORTS = {
    "AtomicCheckpointIO": "run.checkpoint_io",
    "DecisionBoundary": "figures.boundary",
    "EvaluationReport": "reports.evaluation",
    "Figures": "figures.evaluation",
    "GracefulStop": "run.stopping",
    "LossSurface": "figures.loss_surface",
    "PredictionWriter": "reports.predictions",
    "RelocatableModelCheckpoint": "run.checkpoints",
    "NoProfiler": "run.overhead",
    "ResumableCSVLogger": "run.loggers",
    "KeepEarlyStop": "run.lightning_callbacks",
    "ThrottledProgressBar": "run.overhead",
    "ThrottledTensorBoardLogger": "run.loggers",
    "WeightImages": "figures.weights",
}


def __getattr__(name: str) -> Any:
    if name in EXPORTS:
        return getattr(import_module(f"{__name__}.{EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
