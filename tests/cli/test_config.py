"""Configurations: read, one laid over another, checked, and written so that they can be read."""

import sys

import lightning as L
import pytest
import yaml
from jsonargparse import Namespace

from cli.config import config_first, load_yaml, require_options
from tests.conftest import refused

BINARY = "configs/iris_binary.yaml"  # its optimizer is torch.optim.SGD with lr: 0.5


def test_a_value_of_an_option_is_no_configuration():
    assert load_yaml("[1, 2]") == [1, 2]


@pytest.mark.parametrize(
    "text, value",
    [
        (r'["\ud83d\ude00 hi", "a\/b", 1e-3, null]', ["😀 hi", "a/b", 1e-3, None]),
        (r'{"\ud83d\ude00": [true, 2]}', {"😀": [True, 2]}),
        ("[NaN, yes, 1e-3]", ["NaN", True, 1e-3]),
        ("0777", 511),
    ],
)
def test_a_value_is_read_as_json_or_else_as_yaml(text, value):
    assert load_yaml(text) == value


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match=r"expected YAML: .* invalid Unicode character escape"):
        load_yaml(r'["\ud83d"]')


def test_an_option_replaces_that_of_a_file_on_either_side_of_it(cli, capsys):
    with pytest.raises(SystemExit):
        cli("fit", "--data.batch_size", "7", "--refit", "folds", "--config", BINARY, "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["data"]["init_args"]["batch_size"], config["refit"]) == (7, "folds")


@pytest.mark.parametrize("file", [["--config", "a.yaml"], ["--config=a.yaml"], ["-c", "a.yaml"]])
def test_the_first_file_comes_first_and_all_others_stay_where_they_are(file):
    after = ["--model.lr=1", "--config", "b.yaml", "--model.l2", "2"]
    assert config_first(["--test", "true", *file, *after]) == [*file, "--test", "true", *after]
    assert config_first([*file, *after]) == [*file, *after]
    assert config_first(["--test", "true"]) == ["--test", "true"]


# A class that replaces another


@pytest.fixture
def resolved(cli, capsys, tmp_path):
    """What becomes of a config, an overlay of it, and further words of the command line."""

    def resolve(overlay, *words, config=BINARY):
        path = tmp_path / "overlay.yaml"
        path.write_text(yaml.safe_dump(overlay))
        with pytest.raises(SystemExit) as end:
            cli("fit", "--config", config, "--config", path, *words, "--print_config")
        assert end.value.code == 0
        return yaml.safe_load(capsys.readouterr().out)

    return resolve


def optimizer(value):
    return {"model": {"init_args": {"optimizer": value}}}


ADAM_W, SGD = {"lr": 1e-3, "weight_decay": 1e-2}, {"lr": 0.5, "momentum": 0.9}


@pytest.mark.parametrize(
    ("overlay", "words", "name", "expected"),
    [
        # Another class starts from its own defaults
        (optimizer("torch.optim.AdamW"), (), "AdamW", ADAM_W),
        (optimizer({"class_path": "AdamW"}), (), "AdamW", ADAM_W),
        ({}, ("--model.optimizer", "torch.optim.AdamW"), "AdamW", ADAM_W),
        ({}, ("--model.optimizer=AdamW",), "AdamW", ADAM_W),
        # What is given with it stays
        (optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 7.0}}), (), "Adam", {"lr": 7.0}),
        ({}, ("--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "7"), "Adam", {"lr": 7.0}),
        # Of the same class the other options stay
        (optimizer({"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}), (), "SGD", SGD),
        (optimizer({"class_path": "torch.optim.sgd.SGD", "init_args": {"momentum": 0.9}}), (), "SGD", SGD),
    ],
)
def test_an_optimizer_has_what_is_given_with_its_own_class_and_no_option_of_another(
    resolved, overlay, words, name, expected
):
    spec = resolved(overlay, *words)["model"]["init_args"]["optimizer"]
    assert spec["class_path"].rpartition(".")[2] == name
    assert expected.items() <= spec["init_args"].items()


def test_callbacks_are_compared_by_their_place_in_the_list(resolved):
    boundary = {"class_path": "callbacks.figures.boundary.DecisionBoundary", "init_args": {"every_n_epochs": 7}}
    surface = "callbacks.figures.loss_surface.LossSurface"
    stopping = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val/loss"}}
    found = resolved({"trainer": {"callbacks": [boundary, {"class_path": surface}, stopping]}})["trainer"]["callbacks"]
    assert [spec["class_path"] for spec in found] == [boundary["class_path"], surface, stopping["class_path"]]
    assert found[0]["init_args"]["every_n_epochs"] == 7
    assert "every_n_epochs" not in found[1].get("init_args", {})


@pytest.mark.parametrize("words", [(), ("--model", "logreg.one_vs_all.OneVsAll")])
def test_another_model_takes_over_nothing_either(resolved, words):
    overlay = {} if words else {"model": {"class_path": "logreg.one_vs_all.OneVsAll"}}
    model = resolved(overlay, *words)["model"]
    assert model["class_path"] == "logreg.one_vs_all.OneVsAll"
    assert model["init_args"]["l2"] == 0
    assert model["init_args"]["optimizer"]["init_args"]["lr"] != 0.5


def test_a_required_option_of_the_new_class_is_not_taken_from_the_old_one(cli, tmp_path):
    path = tmp_path / "overlay.yaml"
    exponential = {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5}}
    path.write_text(yaml.safe_dump({"model": {"init_args": {"lr_scheduler": exponential}}}))
    scheduler = ("--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR")
    assert "step_size" in refused(cli, "fit", "--config", BINARY, "--config", path, *scheduler)


BY_DEFAULT = {
    "Timer": ("--trainer.callbacks.duration=00:12:00:00", {"interval": "step"}),  # an enum
    "ModelPruning": ("--trainer.callbacks.pruning_fn=l1_unstructured", {"pruning_fn": "l1_unstructured"}),
}


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_options_of_lightnings_callbacks_are_written_as_what_can_be_read(cli, tmp_path, name):
    required, expected = BY_DEFAULT[name]
    words = ("--trainer.callbacks", f"lightning.pytorch.callbacks.{name}", required)
    short = ("--trainer.max_epochs", 1, "--trainer.default_root_dir")
    cli("fit", "--config", BINARY, *words, *short, tmp_path / "first")
    cli("fit", "--config", tmp_path / "first/config.yaml", *short, tmp_path / "second")
    texts = [(tmp_path / run / "config.yaml").read_text() for run in ("first", "second")]
    assert texts[0] == texts[1]
    [written] = yaml.safe_load(texts[0])["trainer"]["callbacks"]
    assert expected.items() <= written["init_args"].items()


class Odd(L.Callback):
    def __init__(self, thing: object = object()):
        """Cannot be written: no name leads to the value."""


def test_an_option_that_cannot_be_written_is_refused_before_training(cli, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    place = ("--trainer.default_root_dir", tmp_path / "run")
    with pytest.raises(SystemExit, match=r"^error: .*Only possible to serialize an importable object.*") as end:
        cli("fit", "--config", BINARY, "--trainer.callbacks", "mine.Odd", *place)
    assert "\n" not in end.value.code
    assert list(tmp_path.iterdir()) == []


# Null where a value belongs


def spec(class_path, **arguments):
    return Namespace(class_path=class_path, init_args=Namespace(**arguments))


class WithForeignHint:
    def __init__(self, number: "imported_for_type_checkers.Number" = 1) -> None:  # type: ignore[name-defined]  # noqa: F821
        self.number = number


LOGIT, XOR, SOFTMAX = "logreg.binary.BinaryLogit", "datamodules.table.xor.XORDataModule", "logreg.SoftmaxRegression"


@pytest.mark.parametrize(
    ("model", "data", "option"),
    [
        (spec(LOGIT, l2=None), spec(XOR), "model.l2"),
        (spec(LOGIT, optimizer=None), spec(XOR), "model.optimizer"),
        (spec(SOFTMAX, lr=0.1, bias_lr_factor=None), spec(XOR), "model.bias_lr_factor"),
        (spec(LOGIT), spec(XOR, batch_size=None), "data.batch_size"),  # an option of the parent's
    ],
)
def test_null_is_refused_where_an_option_has_a_value_by_default(model, data, option):
    with pytest.raises(ValueError, match=f"{option}: expected a value, got null; leave it out"):
        require_options(Namespace(model=model, data=data))


@pytest.mark.parametrize("data", [spec(XOR, seed=None), spec(f"{__name__}.WithForeignHint", number=None)])
def test_null_is_taken_where_the_option_says_so_or_the_data_gives_the_value(data):
    model = spec(SOFTMAX, clip_norm=None, seed=None, num_features=None, lr_scheduler=None)
    require_options(Namespace(model=model, data=data))
