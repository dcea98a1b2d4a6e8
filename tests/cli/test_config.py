"""What a configuration may hold: maps where maps belong, an end, and classes instead of functions."""

import pathlib

import pytest
import torch
from jsonargparse import Namespace

from cli.config import load_yaml, require_classes


def refused(text):
    with pytest.raises(ValueError) as caught:
        load_yaml(text, "some.yaml")
    message = str(caught.value)
    assert message.startswith("some.yaml: expected ")
    assert len(message) < 300
    return message


def test_a_configuration_is_read():
    text = "model:\n  class_path: a.B\n  init_args: {lr: 1e-3}\ntrainer: {}\ndata: a.C\n"
    assert load_yaml(text, "some.yaml")["data"] == "a.C"


def test_a_value_of_an_option_is_no_configuration():
    assert load_yaml("[1, 2]") == [1, 2]


def test_aliases_that_expand_without_end_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "at most 100,000 values" in refused("\n".join(lines))


def test_yaml_that_refers_to_itself_is_refused():
    assert "nested at most 50 deep" in refused("a: &a [*a]")


@pytest.mark.parametrize("depth", [100, 10_000])
def test_yaml_that_nests_too_deep_is_refused(depth):
    assert "nest" in refused("a: " + "[" * depth + "]" * depth)


def test_a_file_without_end_is_refused():
    assert "at most 1,000,000 characters of YAML, got 50,000,003" in refused("a: " + "x" * 50_000_000)


@pytest.mark.parametrize("text", ["", "{model: [a]}", "- a", "{data: {init_args: [a]}}", "a: ["])
def test_what_is_no_map_of_options_is_refused(text):
    refused(text)


# Classes


def options(**values):
    return Namespace(model=Namespace(class_path="logreg.binary.BinaryLogit", init_args=Namespace(**values)))


def spec(class_path, **arguments):
    return Namespace(class_path=class_path, init_args=Namespace(**arguments))


@pytest.mark.parametrize(
    "value",
    [
        options(optimizer=torch.optim.SGD, lr_scheduler=None),
        options(optimizer=spec("torch.optim.Adam", lr=0.1)),
        options(lr_scheduler=spec("torch.optim.lr_scheduler.StepLR", step_size=1)),
        options(lr_scheduler=spec("logreg.optimizers.DecayToZero")),
        options(net=spec("torch.nn.Linear", in_features=1, out_features=1)),
        Namespace(trainer=Namespace(callbacks=[spec("callbacks.decision_boundary.DecisionBoundary")])),
    ],
)
def test_classes_are_taken(value):
    require_classes(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            options(optimizer=print),
            r"model\.init_args\.optimizer: expected a subclass of torch\.optim\S*Optimizer, got p",
        ),
        (
            options(optimizer=spec("os.system", command="x")),
            r"optimizer\.class_path: expected a subclass .* got system",
        ),
        (options(optimizer=spec("pathlib.Path")), "expected a subclass"),
        (options(optimizer=pathlib.Path), "expected a subclass"),
        (
            options(lr_scheduler=spec("torch.optim.SGD")),
            r"lr_scheduler\S+: expected a subclass of \S+LRScheduler, got SGD",
        ),
        (options(lr_scheduler=spec("torch.optim.lr_scheduler.LambdaLR", lr_lambda=abs)), "lr_lambda: expected a class"),
        (options(activation=torch.relu), r"activation: expected a class, got \S*relu; functions are not taken"),
        (
            Namespace(trainer=Namespace(callbacks=[spec("os.getcwd")])),
            r"trainer\.callbacks\[0\]\.class_path: expected a c",
        ),
    ],
)
def test_functions_and_other_classes_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        require_classes(value)
