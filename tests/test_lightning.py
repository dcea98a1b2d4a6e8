"""Callbacks, loggers and modules of other Lightning projects: they work as there, or are refused in one line."""

import json
import textwrap
from contextlib import nullcontext
from functools import partial

import pytest

from tests.conftest import refused
from tests.tools.runs import QUIET, ROOT, assert_same_state, at, contents, read_csv, weights, with_callbacks
from tests.tools.runs import checkpoint as load

ENDS = {"SIGTERM": SystemExit, "kill": RuntimeError}  # of a fit, by what `at` does
IRIS = ("fit", "--config", "configs/iris_binary.yaml", *QUIET)


@pytest.fixture
def own_modules(monkeypatch, tmp_path):
    """What a test writes into `own` can be imported."""
    (tmp_path / "own").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture
def interrupted(cli, tmp_path, capsys):
    """`interrupted(options, callbacks, event)` is a run that an event ended, and that ends like a straight one."""

    def fit(options, callbacks, event):
        run, straight = ("--trainer.default_root_dir", tmp_path / "run"), tmp_path / "straight"
        last = run[1] / "checkpoints/last.ckpt"
        cli(*IRIS, *options, *with_callbacks(*callbacks), "--trainer.default_root_dir", straight)
        with pytest.raises(ENDS[event[1]["what"]]) if event[1]["what"] in ENDS else nullcontext():
            cli(*IRIS, *options, *with_callbacks(*callbacks, event), *run)
        assert load(run[1])["global_step"] < load(straight)["global_step"]
        capsys.readouterr()
        cli(*IRIS, *options, *with_callbacks(*callbacks), *run, "--ckpt_path", last)
        assert_same_state(run[1], straight, "last", "best")
        return run[1]

    return fit


# A second ModelCheckpoint


def test_reports_are_those_of_best_ckpt_beside_another_checkpoint_callback(cli, tmp_path):
    rate = ("--model.l2", 0, "--model.optimizer.init_args.lr", 20, "--trainer.max_epochs", 9)
    mine = ("ModelCheckpoint", {"monitor": "train/loss", "filename": "mine"})
    boundary = ("callbacks.figures.boundary.DecisionBoundary", {"every_n_epochs": 100, "resolution": 5})
    run = tmp_path / "run"
    cli(*IRIS, *rate, "--trainer.default_root_dir", run, *with_callbacks(mine, boundary))
    assert load(run, "callbacks/mine")["epoch"] != load(run, "best")["epoch"] < 8
    table = [float(row["weight_standardised"]) for row in read_csv(run / "coefficients.csv")]
    w = next(value for value in weights(run, "best").values() if value.numel() == 2)
    assert table[:2] == pytest.approx(w.flatten().tolist(), rel=1e-5)
    assert (run / "figures/boundary_best.png").is_file()


DEFAULTS = {
    "as in the documentation": {"save_last": True},
    "best": {"filename": "best"},
    "linked": {"save_last": "link"},
}


@pytest.mark.parametrize("options", DEFAULTS.values(), ids=DEFAULTS)
def test_another_checkpoint_callback_leaves_those_of_the_run_alone(cli, tmp_path, options):
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs")
    mine = with_callbacks(("ModelCheckpoint", {"monitor": "val/loss", "mode": "max", **options}))
    cli(*IRIS, *place, 3, *mine)
    assert [*(tmp_path / "run/checkpoints/callbacks").iterdir()]
    cli(*IRIS, *place, 6, *mine, "--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
    cli(*IRIS, "--trainer.max_epochs", 6, "--trainer.default_root_dir", tmp_path / "straight", *with_callbacks())
    assert_same_state(tmp_path / "run", tmp_path / "straight", "last", "best")


TAKEN = {
    "best": ("ModelCheckpoint", {"dirpath": "RUN/checkpoints", "filename": "best"}),
    "last": ("ModelCheckpoint", {"dirpath": "RUN/checkpoints", "save_last": "link"}),
    "an epoch": ("ModelCheckpoint", {"dirpath": "RUN/checkpoints", "filename": "epoch_00001"}),
    "through another folder": ("ModelCheckpoint", {"dirpath": "RUN", "filename": "checkpoints/best"}),
    "last, on an exception": ("OnExceptionCheckpoint", {"dirpath": "RUN/checkpoints", "filename": "last"}),
}


@pytest.mark.filterwarnings("ignore:.*fit.ckpt_path=")  # an OnExceptionCheckpoint makes Lightning look for its file
@pytest.mark.parametrize(("name", "options"), TAKEN.values(), ids=TAKEN)
def test_another_callback_that_would_write_the_run_s_own_files_is_refused(cli, tmp_path, name, options):
    options = json.loads(json.dumps(options).replace("RUN", str(tmp_path / "run")))
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    line = refused(cli, *IRIS, *place, *with_callbacks((name, options)))
    assert f"{name} would write " in line and "give it another filename" in line
    assert not (tmp_path / "run").exists()


def test_names_of_the_same_kind_in_a_folder_of_one_s_own_are_not(cli, tmp_path):
    options = {"dirpath": str(tmp_path / "mine"), "filename": "best", "save_last": True}
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    cli(*IRIS, *place, *with_callbacks(("ModelCheckpoint", options)))
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_the_user_s_own_checkpoints_keep_their_scores_on_a_resume(cli, tmp_path):
    """The run is named by a relative path, as in the default runs/NAME."""
    mine = with_callbacks(("ModelCheckpoint", {"monitor": "train/loss", "filename": "{step}", "save_top_k": 2}))
    for epochs, resume in ((3, ()), (6, ("--ckpt_path", "runs/r/checkpoints/last.ckpt"))):
        place = ("--trainer.default_root_dir", "runs/r", "--trainer.max_epochs", epochs)
        cli("fit", "--config", ROOT / IRIS[2], *QUIET, *mine, *place, *resume, folder=tmp_path)
    assert len([*(tmp_path / "runs/r/checkpoints/callbacks").glob("step=*.ckpt")]) == 2


# Gradients that wait for further batches

SIX = ("--data.batch_size", 6, "--trainer.val_check_interval", 5, "--trainer.accumulate_grad_batches", 3)
SCHEDULE = ("GradientAccumulationScheduler", {"scheduling": {1: 3}})
WINDOWS = {
    "signal": (("--trainer.accumulate_grad_batches", 3), [], at(1, "SIGTERM")),
    "kill after a validation": (SIX, [], at(6, "kill")),
    "by a schedule": ((), [SCHEDULE], at(6, "SIGTERM")),
}
MORE_WINDOWS = {
    "stop": (("--data.batch_size", 6, "--trainer.accumulate_grad_batches", 3), [], at(5, "stop")),
    "signal in a later one": (("--trainer.accumulate_grad_batches", 3), [], at(5, "SIGTERM")),
    "signal before a validation": (SIX, [], at(5, "SIGTERM")),
    "stop before a validation": (SIX, [], at(5, "stop")),
    "by a schedule, after a step": (("--checkpoint.every_n_train_steps", 1), [SCHEDULE], at(8, "kill")),
}
WINDOWS |= {name: pytest.param(*case, marks=pytest.mark.slow) for name, case in MORE_WINDOWS.items()}


@pytest.mark.parametrize(("options", "callbacks", "event"), WINDOWS.values(), ids=WINDOWS)
def test_a_resume_loses_no_gradient_that_was_accumulated(interrupted, options, callbacks, event):
    interrupted(("--trainer.max_epochs", 3, *options), callbacks, event)


def test_a_fit_from_a_checkpoint_without_its_gradients_is_refused(cli, tmp_path):
    """best.ckpt holds the validated weights; what had been added to the gradients since the step is in no file."""
    run = tmp_path / "run"
    plan = (*IRIS, *SIX, *with_callbacks(), "--trainer.default_root_dir", run, "--checkpoint.mode", "max")
    plan += ("--trainer.max_epochs",)
    cli(*plan, 1)
    assert load(run, "best")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] % 3
    line = refused(cli, *plan, 2, "--ckpt_path", run / "checkpoints/best.ckpt")
    assert "written while gradients waited for further batches" in line
    assert "go on from last.ckpt" in line


# Callbacks that keep state

NOT_RESUMED = {
    "BatchSizeFinder": {"max_val": 4},
    "ModelPruning": {"pruning_fn": "l1_unstructured", "make_pruning_permanent": False},
    "lightning.pytorch.callbacks.spike.SpikeDetection": {},
}


@pytest.mark.parametrize(("name", "options"), NOT_RESUMED.items())
def test_what_lightning_does_not_restore_is_refused_on_a_resume_alone(cli, tmp_path, name, options):
    run = tmp_path / "run"
    plan = (*IRIS, *with_callbacks((name, options)), "--trainer.default_root_dir", run, "--trainer.max_epochs")
    cli(*plan, 2)
    before = contents(run)
    line = refused(cli, *plan, 3, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert f"{name.rpartition('.')[2]} cannot be resumed: it " in line
    assert contents(run) == before


def test_an_average_that_no_checkpoint_would_hold_is_refused(cli, tmp_path):
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 4)
    line = refused(cli, *IRIS, *place, *with_callbacks(("StochasticWeightAveraging", {"swa_lrs": 0.1})))
    assert "use EMAWeightAveraging or WeightAveraging, which save it" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "callback", [("EMAWeightAveraging", {"decay": 0.9}), ("WeightAveraging", {})], ids=lambda callback: callback[0]
)
def test_an_average_of_weights_goes_on_to_the_same_bits(interrupted, callback):
    interrupted(("--trainer.max_epochs", 4, "--checkpoint.every_n_train_steps", 3), [callback], at(12, "kill"))


# Early stopping


def stopping(**options):
    return with_callbacks(("EarlyStopping", {"monitor": "val/loss", **options}))


def test_a_run_goes_on_with_more_patience_as_if_it_had_had_it_from_the_beginning(cli, tmp_path):
    first, then = ({"patience": patience, "min_delta": 5.0} for patience in (1, 4))
    run, straight = tmp_path / "run", tmp_path / "straight"
    plan = (*IRIS, "--trainer.max_epochs", 9)
    cli(*plan, *stopping(**then), "--trainer.default_root_dir", straight)
    cli(*plan, *stopping(**first), "--trainer.default_root_dir", run)
    assert load(run)["epoch"] < load(straight)["epoch"]
    cli(*plan, *stopping(**then), "--trainer.default_root_dir", run, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert_same_state(run, straight, "last", "best")
    assert load(run)["callbacks"].keys() == load(straight)["callbacks"].keys()


@pytest.mark.slow
def test_with_min_epochs_a_run_is_not_said_to_have_ended(interrupted, capsys):
    early = ("EarlyStopping", {"monitor": "val/loss", "patience": 1, "min_delta": 5.0})
    run = interrupted(("--trainer.max_epochs", 20, "--trainer.min_epochs", 8), [early], at(23, "kill"))
    assert "had ended this run" not in capsys.readouterr().out
    assert load(run)["epoch"] == 7


# Modules of one's own

NET = """
import random
import numpy as np
import lightning as L, torch
from pathlib import Path

class Data(L.LightningDataModule):
    def loader(self):
        return torch.utils.data.DataLoader(torch.arange(12.0).reshape(12, 1), batch_size=4)
    train_dataloader = val_dataloader = loader

class Net(L.LightningModule):
    def __init__(self, folder: str = "data"):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
    def loss(self, batch):
        return (self.layer(batch / 12) - 1).square().mean()
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_epoch=True)
        return loss
    def validation_step(self, batch, batch_idx):
        {validation}
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
{more}
"""


@pytest.fixture
def own_net(cli, own_modules, tmp_path):
    """`own_net(validation, more, *options)` fits a module whose validation step has these lines."""

    def fit(validation="pass", more="", *options):
        name = f"{tmp_path.name}_{len([*own_modules.iterdir()])}"
        more = textwrap.indent(textwrap.dedent(more), " " * 4)
        (own_modules / f"{name}.py").write_text(NET.replace("{validation}", validation).replace("{more}", more))
        config, trainer = tmp_path / "own.yaml", "{max_epochs: 2, log_every_n_steps: 1}"
        config.write_text(f"{{seed_everything: 1, model: {name}.Net, data: {name}.Data, trainer: {trainer}}}")
        cli("fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run", *QUIET, *options)
        return tmp_path / "run"

    return fit


MONITORED = {
    "of each step too": ('self.log("val_loss", self.loss(batch), on_step=True, on_epoch=True)', "val_loss"),
    "valid/loss_total": ('self.log_dict({"valid/loss_total": self.loss(batch), "valid/acc": 1.0})', "valid/loss_total"),
    "val/loss of several": ('self.log_dict({"val/loss_a": 9.0, "val/loss": self.loss(batch)})', "val/loss"),
}


@pytest.mark.parametrize(("validation", "name"), MONITORED.values(), ids=MONITORED)
def test_the_loss_of_the_validation_decides_which_state_is_best(own_net, capsys, validation, name):
    sanity = 0 if "total" in name else 2
    run = own_net(validation, "", "--trainer.num_sanity_val_steps", sanity)
    assert f"best.ckpt: epoch 2, {name} 0." in capsys.readouterr().out
    assert load(run, "best")["epoch"] == 1


@pytest.mark.parametrize(
    ("validation", "listed"),
    [("pass", "nothing"), ('self.log_dict({"val_loss_a": 1.0, "val_loss_b": 2.0})', "val_loss_a, val_loss_b")],
)
def test_where_there_is_no_such_loss_a_line_names_what_there_is(own_net, capsys, validation, listed):
    run = own_net(validation)
    said = capsys.readouterr().out
    assert f"checkpoint.monitor auto: expected one loss of the validation, got {listed}; no best.ckpt" in said
    assert "no best.ckpt: checkpoint.monitor auto found no loss of a validation" in said
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]


PLATEAU = """
def configure_optimizers(self):
    optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}
"""
CANNOT_COME = {
    "checkpoint.monitor": ("", ("--checkpoint.monitor", "val_loss"), "checkpoint.monitor"),
    "EarlyStopping": ("", with_callbacks(("EarlyStopping", {"monitor": "val_loss"})), "monitor of EarlyStopping"),
    "ModelCheckpoint": ("", with_callbacks(("ModelCheckpoint", {"monitor": "val_loss"})), "monitor of ModelCheckpoint"),
    "ReduceLROnPlateau": (PLATEAU, (), "monitor of ReduceLROnPlateau"),
}


@pytest.mark.parametrize("dry", ["false", "true"])
@pytest.mark.parametrize(("more", "options", "who"), CANNOT_COME.values(), ids=CANNOT_COME)
def test_a_metric_that_cannot_come_is_refused_before_the_first_step(own_net, tmp_path, more, options, who, dry):
    options = (*options, "--trainer.fast_dev_run", dry)
    more += "\ndef on_train_batch_start(self, *_):\n    assert self.trainer.fast_dev_run\n"
    line = refused(own_net, 'self.log("val/loss", self.loss(batch))', more, *options)
    assert line.startswith(f"error: expected val_loss ({who}) to be logged, got only: ")
    assert "val/loss" in line
    assert not (tmp_path / "run").exists()


def test_a_metric_that_the_first_epoch_might_have_logged_costs_no_state(own_net, tmp_path):
    line = refused(own_net, 'self.log("val_loss", self.loss(batch))', "", "--checkpoint.monitor", "train_lost")
    assert "expected train_lost (checkpoint.monitor) to be logged, got only: " in line
    assert load(tmp_path / "run")["epoch"] == 0
    resume = ("--ckpt_path", tmp_path / "run/checkpoints/last.ckpt", "--checkpoint.monitor", "train_loss")
    run = own_net('self.log("val_loss", self.loss(batch))', "", *resume)
    assert load(run, "best")["epoch"] == 1


def test_a_metric_that_the_sanity_check_leaves_out_is_taken_from_the_first_validation(own_net):
    more = """
    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.log("val_best", float(self.current_epoch))
    """
    run = own_net("pass", more, "--checkpoint.monitor", "val_best", "--checkpoint.mode", "max")
    assert load(run, "best")["epoch"] == 1


PLATEAU_ON_IRIS = """
def loss(self, batch):
    return (self.layer(batch[0][:, :1]) - batch[1][:, None].float()).square().mean()

def configure_optimizers(self):
    optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, **%s}}
"""
DRAWS = """
def loss(self, batch):
    x = torch.nn.functional.dropout(batch[0][:, :1], 0.3, self.training)
    return (self.layer(x) - torch.randn(1) - np.random.normal() - random.random()).square().mean()
"""
IRIS_DATA = ("--data", "datamodules.table.iris.IrisDataModule", "--data.batch_size", 20)
SHUFFLED = """
DATA = torch.arange(12.0)[:, None]

def setup(self, stage=None):
    self.trainer.datamodule.train_dataloader = lambda: torch.utils.data.DataLoader(self.DATA, 4, shuffle=True)
"""
EACH_STEP = ("--checkpoint.every_n_train_steps", 1)
BREAKS = {  # by where the checkpoint is from
    "an epoch's end": ((13, "kill"), ()),
    "a stop": ((12, "stop"), ()),
    "a step": ((13, "kill"), EACH_STEP),
    "Ctrl-C": ((16, "SIGTERM"), EACH_STEP),
    "a validation": ((13, "kill"), ("--trainer.val_check_interval", 2)),
}


@pytest.fixture
def interrupted_net(own_net, tmp_path):
    """`interrupted_net(more, event, *options)`: an own module in 6 epochs, that an event ended, and an unbroken run."""

    def fit(more, event, *options):
        fit = partial(own_net, 'self.log("val_loss", self.loss(batch))', more, "--trainer.max_epochs", 6, *options)
        straight = tmp_path / "straight"
        fit("--trainer.default_root_dir", straight)
        with pytest.raises(ENDS[event[1]]) if event[1] in ENDS else nullcontext():
            fit(*with_callbacks(at(*event)))
        run = fit("--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
        assert_same_state(run, straight, "last", "best")
        return run, straight

    return fit


@pytest.mark.parametrize(
    "when",
    [
        {"monitor": "val_loss"},
        {"monitor": "val_loss", "frequency": 2},
        {"monitor": "train_loss_step", "interval": "step"},
    ],
)
@pytest.mark.parametrize(("event", "saves"), BREAKS.values(), ids=BREAKS)
def test_a_rate_by_plateau_goes_on_to_the_same_bits(interrupted_net, event, saves, when):
    run, straight = interrupted_net(PLATEAU_ON_IRIS % when, event, *IRIS_DATA, *saves)
    assert load(run)["lr_schedulers"] == load(straight)["lr_schedulers"]
    assert load(run)["lr_schedulers"][0]["_last_lr"] < [1e-3]


@pytest.mark.parametrize(("event", "saves"), BREAKS.values(), ids=BREAKS)
def test_what_a_module_draws_goes_on_to_the_same_bits(interrupted_net, event, saves):
    interrupted_net(DRAWS, event, *IRIS_DATA, *saves)


def test_a_shuffled_loader_goes_on_with_the_next_epoch_s_order(interrupted_net):
    interrupted_net(SHUFFLED, (7, "kill"))  # the third epoch's first batch


TWO_LOADERS = """
class Stateful:
    batches, start, next = torch.arange(12.0).reshape(3, 4, 1), 0, 0
    def __len__(self):
        return 3
    def __iter__(self):
        self.next, self.start = self.start, 0
        while self.next < 3:
            self.next += 1
            yield self.batches[self.next - 1]
    def state_dict(self):
        return {"next": self.next}
    def load_state_dict(self, state):
        self.start = state["next"]

def setup(self, stage=None):
    loaders = {"a": self.Stateful(), "b": torch.utils.data.DataLoader(torch.arange(12.0).reshape(12, 1), 4)}
    self.trainer.datamodule.train_dataloader = lambda: loaders

def training_step(self, batch, batch_idx):
    assert (batch["a"] == batch["b"]).all()
    return self.loss(batch["a"])
"""


def test_an_epoch_that_begins_again_begins_again_for_each_of_its_loaders(own_net, capsys, tmp_path):
    own_net("pass", TWO_LOADERS, "--trainer.max_steps", 5)
    capsys.readouterr()
    own_net("pass", TWO_LOADERS, "--trainer.max_epochs", 3, "--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
    assert "epoch 2 begins again, after 2 of its batches" in capsys.readouterr().out
    assert load(tmp_path / "run")["global_step"] == 5 + 2 * 3


HPARAMS = """
def __init__(self, folder: str = "data"):
    super().__init__()
    self.layer = torch.nn.Linear(1, 1)
    self.save_hyperparameters({"folder": Path(folder) / "x", "act": %s})
"""


@pytest.mark.parametrize("dry", ["false", "true"])
def test_hyperparameters_that_cannot_be_saved_are_refused_before_the_first_step(own_net, tmp_path, dry):
    more = HPARAMS % "torch.relu" + "def on_train_batch_start(self, *_):\n    raise AssertionError('a step')\n"
    line = refused(own_net, "pass", more, "--trainer.fast_dev_run", dry)
    assert "hyper_parameters.act is a " in line
    assert "save_hyperparameters(ignore=['act'])" in line
    assert not (tmp_path / "run").exists()


BY_HAND = """
automatic_optimization = False

def training_step(self, batch, batch_idx):
    self.manual_backward(self.loss(batch))
    if batch_idx == 1:
        self.optimizers().step()
        self.optimizers().zero_grad()
"""


def test_a_module_that_accumulates_by_hand_is_stopped_after_its_step(own_net, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        own_net('self.log("val_loss", 1.0)', BY_HAND, *with_callbacks(at(1, "SIGTERM")))
    assert stopped.value.code == 143
    saved = load(tmp_path / "run")
    assert saved["global_step"] == 1
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] == 2
