"""Pictures and reports; they see a model and its data only through public methods."""

from callbacks.decision_boundary import DecisionBoundary
from callbacks.reports import PredictionWriter, TestReport

__all__ = ["DecisionBoundary", "PredictionWriter", "TestReport"]
