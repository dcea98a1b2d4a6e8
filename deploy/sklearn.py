"""Export of a trained linear model as a fitted scikit-learn Pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from torch import Tensor

from callbacks.files import write_then_rename
from callbacks.protocols import offers
from deploy.classifier import Classifier

try:
    from skops import io
except ModuleNotFoundError as error:
    raise ImportError(f"{error}: pip install -e '.[export]'") from error


def to_sklearn(classifier: Classifier, path: str | Path) -> Pipeline:
    """Write a fitted Pipeline to `path`, which skops.io.load reads, and return it; it predicts as `classifier` does.

    Raises:
        ValueError: the model is not linear, or decides by a rule that scikit-learn has not.
    """
    (W, b), temperature, names = classifier.coefficients, classifier.temperature, classifier.class_names
    if classifier.threshold is not None:
        raise ValueError(
            f"scikit-learn's LogisticRegression has no out-of-scope threshold, the model has "
            f'{classifier.threshold:.4g}: leave it out with Classifier.load(path, threshold="none")'
        )
    if not offers(classifier.model, "predict_proba_per_class"):
        W, b = W / temperature, b / temperature
        if W.shape[1] == 2:  # scikit-learn keeps one logit, the difference
            W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]
        model: Any = _logistic_regression(W, b, names)
    elif temperature != 1:
        raise ValueError(f"scikit-learn's OneVsRestClassifier has no temperature, the model has {temperature:.4g}")
    elif len(b) == 2:
        raise ValueError("scikit-learn's OneVsRestClassifier keeps one classifier for two classes, the model has two")
    else:
        model = OneVsRestClassifier(LogisticRegression()).fit(np.zeros(W.T.shape), names)  # for all but the weights
        columns = [names.index(name) for name in model.classes_]
        model.estimators_ = [_logistic_regression(W[:, [k]], b[[k]], [0, 1]) for k in columns]
    pipeline = Pipeline([("features", classifier.sklearn_transformer()), ("model", model)])
    write_then_rename(Path(path), lambda temporary: io.dump(pipeline, temporary))
    return pipeline


def _logistic_regression(W: Tensor, b: Tensor, classes: list[Any]) -> LogisticRegression:
    """A LogisticRegression of these weights, (D, K) and (K,), or (D, 1) and (1,) for two classes."""
    model = LogisticRegression()
    model.coef_, model.intercept_ = W.T.numpy().copy(), b.numpy().copy()
    model.classes_, model.n_features_in_ = np.array(classes), len(W)
    return model
