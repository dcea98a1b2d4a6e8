"""Pictures, reports and a run's files; they see a model and its data only through public methods."""

from callbacks.decision_boundary import DecisionBoundary
from callbacks.graceful_stop import GracefulStop
from callbacks.progress_bar import CalmProgressBar
from callbacks.reports import PredictionWriter, TestReport
from callbacks.run_files import CheckpointFiles, MetricsCSV, RunCheckpoint, TensorBoardCurves

__all__ = [
    "CalmProgressBar",
    "CheckpointFiles",
    "DecisionBoundary",
    "GracefulStop",
    "MetricsCSV",
    "PredictionWriter",
    "RunCheckpoint",
    "TensorBoardCurves",
    "TestReport",
]
