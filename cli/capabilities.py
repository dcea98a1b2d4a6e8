"""Capabilities: what folders beside the core add to a run; a folder that is not there adds nothing."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

CAPABILITIES: list[tuple[str, str]] = [  # section of the configuration, subcommand or option, and what belongs to it
    ("figures", "callbacks.figures.evaluation.Figures"),
    ("fit", "callbacks.reports.data.DataReport"),
    ("fit", "callbacks.reports.coefficients.CoefficientsWriter"),
    ("fit", "callbacks.reports.summary.HyperparameterSummary"),
    ("test", "callbacks.reports.evaluation.EvaluationReport"),
    ("predict", "callbacks.reports.predictions.PredictionWriter"),
    ("folds", "selection.refit.choose_by_folds"),
]


def is_there(folder: str) -> bool:
    """Whether a folder is a package, and not a mere leftover such as __pycache__."""
    return getattr(find_spec(folder), "origin", None) is not None


def additions_to(place: str) -> list[Any]:
    """The classes of callbacks, or the functions, for a section, a subcommand or an option."""
    paths = [path.rsplit(".", 2) for where, path in CAPABILITIES if where == place]
    return [getattr(import_module(f"{folder}.{file}"), name) for folder, file, name in paths if is_there(folder)]
