"""What reports and pictures need of a model and of its datamodule.

Any class with these members fits; it need not inherit from anything here. N rows, D features, K classes. `x` is (N, D)
as the model takes it: dense, or sparse CSR.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

import lightning as L
from torch import Tensor

T = TypeVar("T")
ABSENT = object()


class ProbabilisticClassifier(Protocol):
    """All that a picture needs of a model."""

    def predict_proba(self, x: Tensor) -> Tensor:
        """Probabilities (N, K) whose rows sum to 1."""


class Classifier(ProbabilisticClassifier, Protocol):
    """All that a report needs of a model."""

    def predict_label(self, proba: Tensor) -> Tensor:
        """The decision rule: probabilities (N, K) to class indices (N,)."""


class ExplainableClassifier(Classifier, Protocol):
    """Optional for reports: which features led to a label."""

    def contributions(self, x: Tensor, label: Tensor) -> list[list[tuple[int, float]]]:
        """How much each feature raised (> 0) or lowered (< 0) the score of its row's label.

        One list for each of the N rows, of pairs (feature index, amount) in any order; features that contribute nothing
        are left out. `label` is (N,) class indices.
        """


class RejectingClassifier(Classifier, Protocol):
    """Optional for pictures: a row whose largest in-scope probability is low is called out of scope."""

    @property
    def threshold(self) -> float | None:
        """Below which it is too low; None where the most probable class is the answer."""


class CalibratedClassifier(Classifier, Protocol):
    """Optional for pictures: probabilities at a temperature."""

    @property
    def temperature(self) -> float:
        """What they were scaled by after training; 1 where they are as trained."""


class PerClassClassifier(ProbabilisticClassifier, Protocol):
    """Optional for pictures: one-vs-all, where every class has a binary classifier of its own."""

    def predict_proba_per_class(self, x: Tensor) -> Tensor:
        """Each classifier's own probability, (N, K); rows need not sum to 1."""


class NamedClasses(Protocol):
    """Data with K classes."""

    @property
    def class_names(self) -> Sequence[str]:
        """K names, in the order of the class indices."""


class NamedFeatures(Protocol):
    """Data with D features; optional for reports, which list a label's contributions by these names."""

    @property
    def feature_names(self) -> Sequence[str]:
        """D names, in the order of the columns of x."""


class LabelledData(NamedClasses, Protocol):
    """All that a report needs of a datamodule."""

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        """What a report writes about rows of the split "test" or "predict": column name to value, for each row."""


class OutOfScopeData(Protocol):
    """Optional for reports: one class may stand for "none of the others"."""

    @property
    def oos_class(self) -> int | None:
        """Its index, None where there is no such class."""


class LinearClassifier(Classifier, Protocol):
    """Optional for reports: a model whose scores are sums over features."""

    def coefficients(self) -> Tensor:
        """How much one unit of each feature raises the score of each class against the others, (D, K)."""


class DescendingModel(LinearClassifier, Protocol):
    """A model of two classes whose objective can be seen at other weights than its own."""

    def objective_at(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The objective over rows x (N, D) of classes target (N,) at each of M weights (M, D): (M,)."""


class GroupedClasses(Protocol):
    """Optional for reports: classes that belong together, such as the intents of a domain."""

    @property
    def class_groups(self) -> Sequence[str] | None:
        """The group of each class, K names; None where there are no groups."""


class InspectableData(NamedClasses, Protocol):
    """Optional for a fit: rows that can be compared with each other before training."""

    def contents(self, split: str) -> tuple[Sequence[Hashable], Tensor]:
        """Of "train", "val" or "test": what each row says, equal for equal rows, None if empty; class indices (N,)."""


class LogitClassifier(ProbabilisticClassifier, Protocol):
    """All that the table of coefficients needs of a model."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits: (N,) of the second of two classes, or (N, K)."""


class ScaledData(NamedClasses, NamedFeatures, Protocol):
    """All that the table of coefficients needs of a datamodule."""

    def scaling(self) -> tuple[Tensor, Tensor]:
        """What each of the D features had subtracted and was then divided by: (D,) and (D,); 0 and 1 for nothing."""


class InputFile(Protocol):
    """Optional for reports: rows to predict may come from a file, to whose columns the predictions are joined."""

    @property
    def predict_file(self) -> str | None:
        """The file; None where the rows come from elsewhere."""

    def input_rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """All columns of rows of the split "predict", as they are in the file."""

    def is_empty(self, index: int) -> bool:
        """Whether a row of the split "predict" holds nothing to classify, so that it gets no label."""


class PlottableData(NamedClasses, NamedFeatures, Protocol):
    """All that a picture needs of a datamodule."""

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        """Of the split "train" or "val": raw features (N, D), before any scaling, and class indices (N,)."""

    def transform(self, x: Tensor) -> Tensor:
        """Raw features (N, D) to what the model takes."""


class EncodableData(NamedClasses, Protocol):
    """Not for a callback but for `Classifier` in deploy/classifier.py: data that can make x of what a user has."""

    def encode(self, inputs: Any) -> Tensor:
        """Sentences, rows or whatever else the data is made of to x (N, D)."""


class RecognizingData(EncodableData, Protocol):
    """Optional for `Classifier`: data that can tell what of an input no training row has."""

    def unseen(self, inputs: Any) -> list[list[str]]:
        """A line for each such part of each input, N lists."""


class ExportableData(NamedClasses, Protocol):
    """Not for a callback but for deploy/export.py: data that scikit-learn can encode."""

    def sklearn_transformer(self) -> Any:
        """The fitted scikit-learn transformer from a user's inputs to x; a ValueError where there can be none."""


def missing(thing: object, protocol: Callable[..., object]) -> list[str]:
    """The members of a protocol that an object lacks, each with its signature.

    They are looked up statically: no property is evaluated, because one of a datamodule may read files. A member that
    only a `__getattr__` provides counts as missing.

    >>> missing(object(), Classifier)
    ['predict_proba(x: Tensor) -> Tensor', 'predict_label(proba: Tensor) -> Tensor']
    """
    return [
        _signature(name, member)
        for parent in reversed(inspect.getmro(protocol))  # type: ignore[arg-type]  # a Protocol is a class
        if parent.__module__ == __name__
        for name, member in vars(parent).items()
        if not name.startswith("_") and inspect.getattr_static(thing, name, ABSENT) is ABSENT
    ]


def lack(thing: object, protocol: Callable[..., object]) -> str | None:
    """One line on what an object lacks: "MLP has no predict_label(proba: Tensor) -> Tensor"; None if it fits."""
    members = missing(thing, protocol)
    owner = "a run without a datamodule" if thing is None else type(thing).__name__
    return f"{owner} has no {', '.join(members)}" if members else None


def offers(thing: object, protocol: Callable[..., T]) -> TypeGuard[T]:
    """Whether an object has every member of a protocol."""
    return not missing(thing, protocol)


def name_of(feature_names: Sequence[str], column: int) -> str:
    """The name of a column of x; those that a datamodule derives follow the named ones, and have numbers."""
    return feature_names[column] if column < len(feature_names) else f"column {column + 1}"


def datamodule_of(trainer: L.Trainer) -> Any:
    """The datamodule of this run, None for a run on bare loaders, for which the Trainer has no such attribute."""
    return getattr(trainer, "datamodule", None)


def _signature(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"{name}: {inspect.signature(member.fget).return_annotation}"  # type: ignore[arg-type]
    signature = inspect.signature(member)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    return f"{name}{signature.replace(parameters=parameters)}".replace("'", "")  # annotations are strings here
