"""Model arguments from the data: found, configured, or missed loudly."""

import lightning as L
import pytest
from jsonargparse import Namespace

from cli.links import linked_value


class Needy(L.LightningModule):
    def __init__(self, num_features: int, num_classes: int = 7, oos_class: int | None = None):
        super().__init__()


class Child(Needy):
    def __init__(self, *args, hidden: int = 2, **options):
        super().__init__(*args, **options)


class Flowers(L.LightningDataModule):
    num_features, num_classes, class_names = 4, 3, ["a", "b", "c"]


class Misspelt(L.LightningDataModule):
    num_feature = 3


class Broken(L.LightningDataModule):
    @property
    def num_features(self):
        raise AttributeError("no such file")


def value(name, data, **init_args):
    return linked_value(name, Namespace(class_path=f"{__name__}.Needy", init_args=Namespace(**init_args)), data)


@pytest.fixture(autouse=True)
def found_by_its_class_path(monkeypatch):
    monkeypatch.setattr("cli.links.locate", lambda path: Needy)


def test_what_the_datamodule_offers_reaches_the_model_and_what_it_does_not_take_is_left_out():
    assert value("num_features", Flowers()) == 4
    assert value("num_classes", Flowers(), num_features=None) == 3
    assert value("class_names", Flowers()) is None


def test_it_reaches_a_parent_to_which_the_options_of_a_subclass_go(monkeypatch):
    monkeypatch.setattr("cli.links.locate", lambda path: Child)
    assert value("num_classes", Flowers()) == 3
    assert value("class_names", Flowers()) is None


def test_a_missing_attribute_leaves_what_is_configured_or_the_default_or_is_named():
    assert value("num_features", Misspelt(), num_features=3) == 3
    assert value("num_classes", Misspelt()) == 7
    assert value("oos_class", Misspelt()) is None
    with pytest.raises(
        ValueError, match=r"Needy needs num_features, which Misspelt does not offer: define it there, o"
    ):
        value("num_features", Misspelt())


def test_a_configured_value_that_contradicts_the_data_is_refused():
    assert value("num_features", Flowers(), num_features=4) == 4
    with pytest.raises(ValueError, match=r"model\.num_features is 9, but the data has 4; leave it out"):
        value("num_features", Flowers(), num_features=9)


def test_an_error_inside_a_property_is_not_taken_for_a_missing_attribute():
    with pytest.raises(AttributeError, match="no such file"):
        value("num_features", Broken())
