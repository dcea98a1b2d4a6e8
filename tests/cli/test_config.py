"""What a configuration may hold: classes instead of functions, and no null where a value belongs."""

import pathlib

import pytest
import torch
from jsonargparse import Namespace

from cli.config import require_classes, require_values


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
        Namespace(trainer=Namespace(callbacks=[spec("callbacks.run.divergence.StopOnDivergence")])),
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


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("logreg.binary.BinaryLogit", {"l2": None}, r"model\.l2: expected a value, got null; leave it out"),
        ("logreg.binary.BinaryLogit", {"optimizer": None}, r"model\.optimizer: expected a value"),
        ("logreg.softmax.SoftmaxRegression", {"lr": 0.1, "bias_lr_factor": None}, r"model\.bias_lr_factor: expected a"),
    ],
)
def test_null_is_refused_where_an_option_has_a_value_by_default(model, options, message):
    pytest.importorskip(model.rpartition(".")[0], reason="deleted with its tasks")
    with pytest.raises(ValueError, match=message):
        require_values(Namespace(model=spec(model, **options), data=spec("datamodules.table.files.TableDataModule")))


def test_null_is_taken_where_the_option_says_so_or_the_data_gives_the_value():
    pytest.importorskip("logreg.softmax", reason="deleted with its tasks")
    model = spec("logreg.softmax.SoftmaxRegression", clip_norm=None, seed=None, num_features=None, lr_scheduler=None)
    require_values(Namespace(model=model, data=spec("datamodules.batches.BatchedDataModule", seed=None)))


def test_an_inherited_option_is_looked_up_where_it_is_declared():
    pytest.importorskip("datamodules.table.xor", reason="deleted with its task")
    data = spec("datamodules.table.xor.XORDataModule", batch_size=None)
    with pytest.raises(ValueError, match=r"data\.batch_size: expected a value"):
        require_values(Namespace(model=spec("logreg.binary.BinaryLogit"), data=data))


class WithForeignHint:
    def __init__(self, number: "imported_for_type_checkers.Number" = 1) -> None:  # type: ignore[name-defined]  # noqa: F821
        self.number = number


def test_a_type_that_cannot_be_looked_up_leaves_null_to_the_class_itself():
    data = spec(f"{__name__}.WithForeignHint", number=None)
    require_values(Namespace(model=spec("logreg.binary.BinaryLogit"), data=data))
