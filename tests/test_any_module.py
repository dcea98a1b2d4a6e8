"""Modules and data as Lightning's documentation writes them, unedited, under every command and after a kill."""

import lightning as L
import pytest
import torch
from torch import nn

from datamodules.batches import BatchedDataModule, BatchedDataset
from tests.conftest import refused
from tests.tools import lightning_examples
from tests.tools.runs import QUIET, At, assert_same_state, at, checkpoint, metrics, read_csv, with_callbacks

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*no `validation_step`. Skipping val loop.*"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),
    pytest.mark.filterwarnings("ignore:.*enable_nested_tensor.*"),  # torch's, of a transformer of two heads
    pytest.mark.filterwarnings("ignore:.*infer the `batch_size`.*"),  # Lightning's, of batches that are dicts
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists.*"),
]
EXAMPLES = lightning_examples.__name__
SEEDED = (*QUIET, "--seed_everything", 1)
PAIRS = {  # model, data, the line on best.ckpt, metrics of `test`
    "GAN": ("GAN", "Digits", None, {"test/d_real"}),
    "transformer": ("LanguageModel", "Corpus", "val_loss", {"test_loss"}),
    "MNIST": ("DigitClassifier", "Digits", "val_loss", {"test_loss", "test_acc"}),
    "two loaders": (
        *("DigitClassifier", "TwoLoaders", "val_loss/dataloader_idx_0"),
        {f"{name}/dataloader_idx_{number}" for name in ("test_loss", "test_acc") for number in (0, 1)},
    ),
    "CIFAR": ("ColourClassifier", "Colours", "val_loss", {"test_loss", "test_acc"}),
    "regression": ("Regression", "OnlyTraining", None, {"test/mse"}),
}


@pytest.fixture
def run(cli, capsys, tmp_path):
    """`run("fit", "GAN", "Digits", ...)` in one run directory; what it prints."""

    def command(name, model, data, *options):
        classes = ("--model", f"{EXAMPLES}.{model}", "--data", f"{EXAMPLES}.{data}")
        cli(name, *classes, *SEEDED, "--trainer.default_root_dir", tmp_path / "run", *options)
        return capsys.readouterr().out

    return command


@pytest.mark.parametrize(("model", "data", "monitor", "tested"), PAIRS.values(), ids=PAIRS)
def test_it_is_stopped_within_an_epoch_goes_on_validates_tests_and_predicts(
    run, tmp_path, model, data, monitor, tested
):
    directory = tmp_path / "run"
    loader = getattr(lightning_examples, data)()
    loader.setup("fit")
    batches = len(loader.train_dataloader())
    three = ("--trainer.max_epochs", 3)
    with pytest.raises(SystemExit):
        run("fit", model, data, *three, *with_callbacks(at(batches + 2)))
    printed = run("fit", model, data, *three, *with_callbacks(at()), "--ckpt_path", "last")

    assert "epoch 2 begins again, after 2 of its batches" in printed
    assert At.seen == [(epoch, batch) for epoch in (1, 2) for batch in range(batches)]
    last = checkpoint(directory)
    assert last["global_step"] == (3 * batches + 2) * len(last["optimizer_states"])
    assert (directory / "checkpoints/best.ckpt").is_file() == (monitor is not None)
    assert ("no best.ckpt" if monitor is None else f", {monitor} ") in printed

    trained = ("--ckpt_path", "last" if monitor is None else "best")
    if model == "Regression":
        assert "validation_step" in refused(run, "validate", model, data, *trained)
    else:
        run("validate", model, data, *trained)
    run("test", model, data, *trained)
    assert metrics(directory).keys() == tested
    if model != "Regression":  # which has no forward
        printed = run("predict", model, data, *trained)
        assert f"is in {directory / 'predictions.pt'} (torch.load)" in printed
        assert len(torch.load(directory / "predictions.pt", weights_only=True)) > 1


def test_several_optimizers_log_each_batch_once_after_a_kill(run, tmp_path):
    def to(epochs, *options):
        run("fit", "GAN", "Digits", "--trainer.max_epochs", epochs, "--trainer.log_every_n_steps", 1, *options)

    last = tmp_path / "run/checkpoints/last.ckpt"
    to(1)
    saved = last.read_bytes()
    for _ in range(2):  # the second time the curves are an epoch longer than the checkpoint
        to(2, "--ckpt_path", last)
        assert [int(row["step"]) for row in read_csv(tmp_path / "run/metrics.csv") if row["g_loss"]] == [*range(10)]
        last.write_bytes(saved)


def test_own_callbacks_stand_beside_the_run_s_and_an_epoch_that_begins_again_overruns_no_schedule(run, tmp_path):
    two = ("--trainer.max_epochs", 2)
    with pytest.raises(SystemExit):
        run("fit", "ColourClassifier", "Colours", *two, *with_callbacks(at(4)))
    run("fit", "ColourClassifier", "Colours", *two, "--ckpt_path", "last")
    last = checkpoint(tmp_path / "run")
    assert last["lr_schedulers"][0]["last_epoch"] == 10  # the last of the planned steps, although 14 were taken
    assert last["global_step"] == 14
    folder = tmp_path / "run/checkpoints"
    assert {path.name for path in folder.glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}
    assert 1 <= len([*(folder / "callbacks").glob("*val_acc=*")]) <= 2


# What predict saves


class Returns(L.LightningModule):
    """Returns what it is told to, for each batch with its number."""

    def __init__(self, what: str = "tensor"):
        super().__init__()
        self.what, self.layer = what, nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def predict_step(self, batch, batch_idx):
        value = torch.full((2,), float(batch_idx))
        whole = torch.zeros(1000, 100)
        return {
            "tensor": value,
            "dict": {"of": value, "name": "a"},
            "list": [value, (value, None)],
            "view": whole[0],
            "nothing": None,
            "array": value.numpy(),
        }[self.what]


@pytest.fixture
def predict(run, monkeypatch, tmp_path):
    monkeypatch.setattr(lightning_examples, "Returns", Returns, raising=False)
    run("fit", "Returns", "Labels", "--trainer.max_epochs", 1)

    def command(what):
        printed = run("predict", "Returns", "Labels", "--model.what", what, "--ckpt_path", "last")
        file = tmp_path / "run/predictions.pt"
        return printed, torch.load(file, weights_only=True) if file.is_file() else None

    return command


def test_tensors_lists_and_dicts_are_saved_batch_by_batch_and_a_view_brings_no_more_than_itself(predict, tmp_path):
    for what in ("tensor", "dict", "list", "view"):
        saved = predict(what)[1]
        expected = [Returns(what).predict_step(None, number) for number in range(4)]
        assert str(saved) == str(expected), what
    assert (tmp_path / "run/predictions.pt").stat().st_size < 10_000


@pytest.mark.filterwarnings("ignore:predict returned None")
def test_what_no_file_can_hold_costs_one_line(predict):
    printed, saved = predict("array")
    assert "`predict` saves nothing: predict_step's output is a numpy.ndarray" in printed
    assert "store torch.from_numpy(array)" in printed
    assert saved is None
    assert predict("nothing")[1] is None


def test_each_loader_has_a_list_of_its_own(run, tmp_path):
    run("fit", "DigitClassifier", "TwoLoaders", "--trainer.max_epochs", 1)
    run("predict", "DigitClassifier", "TwoLoaders", "--ckpt_path", "best")
    first, second = torch.load(tmp_path / "run/predictions.pt", weights_only=True)
    assert [len(batch) for batch in first] == [8, 8, 4]
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


# Exactly at its batch


class Rows(BatchedDataModule):
    class_names = ("no", "yes")

    def dataset(self, split):
        x = lightning_examples.drawn(32, 4)
        return BatchedDataset(lambda batch: x[batch.indices], (x.sum(dim=1) > 0).long())


class Planned(lightning_examples.Regression):
    """Asks for the number of steps, and so for the loaders, before the loops of a resumed run are restored."""

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.layer(batch.x).squeeze(1), batch.target.float())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def test_with_batched_data_a_resume_goes_on_at_its_batch_also_where_the_model_plans_its_steps(cli, tmp_path, capsys):
    classes = ("--model", f"{__name__}.Planned", "--data", f"{__name__}.Rows", "--data.batch_size", 8, *SEEDED)

    def fit(name, batch, *options):
        place = ("--trainer.default_root_dir", tmp_path / name, "--trainer.max_epochs", 3)
        cli("fit", *classes, *place, *with_callbacks(at(batch)), *options)

    fit("straight", -1)
    with pytest.raises(SystemExit):
        fit("run", 6)
    fit("run", -1, "--ckpt_path", "last")
    assert At.seen == [(1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert "begins again" not in capsys.readouterr().out
    assert_same_state(tmp_path / "run", tmp_path / "straight")
