"""A trained model, ready to answer from Python, without a Trainer or a command line; docs/use.md shows how."""

from functools import cached_property
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

import datamodules
import logreg
from callbacks.protocols import Classifier as ClassifierModel
from callbacks.protocols import EncodableData, NamedFeatures, lack
from cli.checkpoint import read_checkpoint
from cli.config_files import load_yaml
from cli.errors import one_line
from cli.run_paths import newest_checkpoint, run_of
from datamodules.batches import BatchedDataModule
from logreg.classifier_module import ClassifierModule
from logreg.loading import names_a_class

T = TypeVar("T")


class Classifier:
    """Answers for sentences or rows, as `predict` on the command line does, an out-of-scope threshold included.

    Any number of threads may ask at once: an answer changes nothing. N inputs, D features, K classes.

    Args:
        model: a trained model, which is put into evaluation mode.
        data: its datamodule, with the state that the model was trained with.

    Raises:
        ValueError: one of them lacks a method; names it, with its signature.
    """

    def __init__(self, model: Any, data: Any) -> None:
        for unmet in (lack(model, ClassifierModel), lack(data, EncodableData)):
            if unmet:
                raise ValueError(f"Classifier does not apply: {unmet}")
        self.model: Any = model.eval()
        self.data = data
        self.class_names = list(data.class_names)

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> "Classifier":
        """Load a checkpoint; nothing in it is run, and it can name no class but those in logreg/ and datamodules/.

        Args:
            path: a checkpoint file, beside whose run's config.yaml the options of the data are looked up, as plain
                values; or a folder of runs, the newest best.ckpt below which is taken.
            options: arguments of the model that replace the checkpoint's, as threshold=0.5, or net=MLP(2, 2).

        Raises:
            ValueError: no checkpoint, or one that needs a class or an option that it does not hold.
        """
        file = newest_checkpoint(Path(path), "best") if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise ValueError(f"expected a checkpoint file or a folder of runs, found neither at {file}")
        checkpoint = read_checkpoint(str(file), resumes=False)
        model_class = _class_of(logreg, ClassifierModule, checkpoint.get("model_class"))
        data_class = _class_of(datamodules, BatchedDataModule, checkpoint.get("data_class"))
        try:
            model = model_class.load_from_checkpoint(file, **options)
            data = data_class.load_from_checkpoint(file, **_data_options(data_class, run_of(file) / "config.yaml"))
        except TypeError as error:  # Python's own, for an argument too few or too many
            raise ValueError(f"{error}; give the model's by name, as Classifier.load(path, net=MLP(2, 2))") from error
        return cls(model, data)

    @torch.inference_mode()
    def predict(self, inputs: Any) -> list[str]:
        """The label of each input."""
        return self._names(self.model.predict_label(self.model.predict_proba(self._encode(inputs))))

    @torch.inference_mode()
    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Probabilities (N, K), of the model's dtype, in the order of `class_names`; rows sum to 1.

        Args:
            inputs: a list of sentences; or rows of numbers, as an array, a tensor, a data frame or nested lists.

        Raises:
            ValueError: something else.
        """
        return self.model.predict_proba(self._encode(inputs)).numpy()

    @torch.inference_mode()
    def labels(self, proba: np.ndarray) -> list[str]:
        """The labels that `predict` gives to inputs of these probabilities (N, K)."""
        return self._names(self.model.predict_label(torch.from_numpy(proba)))

    def top_k(self, inputs: Any, k: int = 5) -> list[list[tuple[str, float]]]:
        """Of each input the k most probable classes (all, where K is smaller) with their probabilities, best first."""
        proba = self.predict_proba(inputs)
        order = np.argsort(-proba, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(proba, order, axis=1).tolist()
        return [
            [(self.class_names[label], p) for label, p in zip(labels, row, strict=True)]
            for labels, row in zip(order.tolist(), best, strict=True)
        ]

    @torch.inference_mode()
    def explain(self, inputs: Any, num_features: int = 5) -> list[list[tuple[str, float]]]:
        """Of each input the features that moved its label most: names and amounts, the largest amount either way first.

        A feature of value x contributes x · (W[feature, label] − mean of W[feature]): by so much it raised (> 0) or
        lowered (< 0) the label's logit, compared with the average class.

        Raises:
            ValueError: the model is not linear, or its features have no names.
        """
        W, _ = self.coefficients
        W = torch.cat([-W, W], dim=1) / 2 if W.shape[1] == 1 else W
        names = self._feature_names
        x = self._encode(inputs)
        label = self.model.predict_label(self.model.predict_proba(x))
        x = x if x.layout == torch.sparse_csr else x.to_sparse_csr()
        bounds, features, values = x.crow_indices().tolist(), x.col_indices(), x.values()
        explanations = []
        for row, (start, end) in enumerate(pairwise(bounds)):
            weights = W[features[start:end]]
            amount = values[start:end] * (weights[:, label[row]] - weights.mean(dim=1))
            top = amount.abs().argsort(descending=True, stable=True)[:num_features]
            chosen = zip(features[start:end][top].tolist(), amount[top].tolist(), strict=True)
            explanations.append([(names[feature], value) for feature, value in chosen if value])
        return explanations

    @cached_property
    def coefficients(self) -> tuple[Tensor, Tensor]:
        """W (D, K) and b (K,) of the logits x @ W + b; of a binary logit (D, 1) and (1,).

        They are read off the model's answers to the zero row and to the D unit rows.

        Raises:
            ValueError: the model is not linear.
        """
        size = self.data.num_features
        rows, ones = torch.arange(size + 1), torch.ones(size, dtype=self._dtype)
        unit, opposite = (
            torch.sparse_csr_tensor(rows, rows[:-1], value, (size, size), check_invariants=False)
            for value in (ones, -2 * ones)
        )
        with torch.inference_mode():
            b = self.model(torch.zeros(1, size, dtype=self._dtype)).reshape(-1)
            W = self.model(unit).reshape(size, -1) - b
            opposed = self.model(opposite).reshape(size, -1) - b
        if not torch.allclose(opposed, -2 * W, rtol=1e-3, atol=1e-3 * float(W.abs().max())):
            raise ValueError(f"expected a linear model, {type(self.model).__name__} is none")
        return W, b

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(self.model, "dtype", torch.float32)

    def _encode(self, inputs: Any) -> Tensor:
        return self.data.encode(inputs).to(self._dtype)

    def _names(self, label: Tensor) -> list[str]:
        return [self.class_names[number] for number in label.tolist()]

    @cached_property
    def _feature_names(self) -> list[str]:
        unmet = lack(self.data, NamedFeatures)
        names = [] if unmet else list(self.data.feature_names)
        if len(names) != self.data.num_features:
            raise ValueError(f"expected a name for each of {self.data.num_features} features, got {unmet or names}")
        return names


def _data_options(data_class: type, config: Path) -> dict[str, Any]:
    """The datamodule's arguments in a run's config.yaml, as the command line reads them; none without such a file."""
    section = load_yaml(config.read_text(encoding="utf-8"), str(config)).get("data") if config.is_file() else None
    options = section.get("init_args", {}) if isinstance(section, dict) else {}
    if names_a_class(options):
        raise ValueError(f"{config}: expected plain options of the data, got a class_path to instantiate")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(data_class)
    try:
        return vars(parser.instantiate_classes(parser.parse_object(options)))
    except ArgumentError as error:
        raise ValueError(f"{config}: {one_line(error)}") from error


def _class_of(package: ModuleType, base: type[T], name: object) -> type[T]:
    """The class of that name that a file of the package defines, looked for in one after the other."""
    for module in walk_packages(package.__path__, f"{package.__name__}."):
        found = vars(import_module(module.name)).get(str(name))
        if isinstance(found, type) and issubclass(found, base):
            return found
    raise ValueError(
        f"expected a checkpoint of a class in {package.__name__}/, got {name!r:.100}; "
        "for others build both: Classifier(model, data)"
    )
