"""Model selection: a configuration as a scikit-learn estimator, and commands over scikit-learn's loops and Optuna."""

from selection.estimator import LightningClassifier

__all__ = ["LightningClassifier"]
