"""The members of a model and of its datamodule that callbacks and exports use: one protocol for each consumer.

A protocol lists members with their signatures, and any class that has them fits; docs/template.md has the optional ones
too. N rows, D features, K classes. `x` is (N, D) as the model takes it: dense, or sparse CSR.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import lightning as L

# For pictures of a model while it learns: probabilities (N, K) whose rows sum to 1
PLOTTABLE_MODEL = ("predict_proba(x: Tensor) -> Tensor",)
# For reports and pictures of an evaluation; `test_step` and `predict_step` return probabilities (N, K)
CLASSIFIER = (*PLOTTABLE_MODEL, "predict_label(proba: Tensor) -> Tensor")  # (N, K) to class indices (N,)
# For the loss surface: a binary logit with the objective `nll` + l2 · Σw²
DESCENDING_MODEL = (
    "l2: float",
    "coefficients() -> tuple[Tensor, Tensor]",  # w (D, 1) and b (1,) of the logits x @ w + b
    "nll(logits: Tensor, target: Tensor, denominator: int) -> Tensor",  # the loss of N rows, divided by `denominator`
)

NAMED_CLASSES = ("class_names: Sequence[str]",)  # K names, in the order of the class indices
# For reports and pictures of an evaluation: the columns of a report for rows of the split "test" or "predict"
LABELLED_DATA = (*NAMED_CLASSES, "describe(indices: Sequence[int], split: str) -> list[dict[str, Any]]")
# For the table of coefficients: x is (raw − mean) / scale, both (D,); 0 and 1 for raw features
SCALED_DATA = (*NAMED_CLASSES, "feature_names: Sequence[str]", "scaling() -> tuple[Tensor, Tensor]")
# For pictures of a model while it learns
PLOTTABLE_DATA = (
    *NAMED_CLASSES,
    "feature_names: Sequence[str]",
    "points(split: str) -> tuple[Tensor, Tensor]",  # "train" or "val": raw features (N, D), class indices (N,)
    "transform(x: Tensor) -> Tensor",  # raw features (N, D) to what the model takes
)
# For the weights of a linear model as pictures: height and width of the picture that a row is, row by row
PIXEL_DATA = (*NAMED_CLASSES, "image_shape: tuple[int, int]")
# For the table before a fit, "train", "val" or "test": the content of each row, None if empty; class indices (N,)
INSPECTABLE_DATA = (*NAMED_CLASSES, "contents(split: str) -> tuple[Sequence[Hashable], Tensor]")
# For use without a Trainer: from sentences, rows or whatever else the data is made of to x (N, D)
ENCODABLE_DATA = (*NAMED_CLASSES, "encode(inputs: Any) -> Tensor")


def offers(thing: object, *names: str) -> bool:
    """Whether an object has members of these names.

    They are looked up statically: no property is evaluated, because one of a datamodule may read files. A member that
    only a `__getattr__` provides counts as missing.
    """
    return all(inspect.getattr_static(thing, name, offers) is not offers for name in names)


def optional_of(thing: object, name: str) -> Any:
    """The value of an optional attribute or method, None where the object has none."""
    return getattr(thing, name) if offers(thing, name) else None


def lack(thing: object, protocol: Sequence[str]) -> str | None:
    """One line on what an object lacks of a protocol; None if it fits.

    >>> lack(object(), CLASSIFIER)
    'object has no predict_proba(x: Tensor) -> Tensor, predict_label(proba: Tensor) -> Tensor'
    """
    members = [member for member in protocol if not offers(thing, re.split(r"\W", member)[0])]
    owner = "a run without a datamodule" if thing is None else type(thing).__name__
    return f"{owner} has no {', '.join(members)}" if members else None


def datamodule_of(trainer: L.Trainer) -> Any:
    """The datamodule of this run, None for a run on bare loaders, for which the Trainer has no such attribute."""
    return getattr(trainer, "datamodule", None)
