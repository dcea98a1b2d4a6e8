"""Model arguments from the data: found, configured, or missed loudly."""

import lightning as L
import pytest
from jsonargparse import Namespace

from cli.links import fill_open_options, linked_value


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


@pytest.fixture(autouse=True, params=[Needy, Child], ids=["itself", "a parent to which its options go"])
def found_by_its_class_path(monkeypatch, request):
    monkeypatch.setattr("cli.links.locate", lambda path: request.param)


def test_what_the_datamodule_offers_reaches_the_model_and_what_it_does_not_take_is_left_out():
    assert value("num_features", Flowers()) == 4
    assert value("num_classes", Flowers(), num_features=None) == 3
    assert value("class_names", Flowers()) is None


def test_a_missing_attribute_leaves_what_is_configured_or_the_default_or_is_named():
    assert value("num_features", Misspelt(), num_features=3) == 3
    assert value("num_classes", Misspelt()) == 7
    assert value("oos_class", Misspelt()) is None
    with pytest.raises(ValueError, match=r"Needy needs num_features, which Misspelt does not offer: define it there"):
        value("num_features", Misspelt())


def test_a_configured_value_that_contradicts_the_data_is_refused():
    assert value("num_features", Flowers(), num_features=4) == 4
    with pytest.raises(ValueError, match=r"model\.num_features is 9, but the data has 4; leave it out"):
        value("num_features", Flowers(), num_features=9)


def test_an_error_inside_a_property_is_not_taken_for_a_missing_attribute():
    with pytest.raises(AttributeError, match="no such file"):
        value("num_features", Broken())


def test_open_options_take_what_the_data_recommends_and_given_ones_stay():
    advising = L.LightningDataModule()
    advising.recipe = {
        **{"data.batch_size": 7, "data.kind": "b", "data.unknown": 1, "model.lr": 0.5, "model.seed": 3},
        **{"model.lr_scheduler.power": 2.0, "model.optimizer.lr": 1.0, "trainer.max_epochs": 4, "refit": True},
    }
    decay = Namespace(class_path="Decay", init_args=Namespace(power=None))
    arguments = Namespace(lr=0.1, seed=None, lr_scheduler=decay, optimizer=None)
    model = Namespace(class_path="Model", init_args=arguments)
    data = Namespace(class_path="Data", init_args=Namespace(batch_size=None, kind="auto"))
    options = Namespace(model=model, data=data, trainer=Namespace(max_epochs=None), refit="auto")
    filled = fill_open_options(options, advising)
    assert filled == {
        **{"data.batch_size": 7, "data.kind": "b", "model.seed": 3},
        **{"model.lr_scheduler.power": 2.0, "trainer.max_epochs": 4},
    }
    assert data.init_args == Namespace(batch_size=7, kind="b")
    assert (arguments.lr, arguments.optimizer, decay.init_args.power) == (0.1, None, 2.0)
    assert options.refit == "auto"  # which the command decides
    assert fill_open_options(options, Flowers()) == {}
