"""A run that was killed, stopped or cut off, and then resumed, ends as if nothing had happened."""

import csv
import errno
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from callbacks.run.checkpoint_io import AtomicCheckpointIO
from tests.conftest import refused

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu")
IRIS = ("fit", "--config", "configs/iris_ova.yaml", *QUIET)
OOS = ("--data.oos_label", "other")
TEXT = ("fit", "--config", "configs/text_csv.yaml", *OOS, *QUIET)
NEEDS_CLINC150 = pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="needs the CLINC150 files: CLINC150_DIR")

# Not the script's own command line, because that throws its runs away. In a process of its own, because it forks.
# Beside the script's moments, before and after a step, here are two more: in a validation, and half-way through a save.
KILL = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/tools")
import kill_and_resume as script

def in_validation(step):
    def die(callback, trainer, *_):
        if trainer.global_step >= step and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)
    script.GracefulStop.on_validation_batch_start = die

def in_save(step):
    save = script.torch.save
    def die(checkpoint, path, *rest):
        save(checkpoint, path, *rest)
        if checkpoint["global_step"] >= step:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    script.torch.save = die

options = json.loads(sys.argv[1])
folder, when = Path(options.pop("folder")), options.pop("when")
script.die_at = {"in_step": script.die_at, "in_validation": in_validation, "in_save": in_save}[when]
print(json.dumps(script.kill_and_resume(folder=folder, **options)))
"""


def kill_and_resume(folder, *arguments, kills, save_every=5, ranks=1, when="in_step", at="steps"):
    """Kill runs at that many steps or times and resume them; returns what then differed from the straight run."""
    arguments += QUIET if at == "steps" else ()  # at any time also means: while a picture is drawn
    options = {"folder": str(folder), "arguments": [*map(str, arguments)], "when": when}
    options |= {"kills": kills, "save_every": save_every, "ranks": ranks, "at": at}
    done = subprocess.run(
        [sys.executable, "-c", KILL, json.dumps(options)],
        **{"cwd": ROOT, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 600},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def curves(run):
    """Of each column of metrics.csv the steps and values."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "epoch")]
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}


def last(run):
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def assert_same_weights(run, other):
    """Weights, and what else the model keeps, to the bit."""
    one, two = last(run), last(other)
    assert one["global_step"] == two["global_step"]
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        expected = two["state_dict"][name]
        assert torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected, name


def assert_same_end(run, other):
    """Weights, threshold, rate and curves, to the bit."""
    assert_same_weights(run, other)
    one, two = last(run), last(other)
    assert one["lr_schedulers"] == two["lr_schedulers"]
    rates = [[group["lr"] for s in c["optimizer_states"] for group in s.get("param_groups", [])] for c in (one, two)]
    assert rates[0] == rates[1]
    assert curves(run) == curves(other)


# Killed


def test_event_files_are_compared_in_the_order_in_which_they_were_begun(tmp_path):
    from tests.tools.kill_and_resume import read_events

    for number, steps, resumed_at in ((9, (0, 1, 2), None), (10, (1, 2, 3), 1)):
        with SummaryWriter(str(tmp_path / "new"), purge_step=resumed_at) as writer:
            for step in steps:
                writer.add_scalar("loss", number, step)
        [file] = (tmp_path / "new").iterdir()
        file.rename(tmp_path / f"events.out.tfevents.1.host.1.{number}")
    points = [(point.step, point.value) for point in read_events(tmp_path).Scalars("loss")]
    assert points == [(0, 9), (1, 10), (2, 10), (3, 10)]


SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
SMALL_CLINC150 = ("--data.variant", "small", "--trainer.max_epochs", 2, "--data.words.max_features", 2000)
SMALL_CLINC150 += ("--data.batch_size", 256)
TEN = (*OOS, "--data.batch_size", 10, "--trainer.max_epochs")
MOMENTUM = ("--trainer.max_epochs", 5, "--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", 0.1)
MOMENTUM += ("--model.lr_scheduler", "torch.optim.lr_scheduler.ExponentialLR", "--model.lr_scheduler.gamma", 0.8)
MOMENTUM += ("--data.weighted_sampler", "true", "--model.class_weight", "none")  # which draws the rows
EVERY_STEP = {"kills": 3, "save_every": 1}  # which saves an epoch's last step too, before its validation
OTHERS = [("xor", 12), ("iris_binary", 4), ("text_csv", 8)]
AT_TIMES = [("iris_binary", 23), ("iris_ova", 23), ("text_csv", 30)]
KILLS = [
    # L2, feature dropout, a falling rate and a threshold; 30 steps to an epoch
    ("clinc150", SMALL_CLINC150, {"kills": 3, "save_every": 7}, [SLOW, NEEDS_CLINC150]),
    ("clinc150", SMALL_CLINC150, {"kills": 20, "save_every": 7}, [NIGHTLY, NEEDS_CLINC150]),
    ("iris_ova", ("--trainer.max_epochs", 6), {"kills": 20}, [NIGHTLY]),
    ("iris_ova", (*TEN[2:], 3), {"kills": 3, "ranks": 2}, [NIGHTLY]),
    ("text_csv", (*TEN, 3), {"kills": 3, "ranks": 2}, [SLOW]),
    ("text_csv", (*OOS, "--data.batch_size", 32, "--trainer.max_epochs", 4), EVERY_STEP, [SLOW]),  # threshold
    ("text_csv", (*TEN, 4), EVERY_STEP | {"when": "in_validation"}, [NIGHTLY]),
    ("text_csv", (*TEN, 4), EVERY_STEP | {"when": "in_save"}, [SLOW]),
    ("text_csv", (*TEN, 3, "--trainer.val_check_interval", 0.5), {"kills": 5, "save_every": 1}, [NIGHTLY]),
    (
        *("text_csv", (*TEN, 3, "--trainer.val_check_interval", 0.5)),
        *({"kills": 3, "save_every": 1, "when": "in_validation"}, [SLOW]),
    ),
    ("iris_imbalanced", MOMENTUM, {"kills": 2, "save_every": 3}, [SLOW]),
    *((config, ("--trainer.max_epochs", n), {"kills": 2, "save_every": 3}, [NIGHTLY]) for config, n in OTHERS),
    # At any time, while a picture is drawn too
    ("iris_binary", ("--trainer.max_epochs", 23), {"kills": 2, "at": "times"}, [SLOW]),
    *((config, ("--trainer.max_epochs", n), {"kills": 10, "at": "times"}, [NIGHTLY]) for config, n in AT_TIMES),
    (
        "clinc150",
        (*SMALL_CLINC150[:2], "--trainer.max_epochs", 4),
        {"kills": 10, "at": "times"},
        [NIGHTLY, NEEDS_CLINC150],
    ),
]


@pytest.mark.parametrize(("config", "options", "how"), [pytest.param(*case, marks=marks) for *case, marks in KILLS])
def test_a_killed_run_once_resumed_is_bit_identical_to_one_that_nobody_killed(tmp_path, config, options, how):
    assert kill_and_resume(tmp_path, "--config", f"configs/{config}.yaml", *options, **how) == []


@pytest.mark.slow
def test_a_killed_and_resumed_run_stays_one_run_with_every_step_once(tmp_path):
    arguments = ("--config", "configs/iris_ova.yaml", "--trainer.max_epochs", 4)
    assert kill_and_resume(tmp_path, *arguments, kills=3) == []
    resumed = sorted(path for path in tmp_path.glob("killed_at_*") if path.is_dir())
    assert len(resumed) == 3
    for run in (*resumed, tmp_path / "straight"):
        assert [step for step, _ in curves(run)["train/loss"]] == list(range(24))
        assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
        assert not [*run.glob("version_*"), *run.glob("config.before_resume*")]


EARLY = {
    "after its third epoch": ((), 3),
    "within its first": (("--data.batch_size", 4, "--trainer.val_check_interval", 3), 1),
}


@pytest.mark.parametrize(("options", "epoch"), EARLY.values(), ids=EARLY)
def test_a_run_that_early_stopping_has_ended_stays_ended(cli, capsys, tmp_path, options, epoch):
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 2, "min_delta": 1.0}}
    plan = (*IRIS, *options, "--trainer.callbacks", json.dumps([stopping]), "--trainer.max_epochs", 4)
    run = tmp_path / "run"
    cli(*plan, "--trainer.default_root_dir", run)
    before = last(run), curves(run)
    assert before[0]["epoch"] == epoch - 1
    for _ in range(2):
        cli(*plan, "--trainer.default_root_dir", run, "--ckpt_path", run / "checkpoints/last.ckpt")
        assert f"EarlyStopping had ended this run after epoch {epoch}: nothing to train" in capsys.readouterr().out
        assert last(run)["global_step"] == before[0]["global_step"]
        assert curves(run) == before[1]
    without = (*IRIS, *options, "--trainer.callbacks", "null", "--trainer.max_epochs", 4)
    cli(*without, "--trainer.default_root_dir", run, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert last(run)["epoch"] == 3


# Stopped by a signal


STOPPED = (*TEXT, "--data.batch_size", "1", "--trainer.max_epochs", "10", "--data.feature_dropout", "0.2")
STOPPED += ("--trainer.log_every_n_steps", "1", "--checkpoint.every_n_train_steps", "20")  # no curve may lose a point


def fit_and_signal(number, run, arguments):
    """A real `python train.py fit`, sent a signal once it has saved for the first time: exit status and output."""
    pytest.importorskip("datamodules.text.sentences")
    process = subprocess.Popen(
        [sys.executable, "train.py", *arguments, "--trainer.default_root_dir", str(run)],
        **{"cwd": ROOT, "env": ENVIRONMENT, "text": True},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
    )
    try:
        deadline = time.monotonic() + 120
        while not [*run.glob("**/last.ckpt")] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


def test_ctrl_c_while_pictures_are_drawn_says_where_the_run_is_and_a_resume_draws_them(
    cli, tmp_path, capsys, monkeypatch
):
    run = ("--trainer.max_epochs", 2, "--trainer.default_root_dir", tmp_path, "--figures.enabled", "true")
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr("callbacks.figures.evaluation.publish", lambda *_: signal.raise_signal(signal.SIGINT))
        cli(*IRIS, *run)
    assert stopped.value.code == 130
    assert f"stopped by SIGINT after step 12; saved {tmp_path}/checkpoints/last.ckpt\n" in capsys.readouterr().out
    cli(*IRIS, *run, "--ckpt_path", tmp_path / "checkpoints/last.ckpt")
    assert (tmp_path / "figures/val_confusion.png").is_file()


ONE_STEP_EPOCHS = ("--data.batch_size", "500", "--trainer.max_epochs", "300")
SIGNALLED = {
    "SIGTERM": pytest.param(signal.SIGTERM, (), marks=SLOW),
    "Ctrl-C": pytest.param(signal.SIGINT, (), marks=NIGHTLY),
    "an epoch a step": pytest.param(signal.SIGTERM, ONE_STEP_EPOCHS, marks=NIGHTLY),
    "a validation a step": pytest.param(
        signal.SIGTERM, ("--trainer.val_check_interval", "1", "--trainer.max_epochs", "5"), marks=NIGHTLY
    ),
}


@pytest.mark.parametrize(("number", "plan"), SIGNALLED.values(), ids=SIGNALLED)
def test_a_signal_lets_fit_save_and_say_where_and_the_run_goes_on_to_the_same_end(cli, tmp_path, number, plan):
    run, straight, plan = tmp_path / "run", tmp_path / "straight", (*STOPPED, *plan)
    status, output = fit_and_signal(number, run, plan)
    assert status == 128 + number, output
    stopped_at = last(run)["global_step"]
    assert f"stopped by {number.name} after step {stopped_at}" in output
    assert f"--ckpt_path {run}/checkpoints/last.ckpt" in output
    assert "Traceback" not in output
    assert {path.name for path in (run / "checkpoints").iterdir()} <= {"best.ckpt", "last.ckpt"}

    cli(*plan, "--trainer.default_root_dir", straight)
    assert stopped_at < last(straight)["global_step"]
    cli(*plan, "--trainer.default_root_dir", run, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert_same_end(run, straight)


@pytest.mark.slow
def test_a_signal_to_one_of_two_ranks_stops_both_after_the_same_step(tmp_path):
    run = tmp_path / "run"
    ranks = (*STOPPED, "--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    status, output = fit_and_signal(signal.SIGTERM, run, ranks)
    assert status == 128 + signal.SIGTERM, output
    assert output.count("stopped by SIGTERM") == 1
    assert f"after step {last(run)['global_step']}" in output
    assert "Traceback" not in output


# Stopped by an option in the middle of an epoch

PLANS = {
    "plain": (),
    "part of each epoch": ("--trainer.limit_train_batches", 4),
    "a share of each epoch": ("--trainer.limit_train_batches", 0.7),
    "validations within epochs": ("--trainer.val_check_interval", 2),
    "validations across epochs": ("--trainer.val_check_interval", 4, "--trainer.check_val_every_n_epoch", "null"),
}


@pytest.fixture(scope="module")
def unbroken(cli, tmp_path_factory):
    """`unbroken(config, plan)` is a run of 4 epochs, by its configuration and plan, that was never stopped."""
    done = {}

    def fit(config, plan):
        if (config, plan) not in done:
            run = tmp_path_factory.mktemp("unbroken") / "run"
            cli(*stopped_fit(config, plan, run), "--trainer.max_epochs", 4)
            done[config, plan] = run
        return done[config, plan]

    return fit


def stopped_fit(config, plan, run):
    place = ("--trainer.default_root_dir", run)
    smaller = (*OOS, "--data.batch_size", "10") if config == "text_csv" else ()
    smaller += ("--model.lr_scheduler", "null") if smaller else ()  # which would fall to 0 at max_steps
    return ("fit", "--config", f"configs/{config}.yaml", *QUIET, *smaller, *PLANS[plan], *place)


def marks(config, plan, step):
    """The step that ends no epoch and no validation stands for all of them, a plan with validations for the others."""
    if step not in (4, 9):  # 8 ends an epoch, 4 and 8 a validation
        return NIGHTLY
    return () if step == 9 and plan == "validations within epochs" else SLOW


STOPS = [(config, plan, step) for config in ("iris_ova", "text_csv") for plan in PLANS for step in range(1, 13)]


@pytest.mark.parametrize(("config", "plan", "step"), [pytest.param(*stop, marks=marks(*stop)) for stop in STOPS])
def test_a_run_stopped_by_max_steps_goes_on_to_the_same_end(cli, tmp_path, unbroken, config, plan, step):
    fit = stopped_fit(config, plan, tmp_path / "run")
    cli(*fit, "--trainer.max_epochs", 4, "--trainer.max_steps", step)
    assert last(tmp_path / "run")["global_step"] == step
    cli(*fit, "--trainer.max_epochs", 4, "--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
    assert_same_weights(tmp_path / "run", unbroken(config, plan))


class StopAfter(L.Callback):
    """Asks the Trainer to stop after so many steps, as max_time and EarlyStopping do."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


@pytest.mark.parametrize("step", [pytest.param(4, marks=SLOW), 9])
@pytest.mark.parametrize("plan", PLANS)
def test_a_run_that_a_callback_stopped_goes_on_to_the_same_end(cli, monkeypatch, tmp_path, unbroken, plan, step):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    fit = stopped_fit("iris_ova", plan, tmp_path / "run")
    monkeypatch.setitem(sys.modules, "stop_after", sys.modules[__name__])
    callback = f"{{class_path: stop_after.StopAfter, init_args: {{step: {step}}}}}"
    cli(*fit, "--trainer.max_epochs", 4, "--trainer.callbacks", f"[{callback}]")
    assert last(tmp_path / "run")["global_step"] == step
    cli(*fit, "--trainer.max_epochs", 4, "--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
    assert_same_weights(tmp_path / "run", unbroken("iris_ova", plan))


# Resumed for more epochs than were planned


def test_a_resumed_runs_rate_follows_the_new_plan(cli, tmp_path):
    """Planned for 4 epochs of 8 steps, the rate has come down to 0; resumed for 8, it falls from half to 0."""
    run = tmp_path / "run"
    options = ("--model.lr", 2, "--model.l2", 0, "--data.batch_size", 8, "--trainer.log_every_n_steps", 1)
    options += ("--data.words.ngram_range", "[1, 2]")
    linear = ("--model.lr_scheduler.shape", "linear", "--model.lr_scheduler.power", 1, "--data.feature_dropout", 0)
    options += ("--model.bias_lr_factor", 1, *linear)
    place = ("--trainer.default_root_dir", run)
    cli(*TEXT, *options, *place, "--trainer.max_epochs", 4)
    steps = last(run)["global_step"]
    before = last(run)["state_dict"]
    cli(*TEXT, *options, *place, "--trainer.max_epochs", 8, "--ckpt_path", run / "checkpoints/last.ckpt")
    after = last(run)
    assert after["global_step"] == 2 * steps

    [rates] = [values for name, values in curves(run).items() if name.startswith("lr")]
    planned = [2 * (1 - step / steps) for step in range(steps)]
    planned += [2 * (1 - step / (2 * steps)) for step in range(steps, 2 * steps)]
    assert [rate for _, rate in rates] == pytest.approx(planned, abs=1e-6)

    # The same 4 epochs once more, by hand.
    from datamodules.text.sentences import TextDataModule

    data = TextDataModule(
        "tests/data/sentences.csv", oos_label="other", val_fraction=0.2, test_fraction=0.2, batch_size=8
    )
    data.setup("fit")
    W, b = before["W.weight"], before["b"]
    loader, step = data.train_dataloader(), steps
    for epoch in range(4, 8):
        loader.sampler.set_epoch(epoch)
        for x, target, _ in loader:
            x = x.to_dense()
            error = (x @ W + b).softmax(dim=1)
            error[torch.arange(len(target)), target] -= 1
            rate = planned[step] / len(target)
            W, b = W - rate * x.T @ error, b - rate * error.sum(dim=0)
            step += 1
    assert step == 2 * steps
    torch.testing.assert_close(after["state_dict"]["W.weight"], W, atol=1e-5, rtol=0)
    torch.testing.assert_close(after["state_dict"]["b"], b, atol=1e-5, rtol=0)
    assert (W - before["W.weight"]).abs().max() > 0.05


def test_torchs_own_scheduler_follows_the_new_plan_too(cli, tmp_path):
    """A cosine over 4 epochs ends at 0; told on resume to take 8, it must be half way down."""
    cosine = ("--model.lr_scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR", "--model.lr_scheduler.T_max")
    run = ("--trainer.default_root_dir", tmp_path / "run")
    cli(*IRIS, *run, *cosine, 4, "--trainer.max_epochs", 4)
    cli(*IRIS, *run, *cosine, 8, "--trainer.max_epochs", 8, "--ckpt_path", tmp_path / "run/checkpoints/last.ckpt")
    [rates] = [values for name, values in curves(tmp_path / "run").items() if name.startswith("lr")]
    resumed = [rate for step, rate in rates if step >= 24]
    assert resumed[0] == pytest.approx(0.5, abs=1e-6)
    assert resumed[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)), abs=1e-6)
    assert len(set(resumed)) == 4


# A resume that fails


@pytest.fixture(scope="module")
def four_and_two_epochs(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    for epochs in (4, 2):
        cli(*IRIS, "--trainer.max_epochs", epochs, "--trainer.default_root_dir", folder / str(epochs))
    return folder


@pytest.fixture
def straight_and_half(four_and_two_epochs, tmp_path):
    """A run of 4 epochs, and one of 2 that may go on."""
    return four_and_two_epochs / "4", Path(shutil.copytree(four_and_two_epochs / "2", tmp_path / "half"))


def resume(cli, run, *options):
    cli(*IRIS, "--trainer.max_epochs", 4, *options, "--trainer.default_root_dir", run, "--ckpt_path", "last")


BAD_RESUMES = {
    "misspelt metric": ("--checkpoint.monitor", "val/nope"),
    "other data": ("--data.features", "[petal length]"),
    "negative rate": ("--model.optimizer.init_args.lr", "-1"),
    "another optimizer": ("--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", 0.1),
}


@pytest.mark.parametrize("bad", BAD_RESUMES.values(), ids=BAD_RESUMES)
def test_after_a_resume_that_failed_the_next_one_ends_like_the_straight_run(cli, straight_and_half, bad):
    straight, run = straight_and_half
    config, rows = (run / "config.yaml").read_text(), curves(run)
    with pytest.raises(SystemExit) as exit:
        resume(cli, run, *bad)
    assert str(exit.value.code).startswith("error: ")
    assert (run / "config.yaml").read_text() == config
    assert {name: values[: len(rows[name])] for name, values in curves(run).items() if name in rows} == rows
    assert not list(run.glob("version_*"))

    resume(cli, run)
    assert_same_end(run, straight)
    assert not list(run.glob("version_*"))


FORKS = """
import sys
sys.path.insert(0, "tests/tools")
from functools import partial
from pathlib import Path
from forked_cli import run_cli
from kill_and_resume import die_at
folder, *arguments = sys.argv[1:]
"""


def in_forks(script, *arguments):
    """Run lines that fork, in a process of their own."""
    command = [sys.executable, "-c", FORKS + script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_resume_killed_before_its_first_checkpoint_loses_neither_config_nor_curves(tmp_path):
    """The killed resume asks for another rate, which must not be taken for that of last.ckpt."""
    pytest.importorskip("datamodules.table.iris")
    script = """
run, log = Path(folder, "run"), Path(folder, "log")
fit = [*arguments, "--trainer.default_root_dir", str(run)]
on = [*fit, "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--trainer.max_epochs"]
assert run_cli([*fit, "--trainer.max_epochs", "2"], log) == [0], log.read_text()
before = (run / "config.yaml").read_bytes(), (run / "metrics.csv").read_bytes()
other_rate = ["5", "--model.optimizer.init_args.lr", "0.125"]
assert run_cli([*on, *other_rate], log, first=partial(die_at, 14)) == [9], log.read_text()
after = (run / "config.yaml").read_bytes(), (run / "metrics.csv").read_bytes()
assert after[0] == before[0]
assert after[1].startswith(before[1])
assert run_cli([*on, "4"], log) == [0], log.read_text()
place = ["--trainer.default_root_dir", folder + "/straight"]
assert run_cli([*arguments, *place, "--trainer.max_epochs", "4"], log) == [0]
"""
    in_forks(script, tmp_path, *IRIS)
    assert_same_end(tmp_path / "run", tmp_path / "straight")


# No checkpoint, or a bad one


@pytest.fixture(scope="module")
def trained(cli, tmp_path_factory):
    """One epoch of iris_ova; copy it."""
    run = tmp_path_factory.mktemp("fit") / "run"
    cli(*IRIS, "--trainer.max_epochs", 1, "--trainer.default_root_dir", run)
    return run


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(run):
    return {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999], ids=lambda share: f"{share:.1%}_left")
def test_a_checkpoint_cut_short_is_refused_in_one_line_and_nothing_is_touched(cli, run, keep):
    path = run / "checkpoints/last.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    before = contents(run)
    line = refused(cli, *IRIS, "--ckpt_path", path, "--trainer.default_root_dir", run, "--trainer.max_epochs", 3)
    assert str(path) in line
    assert contents(run) == before


# No room


FULL = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError("PytorchStreamWriter failed writing file")]


@pytest.mark.parametrize("error", FULL, ids=["OSError", "RuntimeError"])
def test_a_disk_that_fills_up_leaves_the_checkpoint_before_it_whole(cli, monkeypatch, run, error):
    def save(checkpoint, path, *_, **__):
        Path(path).write_bytes(b"the first bytes")
        raise error

    before = {name: (run / f"checkpoints/{name}.ckpt").read_bytes() for name in ("best", "last")}
    monkeypatch.setattr(torch, "save", save)
    resume = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.default_root_dir", run)
    line = refused(cli, *IRIS, *resume, "--trainer.max_epochs", 3)
    assert "cannot write" in line
    assert "checkpoint before it is whole" in line
    assert {path.stem: path.read_bytes() for path in (run / "checkpoints").iterdir()} == before


def test_a_run_that_a_full_disk_ended_goes_on_once_there_is_room(cli, monkeypatch, run, tmp_path):
    resume = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.default_root_dir", run)
    ordinary = torch.save

    def save(checkpoint, path, *_, **__):
        if checkpoint["epoch"] == 2:  # room for one more epoch, then none
            raise FULL[0]
        ordinary(checkpoint, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        refused(cli, *IRIS, *resume, "--trainer.max_epochs", 4)
    assert last(run)["global_step"] == 2 * 6
    cli(*IRIS, *resume, "--trainer.max_epochs", 4)
    cli(*IRIS, "--trainer.max_epochs", 4, "--trainer.default_root_dir", tmp_path / "straight")
    assert_same_end(run, tmp_path / "straight")


def test_a_file_system_that_refuses_more_bytes_leaves_the_file_before_it_whole(tmp_path):
    """For once not played: the kernel stops this process from writing files longer than 64 KiB."""
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*last\.ckpt.*before it is whole"):
            AtomicCheckpointIO().save_checkpoint({"W": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


WITH_PICTURES = ("fit", "--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "4")
WITH_PICTURES += ("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu")


SIZES = (500, 2_000, 4_000, 64_000, 230_000)


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A run that was killed in its third of four epochs, beside the same one unbroken."""
    pytest.importorskip("datamodules.table.iris")
    folder = tmp_path_factory.mktemp("half_done")
    script = """
for name, first, status in (("killed", partial(die_at, 9), 9), ("straight", lambda: None, 0)):
    place = ["--trainer.default_root_dir", f"{folder}/{name}"]
    assert run_cli([*arguments, *place], Path(folder, "log"), first=first) == [status], Path(folder, "log").read_text()
"""
    in_forks(script, folder, *WITH_PICTURES)
    return folder


@pytest.mark.parametrize(  # bytes of any one file
    "largest", [pytest.param(size, marks=SLOW if size in (2_000, 64_000) else NIGHTLY) for size in SIZES]
)
def test_a_resume_without_room_ends_in_one_line_and_goes_on_once_there_is_some(half_done, tmp_path, largest):
    """The limits end it in the first event, the curves, a checkpoint, the picture of an epoch, and the event file."""
    from tests.tools.kill_and_resume import differences, outcome

    run = Path(shutil.copytree(half_done / "killed", tmp_path / "run"))
    (run / ".lock").unlink()  # of the process that was killed
    before = contents(run)
    resume = [*WITH_PICTURES, "--trainer.default_root_dir", run, "--ckpt_path", run / "checkpoints/last.ckpt"]
    command = [sys.executable, "train.py", *map(str, resume)]
    options = {"cwd": ROOT, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 120}
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest, largest))
    done = subprocess.run(command, **options, preexec_fn=limit)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "make room" in line] == done.stderr.splitlines()[-1:]
    assert "Traceback" not in done.stderr
    after = contents(run)
    assert before.keys() <= after.keys()
    assert not [path for path in after if path.name.startswith(".")]
    assert after[Path("metrics.csv")].endswith(b"\n")
    for name in ("best", "last"):
        torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)

    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stderr
    assert differences(outcome(half_done / "straight"), outcome(run)) == []
