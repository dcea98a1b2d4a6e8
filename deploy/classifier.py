"""A trained model from Python, without a Trainer or a command line; docs/use.md shows how."""

import os
from functools import cached_property, partial
from importlib import import_module
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
from callbacks.linear import class_scores, contributions
from callbacks.protocols import CLASSIFIER, ENCODABLE_DATA, lack, offers, optional_of
from checkpoint_file import load_checkpoint
from cli.config import load_yaml, read_config
from cli.errors import one_line
from cli.processes import spare_threads
from cli.run_directory import newest_checkpoint, run_of
from datamodules.batches import BatchedDataModule, parts_on_device
from logreg.classifier_module import ClassifierModule

T = TypeVar("T")


class Classifier:
    """Predictions for sentences or rows, as `predict` on the command line makes them, by the threshold too.

    Any number of threads may use it at once. For a linear model torch takes one thread, as in `train.py`, so that
    forked processes predict too. N inputs, D features, K classes.

    Args:
        model: a trained model, which is put into evaluation mode, and on the device.
        data: its datamodule, with the state that the model was trained with.
        device: where the model computes: "cpu", "cuda" or "mps". Results are on the CPU.

    Raises:
        ValueError: one of them lacks a method; names it, with its signature.
    """

    def __init__(self, model: Any, data: Any, device: str | torch.device = "cpu") -> None:
        if unmet := lack(model, CLASSIFIER) or lack(data, ENCODABLE_DATA):
            raise ValueError(f"Classifier does not apply: {unmet}")
        self.device = torch.device(device)
        self.model: Any = model.eval().to(self.device)
        spare_threads(model)
        self.data, self.class_names = data, list(data.class_names)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", **options: Any) -> "Classifier":
        """Load a checkpoint; nothing in it is run, and it can name no class but those in logreg/ and datamodules/.

        Args:
            path: a checkpoint file, beside whose run's config.yaml the options of the data are looked up, as plain
                values; or a folder of runs, the newest best.ckpt below which is taken.
            device: where the model computes.
            options: arguments of the model that replace the checkpoint's, as threshold=0.5, or net=MLP(2, 2).

        Raises:
            ValueError: no checkpoint, or one that needs a class or an option that it does not hold.
        """
        file = Path(os.path.expandvars(path)).expanduser()
        file = newest_checkpoint(file, "best") if file.is_dir() else file
        if not file.is_file():
            raise ValueError(f"expected a checkpoint file or a folder of runs, found neither at {file}")
        checkpoint = load_checkpoint(file)  # once: the file may be replaced meanwhile
        model_class = _class_of(logreg, ClassifierModule, checkpoint.get("model_class"))
        data_class = _class_of(datamodules, BatchedDataModule, checkpoint.get("data_class"))
        try:
            model = model_class.from_checkpoint(checkpoint, **options)
            data = data_class.from_checkpoint(checkpoint, **_data_options(data_class, run_of(file) / "config.yaml"))
        except TypeError as error:  # Python's own, for an argument too few or too many
            raise ValueError(f"{error}; give the model's by name, as Classifier.load(path, net=MLP(2, 2))") from error
        return cls(model, data, device)

    @torch.inference_mode()
    def predict(self, inputs: Any) -> list[str]:
        return self._labels(self._proba(self._encode(inputs)))

    @torch.inference_mode()
    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Probabilities (N, K), of the model's dtype, in the order of `class_names`; rows sum to 1.

        Args:
            inputs: a list of sentences; or rows of numbers, as an array, a tensor, a data frame or nested lists.

        Raises:
            ValueError: something else.
        """
        return self._proba(self._encode(inputs)).cpu().numpy()

    @torch.inference_mode()
    def labels(self, proba: np.ndarray) -> list[str]:
        """The labels that `predict` gives to inputs of these probabilities (N, K)."""
        return self._labels(torch.tensor(proba).to(self.device))

    def top_k(self, inputs: Any, k: int = 5) -> list[list[tuple[str, float]]]:
        """Of each input the k most probable classes (all, where K is smaller) with their probabilities, best first."""
        return [
            [(self.class_names[label], float(row[label])) for label in np.argsort(-row, kind="stable")[:k]]
            for row in self.predict_proba(inputs)
        ]

    def unseen(self, inputs: Any) -> list[list[str]]:
        """Of each input a line for each part that no training row has: a category, or all n-grams of a text."""
        return self.data.unseen(inputs) if offers(self.data, "unseen") else [[] for _ in inputs]

    @torch.inference_mode()
    def explain(self, inputs: Any, num_features: int = 5) -> list[list[tuple[str, float]]]:
        """Of each input the features that moved its label most: names and amounts, the largest amount either way first.

        As in the reports of `predict`: by so much a feature raised (> 0) or lowered (< 0) the score of the label, which
        is the log-odds of two classes, one-vs-all's own logit of the class, else the logit above the average class's.

        Raises:
            ValueError: the model is not linear, or its features have no names.
        """
        W, _ = self.coefficients
        names, x = self._feature_names, self._encode(inputs)
        parts = contributions(x, W, self.model.predict_label(self._proba(x)), partial(class_scores, self.model))
        top = [sorted(of_input, key=lambda part: -abs(part[1]))[:num_features] for of_input in parts]
        return [[(names[feature], amount) for feature, amount in of_input] for of_input in top]

    @cached_property
    def coefficients(self) -> tuple[Tensor, Tensor]:
        """W (D, K) and b (K,) of the logits x @ W + b; of a binary logit (D, 1) and (1,).

        Raises:
            ValueError: the model is not linear.
        """
        if not offers(self.model, "coefficients"):
            raise ValueError(f"expected a linear model, {type(self.model).__name__} is none")
        W, b = self.model.coefficients()
        return W.detach().cpu(), b.detach().cpu()

    @property
    def temperature(self) -> float:
        """By which log-probabilities are divided; 1 where they are as trained."""
        return optional_of(self.model, "temperature") or 1.0

    @property
    def threshold(self) -> float | None:
        """Below which largest in-scope probability an input is out of scope; None for the most probable class."""
        return optional_of(self.model, "threshold")

    def sklearn_transformer(self) -> Any:
        """The fitted scikit-learn transformer from inputs to x.

        Raises:
            ValueError: scikit-learn cannot encode the data.
        """
        if not offers(self.data, "sklearn_transformer"):
            raise ValueError(f"expected data with sklearn_transformer() -> Any, {type(self.data).__name__} has none")
        return self.data.sklearn_transformer()

    def _proba(self, x: Tensor) -> Tensor:
        """Probabilities (N, K) of rows on the CPU, on the device."""
        parts = [self.model.predict_proba(part) for part in parts_on_device(x, self.device)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _labels(self, proba: Tensor) -> list[str]:
        return [self.class_names[number] for number in self.model.predict_label(proba).tolist()]

    def _encode(self, inputs: Any) -> Tensor:
        if inputs is None:
            raise ValueError("expected a list of inputs, got None")
        return self.data.encode(inputs).to(getattr(self.model, "dtype", torch.float32))

    @cached_property
    def _feature_names(self) -> list[str]:
        names = list(optional_of(self.data, "feature_names") or [])
        if len(names) != self.data.num_features:
            raise ValueError(f"expected a name for each of {self.data.num_features} features, got {names}")
        return names


def _data_options(data_class: type, config: Path) -> dict[str, Any]:
    """The datamodule's arguments in a run's config.yaml, as the command line reads them; none without such a file."""
    section = load_yaml(read_config(config), str(config)).get("data") if config.is_file() else None
    options = section.get("init_args", {}) if isinstance(section, dict) else {}
    if "class_path" in str(options):  # jsonargparse would instantiate it, from a text of YAML too
        raise ValueError(f"{config}: expected plain options of the data, got a class_path to instantiate")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(data_class)
    try:
        return vars(parser.instantiate(parser.parse_object(options)))
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
