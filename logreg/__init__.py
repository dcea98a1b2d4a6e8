"""Logistic regression: the mathematics (`logreg.functional`) and the LightningModules around it."""

from importlib import import_module
from typing import Any

# Imported on first use, so that deleting a file deletes one model and nothing else.
_EXPORTS = {
    "BinaryLogit": "binary",
    "LogisticRegression": "binary",
    "OneVsAll": "one_vs_all",
    "SoftmaxRegression": "softmax",
    "NetClassifier": "net_classifier",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"logreg.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'logreg' has no attribute {name!r}")
