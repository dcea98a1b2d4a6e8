"""What a model or a datamodule lacks is named with its signature, and nothing of it is evaluated."""

import lightning as L
import torch

from callbacks.protocols import (
    CLASSIFIER,
    LABELLED_DATA,
    PLOTTABLE_DATA,
    SCALED_DATA,
    datamodule_of,
    lack,
    offers,
    optional_of,
)


class Model(torch.nn.Module):
    def predict_proba(self, x):
        return x


class ReadsFiles(L.LightningDataModule):
    @property
    def class_names(self):
        raise AssertionError("evaluated")

    def describe(self, indices, split):
        return []


def test_what_is_missing_is_named_with_its_signature_or_type():
    assert lack(Model(), CLASSIFIER) == "Model has no predict_label(proba: Tensor) -> Tensor"
    missing = "class_names: Sequence[str], describe(indices: Sequence[int], split: str) -> list[dict[str, Any]]"
    assert lack(L.LightningDataModule(), LABELLED_DATA) == f"LightningDataModule has no {missing}"
    assert lack(datamodule_of(L.Trainer()), LABELLED_DATA) == f"a run without a datamodule has no {missing}"


def test_members_are_looked_up_on_class_and_object_and_no_property_is_evaluated():
    assert offers(ReadsFiles(), "class_names", "describe")
    assert lack(ReadsFiles(), LABELLED_DATA) is None
    expected = (
        "feature_names: Sequence[str], points(split: str) -> tuple[Tensor, Tensor], transform(x: Tensor) -> Tensor"
    )
    assert lack(ReadsFiles(), PLOTTABLE_DATA) == f"ReadsFiles has no {expected}"
    data = ReadsFiles()
    data.feature_names = ["a"]
    assert lack(data, SCALED_DATA) == "ReadsFiles has no scaling() -> tuple[Tensor, Tensor]"
    assert optional_of(data, "oos_class") is None
    data.oos_class = 0
    assert optional_of(data, "oos_class") == 0
