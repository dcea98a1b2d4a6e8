"""Capabilities: callbacks that folders beside the core give to a run; a folder that was deleted gives none."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

CAPABILITIES = [  # section of the configuration, or subcommand, and the callback that belongs to it
    ("figures", "callbacks.figures.evaluation.Figures"),
    ("fit", "callbacks.reports.data.DataReport"),
    ("fit", "callbacks.reports.coefficients.CoefficientsWriter"),
    ("fit", "callbacks.reports.summary.HyperparameterSummary"),
    ("test", "callbacks.reports.evaluation.EvaluationReport"),
    ("predict", "callbacks.reports.predictions.PredictionWriter"),
]


def is_there(folder: str) -> bool:
    """Whether a folder is a package, and not a mere leftover such as __pycache__."""
    return getattr(find_spec(folder), "origin", None) is not None


def callbacks_of(place: str) -> list[Any]:
    """The classes of callbacks for a section or a subcommand."""
    paths = [path.rsplit(".", 2) for where, path in CAPABILITIES if where == place]
    return [getattr(import_module(f"{folder}.{file}"), name) for folder, file, name in paths if is_there(folder)]
