"""What a model or a datamodule lacks is named with its signature, and nothing of it is evaluated."""

import lightning as L
import pytest
import torch

from callbacks import protocols
from callbacks.protocols import Classifier, LabelledData, PlottableData, lack, missing, offers, optional_of


class Model(torch.nn.Module):
    def predict_proba(self, x):
        return x


class ReadsFiles(L.LightningDataModule):
    @property
    def class_names(self):
        raise AssertionError("evaluated")

    def describe(self, indices, split):
        return []


def test_a_missing_method_is_named_with_its_signature():
    assert missing(Model(), Classifier) == ["predict_label(proba: Tensor) -> Tensor"]
    assert lack(Model(), Classifier) == "Model has no predict_label(proba: Tensor) -> Tensor"


def test_a_missing_attribute_is_named_with_its_type():
    assert missing(L.LightningDataModule(), LabelledData) == [
        "class_names: Sequence[str]",
        "describe(indices: Sequence[int], split: str) -> list[dict[str, Any]]",
    ]


def test_inherited_members_of_a_protocol_are_needed_too():
    assert missing(ReadsFiles(), PlottableData) == [
        "feature_names: Sequence[str]",
        "points(split: str) -> tuple[Tensor, Tensor]",
        "transform(x: Tensor) -> Tensor",
    ]


def test_no_property_is_evaluated():
    assert offers(ReadsFiles(), "class_names", "describe")
    assert lack(ReadsFiles(), LabelledData) is None


def test_attributes_set_on_the_object_count():
    data = L.LightningDataModule()
    data.class_names, data.describe = ["a"], lambda indices, split: []
    assert lack(data, LabelledData) is None


def test_an_optional_member_may_be_missing_and_is_listed_on_demand():
    assert "oos_class: int | None" in missing(ReadsFiles(), LabelledData, optional_too=True)
    assert optional_of(ReadsFiles(), "oos_class") is None
    data = ReadsFiles()
    data.oos_class = 0
    assert optional_of(data, "oos_class") == 0
    assert "oos_class: int | None" not in missing(data, LabelledData, optional_too=True)


def test_a_run_without_a_datamodule_offers_nothing():
    assert "a run without a datamodule has no class_names" in lack(protocols.datamodule_of(L.Trainer()), LabelledData)


@pytest.mark.parametrize("name", [name for name, kind in vars(protocols).items() if hasattr(kind, "_is_protocol")])
def test_every_member_of_every_protocol_has_a_readable_signature(name):
    for line in missing(None, getattr(protocols, name), optional_too=True):
        assert ("(" in line and ") -> " in line) or ": " in line
        assert "self" not in line and "'" not in line
