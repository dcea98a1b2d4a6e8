"""A configuration as a scikit-learn classifier."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentError
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cli.errors import one_line
from cli.links import parameter_of
from cli.run_directory import newest_checkpoint, run_of
from deploy.classifier import Classifier
from selection.configured import LOCK, Configured, as_text
from selection.rows import Rows, fill, forget


class LightningClassifier(ClassifierMixin, BaseEstimator):
    """Fits what `train.py fit` would train, on the rows it is given; the model is the last state of the fit.

    X is sentences, numbers (N, F) as an array or a data frame, or a sparse matrix. No file is written, nothing is
    printed, and no random generator of the caller's moves.

    Args:
        config: a configuration file.
        random_state: seed of the fit; None takes the configured ones.
        options: of the command line by their names, as **{"model.l2": 1e-3, "trainer.max_epochs": 20}.

    Attributes:
        classes_: labels, sorted, (K,).
        n_features_in_, feature_names_in_: as scikit-learn has them; not of sentences.
        classifier_: the `deploy.classifier.Classifier` behind the predictions, which also ranks and explains.
    """

    def __init__(self, config: Any = "configs/text_csv.yaml", *, random_state: Any = None, **options: Any) -> None:
        self.config, self.random_state, self._options = config, random_state, options

    @classmethod
    def from_run(cls, path: str | Path) -> "LightningClassifier":
        """A fitted one, of the newest best.ckpt below a folder of runs or of a checkpoint file."""
        file = newest_checkpoint(Path(path), "best") if Path(path).is_dir() else Path(path)
        classifier = Classifier.load(file)
        return cls(str(run_of(file) / "config.yaml"))._fitted(classifier, np.unique(classifier.class_names))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {**super().get_params(deep), **self._options}

    def set_params(self, **params: Any) -> "LightningClassifier":
        options = {name: value for name, value in params.items() if "." in name or name in self._options}
        self._options |= options
        return super().set_params(**{name: value for name, value in params.items() if name not in options})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        with suppress(ValueError, OSError):  # of options that fit will refuse
            tags.classifier_tags.multi_class = takes_many_classes(self._configured())
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LightningClassifier":
        with LOCK:  # scikit-learn's checks change the warning filters for a moment, as the fit does
            configured = self._configured()
            if is_texts(X) and hasattr(locate(configured.config.data.class_path), "vectorize"):
                X, y = list(X), column_or_1d(y, warn=True)
                check_consistent_length(X, y)
                for number, text in enumerate(X):
                    if not isinstance(text, str):
                        raise ValueError(f"expected a list of sentences, got {text!r:.60} as number {number}")
            else:
                X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32)
            check_classification_targets(y)
            if sample_weight is not None:
                weight = _check_sample_weight(sample_weight, y[:, None], dtype=np.float64, ensure_non_negative=True)
                kept = np.flatnonzero(weight)  # rows of weight 0 are no rows: neither class nor spread counts
                if not len(kept):
                    raise ValueError("Sample weights must contain at least one non-zero number.")
                X, y, sample_weight = _safe_indexing(X, kept), y[kept], weight[kept]
            classes, target = np.unique(y, return_inverse=True)
            if len(classes) < 2:
                raise ValueError(f"Classifier can't train when only one class is present, got {classes.tolist()[0]!r}")
            if len(classes) > 2 and not takes_many_classes(configured):
                raise ValueError("Only binary classification is supported. The type of the target is multiclass.")
            names = getattr(self, "feature_names_in_", [f"x{n}" for n in range(getattr(X, "shape", (0, 0))[1])])
            rows = Rows(X, target, [str(label) for label in classes], list(names), sample_weight)
            seed = self.random_state
            if seed is not None and not isinstance(seed, int | np.integer):
                seed = check_random_state(seed).randint(2**31 - 1)
            _, model, data = configured.fit(lambda data: fill(data, rows), None if seed is None else int(seed))
        forget(model, data)
        return self._fitted(Classifier(model.cpu(), data), classes)

    def _fitted(self, classifier: Classifier, classes: NDArray[Any]) -> "LightningClassifier":
        classifier.model.double()  # in float32 the prediction of a row depends, by 1e-7, on the rows beside it
        self.classifier_, self.classes_ = classifier, classes
        self._order = np.array([classifier.class_names.index(str(label)) for label in classes])
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities (N, K), in the order of `classes_`."""
        check_is_fitted(self)
        if hasattr(self, "n_features_in_"):
            X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        return self.classifier_.predict_proba(X)[:, self._order]

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Log-probabilities (N, K); of two classes the log-odds of the second, (N,)."""
        proba = self.predict_proba(X)
        scores = np.log(proba.clip(np.finfo(proba.dtype).tiny))
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of each row; of a model with a threshold perhaps the out-of-scope label."""
        proba = self.predict_proba(X)
        place = self._order.argsort()  # of the model's classes in classes_
        label = self.classifier_.model.predict_label(torch.from_numpy(proba[:, place]))
        return self.classes_[place[label.numpy()]]

    def _configured(self) -> Configured:
        file = Path(self.config).resolve()
        arguments = [f"--{name}={as_text(value)}" for name, value in self._options.items()]
        try:
            with LOCK:
                return configured(f"--config={file}", file.stat().st_mtime_ns, *arguments)
        except ArgumentError as error:
            raise ValueError(f"{self.config}: {one_line(error)}") from error


@lru_cache(maxsize=64)
def configured(config: str, changed: int, *arguments: str) -> Configured:
    """What the command line makes of a configuration file, as it is at the time `changed`, and of these arguments."""
    return Configured([config, *arguments])


def takes_many_classes(configured: Configured) -> bool:
    """Whether the model is for any number of classes, not for two."""
    return parameter_of(locate(configured.config.model.class_path), "num_classes") is not None


def is_texts(X: Any) -> bool:
    """Whether rows are sentences: a list, an array or a column, by the first of them."""
    if len(getattr(X, "shape", (0,))) != 1:
        return False
    values = np.asarray(X, dtype=object)
    return values.ndim == 1 and len(values) > 0 and isinstance(values[0], str)
