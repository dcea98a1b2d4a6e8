"""Where an overlay names another class, that class starts from its own defaults and inherits nothing."""

import pytest
import yaml

from cli.overlays import Overlays

SGD = {"model": {"init_args": {"optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}}}}}


def overlaid(*configs):
    overlays = Overlays()
    return [overlays.add(f"{number}.yaml", config) for number, config in enumerate(configs)][-1]


def optimizer(value):
    return {"model": {"init_args": {"optimizer": value}}}


@pytest.mark.parametrize("adam", ["torch.optim.AdamW", {"class_path": "torch.optim.AdamW"}])
def test_another_optimizer_starts_from_its_own_defaults(adam):
    spec = overlaid(SGD, optimizer(adam))["model"]["init_args"]["optimizer"]
    assert spec["class_path"] == "torch.optim.AdamW"
    assert (spec["init_args"]["lr"], spec["init_args"]["weight_decay"]) == (1e-3, 1e-2)


def test_what_the_overlay_gives_stays():
    spec = overlaid(SGD, optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 7.0}}))
    assert spec["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 7.0


@pytest.mark.parametrize("same", ["torch.optim.SGD", "torch.optim.sgd.SGD"])
def test_of_the_same_class_the_other_arguments_stay(same):
    config = optimizer({"class_path": same, "init_args": {"momentum": 0.9}})
    assert overlaid(SGD, config) == config


def test_callbacks_are_compared_by_their_place_in_the_list():
    def callbacks(*names):
        return {"trainer": {"callbacks": [{"class_path": name} for name in names]}}

    before = callbacks("callbacks.decision_boundary.DecisionBoundary")
    before["trainer"]["callbacks"][0]["init_args"] = {"every_n_epochs": 10}
    new = "lightning.pytorch.callbacks.LearningRateMonitor", "lightning.pytorch.callbacks.Timer"
    spec = overlaid(before, callbacks(*new))["trainer"]["callbacks"]
    assert "every_n_epochs" not in spec[0]["init_args"]
    assert spec[1] == {"class_path": new[1]}


def test_an_argument_without_default_is_left_for_the_parser_to_refuse():
    steps = {"class_path": "torch.optim.lr_scheduler.StepLR"}
    cosine = {"class_path": "torch.optim.lr_scheduler.ExponentialLR", "init_args": {"gamma": 0.5, "step_size": 3}}
    spec = overlaid({"model": {"lr_scheduler": cosine}}, {"model": {"lr_scheduler": steps}})
    assert spec["model"]["lr_scheduler"]["init_args"] == {"gamma": 0.1, "step_size": None, "last_epoch": -1}


def test_a_third_file_is_compared_with_the_first_two_together():
    adam = optimizer({"class_path": "torch.optim.Adam", "init_args": {"lr": 7.0}})
    config = optimizer({"class_path": "torch.optim.Adam", "init_args": {"eps": 1e-3}})
    assert overlaid(SGD, adam, config) == config


def test_a_file_that_is_read_twice_is_compared_with_those_before_it_alone():
    overlays = Overlays()
    adam = optimizer("torch.optim.Adam")
    first = overlays.add("a.yaml", SGD), overlays.add("b.yaml", adam)
    assert (overlays.add("a.yaml", SGD), overlays.add("b.yaml", adam)) == first


def test_a_class_that_does_not_exist_is_refused_by_its_place():
    with pytest.raises(ValueError, match=r"model\.init_args\.optimizer: expected a class, .* torch\.optim\.Nonsense"):
        overlaid(SGD, optimizer("torch.optim.Nonsense"))


def test_fit_trains_with_the_defaults_of_the_class_in_the_overlay(cli, tmp_path):
    overlay = tmp_path / "adamw.yaml"
    overlay.write_text(yaml.safe_dump(optimizer("torch.optim.AdamW")))
    run = tmp_path / "run"
    files = ("--config", "configs/iris_binary.yaml", "--config", overlay)
    cli("fit", *files, "--trainer.max_epochs", 1, "--trainer.default_root_dir", run)
    written = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["optimizer"]
    assert (written["init_args"]["lr"], written["init_args"]["weight_decay"]) == (1e-3, 1e-2)
