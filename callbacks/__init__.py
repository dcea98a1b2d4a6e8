"""Reports, pictures and a run's files. What they need of a model and its data is written in `callbacks.protocols`."""

from importlib import import_module
from typing import Any

# Imported on first use, so that deleting a file deletes its callbacks and nothing else.
EXPORTS = {
    "AtomicCheckpointIO": "checkpoints",
    "DecisionBoundary": "decision_boundary",
    "EvaluationReport": "reports",
    "Figures": "figures",
    "GracefulStop": "graceful_stop",
    "LossSurface": "loss_surface",
    "PredictionWriter": "reports",
    "RelocatableModelCheckpoint": "checkpoints",
    "NoProfiler": "no_profiler",
    "ResumableCSVLogger": "loggers",
    "StayStopped": "stay_stopped",
    "TeachingBoard": "teaching_board",
    "ThrottledProgressBar": "progress_bar",
    "ThrottledTensorBoardLogger": "loggers",
}


def __getattr__(name: str) -> Any:
    if name in EXPORTS:
        return getattr(import_module(f"{__name__}.{EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
