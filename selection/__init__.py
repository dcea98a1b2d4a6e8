"""Model selection: a configuration as a scikit-learn estimator, and commands over scikit-learn's loops and Optuna."""

import cli  # noqa: F401 - first, as with it Ctrl-C during the imports of `python -m selection...` is one line
from selection.estimator import LightningClassifier

__all__ = ["LightningClassifier"]
