"""The members of a model and of its datamodule that callbacks and exports use: one protocol for each consumer.

Any class with these members fits; it need not inherit from anything here. docs/template.md lists the optional ones. N
rows, D features, K classes. `x` is (N, D) as the model takes it: dense, or sparse CSR.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import lightning as L
from torch import Tensor


class PlottableModel(Protocol):
    """For pictures of a model while it learns."""

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities (N, K) whose rows sum to 1."""


class Classifier(PlottableModel, Protocol):
    """For reports and pictures of an evaluation; `test_step` and `predict_step` return probabilities (N, K)."""

    def predict_label(self, proba: Tensor) -> Tensor:
        """The decision rule: probabilities (N, K) to class indices (N,)."""


class DescendingModel(Protocol):
    """For the loss surface: a binary logit with the objective `nll` + l2 · Σw²."""

    l2: float
    """Strength of the penalty."""

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """w (D, 1) and b (1,) of the logits x @ w + b."""

    def nll(self, logits: Tensor, target: Tensor, denominator: int) -> Tensor:
        """The summed loss of logits (N,) for classes target (N,), divided by `denominator`."""


class NamedClasses(Protocol):
    """Data with K classes."""

    class_names: Sequence[str]
    """K names, in the order of the class indices."""


class LabelledData(NamedClasses, Protocol):
    """For reports and pictures of an evaluation."""

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        """The columns of a report for rows of the split "test" or "predict": name to value, for each row."""


class ScaledData(NamedClasses, Protocol):
    """For the table of coefficients."""

    feature_names: Sequence[str]
    """D names, in the order of the columns of x."""

    def scaling(self) -> tuple[Tensor, Tensor]:
        """Mean and scale of each feature, (D,) and (D,): x is (raw − mean) / scale; 0 and 1 for raw features."""


class PlottableData(NamedClasses, Protocol):
    """For pictures of a model while it learns."""

    feature_names: Sequence[str]
    """Names of the raw features."""

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        """Of the split "train" or "val": raw features (N, D), before any scaling, and class indices (N,)."""

    def transform(self, x: Tensor) -> Tensor:
        """Raw features (N, D) to what the model takes."""


class PixelData(NamedClasses, Protocol):
    """For the weights of a linear model as pictures."""

    image_shape: tuple[int, int]
    """Height and width of the picture that a row of features is, row by row."""


class InspectableData(NamedClasses, Protocol):
    """For the table before a fit: rows that can be compared with each other."""

    def contents(self, split: str) -> tuple[Sequence[Hashable], Tensor]:
        """Of "train", "val" or "test": the content of each row, None if empty; class indices (N,)."""


class EncodableData(NamedClasses, Protocol):
    """For use without a Trainer: data that makes x of a user's inputs."""

    def encode(self, inputs: Any) -> Tensor:
        """Sentences, rows or whatever else the data is made of to x (N, D)."""


def offers(thing: object, *names: str) -> bool:
    """Whether an object has members of these names.

    They are looked up statically: no property is evaluated, because one of a datamodule may read files. A member that
    only a `__getattr__` provides counts as missing.
    """
    return all(inspect.getattr_static(thing, name, offers) is not offers for name in names)


def optional_of(thing: object, name: str) -> Any:
    """The value of an optional attribute or method, None where the object has none."""
    return getattr(thing, name) if offers(thing, name) else None


def missing(thing: object, protocol: Callable[..., object]) -> list[str]:
    """The members of a protocol that an object lacks, each with its signature.

    Examples:
        >>> missing(object(), Classifier)
        ['predict_proba(x: Tensor) -> Tensor', 'predict_label(proba: Tensor) -> Tensor']
    """
    members: dict[str, str] = {}
    for parent in reversed(inspect.getmro(protocol)):  # type: ignore[arg-type]  # a Protocol is a class
        if parent.__module__ == __name__:
            members |= {name: f"{name}: {kind}" for name, kind in inspect.get_annotations(parent).items()}
            methods = [name for name in vars(parent) if not name.startswith("_")]
            members |= {name: f"{name}{inspect.signature(getattr(parent, name))}" for name in methods}
    lines = [line for name, line in members.items() if not offers(thing, name)]
    return [line.replace("(self, ", "(").replace("(self)", "()").replace("'", "") for line in lines]


def lack(thing: object, protocol: Callable[..., object]) -> str | None:
    """One line on what an object lacks: "MLP has no predict_label(proba: Tensor) -> Tensor"; None if it fits."""
    members = missing(thing, protocol)
    owner = "a run without a datamodule" if thing is None else type(thing).__name__
    return f"{owner} has no {', '.join(members)}" if members else None


def datamodule_of(trainer: L.Trainer) -> Any:
    """The datamodule of this run, None for a run on bare loaders, for which the Trainer has no such attribute."""
    return getattr(trainer, "datamodule", None)
