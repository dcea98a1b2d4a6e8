"""What a model or a datamodule lacks is named with its signature, and nothing of it is evaluated."""

import lightning as L
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


def test_what_is_missing_is_named_with_its_signature_or_type():
    assert lack(Model(), Classifier) == "Model has no predict_label(proba: Tensor) -> Tensor"
    assert missing(L.LightningDataModule(), LabelledData) == [
        "class_names: Sequence[str]",
        "describe(indices: Sequence[int], split: str) -> list[dict[str, Any]]",
    ]
    assert "a run without a datamodule has no class_names" in lack(protocols.datamodule_of(L.Trainer()), LabelledData)


def test_inherited_members_of_a_protocol_are_needed_too_and_no_property_is_evaluated():
    assert offers(ReadsFiles(), "class_names", "describe")
    assert lack(ReadsFiles(), LabelledData) is None
    assert missing(ReadsFiles(), PlottableData) == [
        "feature_names: Sequence[str]",
        "points(split: str) -> tuple[Tensor, Tensor]",
        "transform(x: Tensor) -> Tensor",
    ]


def test_attributes_set_on_the_object_count():
    data = L.LightningDataModule()
    data.class_names, data.describe = ["a"], lambda indices, split: []
    assert lack(data, LabelledData) is None
    assert optional_of(data, "oos_class") is None
    data.oos_class = 0
    assert optional_of(data, "oos_class") == 0


def test_every_member_of_every_protocol_has_a_readable_signature():
    kinds = [kind for kind in vars(protocols).values() if hasattr(kind, "_is_protocol")]
    for line in (line for kind in kinds for line in missing(None, kind)):
        assert ("(" in line and ") -> " in line) or ": " in line
        assert "self" not in line and "'" not in line
