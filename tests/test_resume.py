"""A run that was killed, stopped or cut off, and then resumed, ends as if nothing had happened."""

import errno
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path

import pytest
import torch

from tests.conftest import refused
from tests.tools.runs import (
    ENVIRONMENT,
    NO_BAR,
    ROOT,
    assert_same_state,
    at,
    contents,
    differences,
    finish,
    read_csv,
    with_callbacks,
)
from tests.tools.runs import checkpoint as last

QUIET = (*NO_BAR, "--trainer.callbacks", "null", "--trainer.accelerator", "cpu")
IRIS = ("fit", "--config", "configs/iris_ova.yaml", *QUIET)
OOS = ("--data.oos_label", "other")
TEXT = ("fit", "--config", "configs/text_csv.yaml", *OOS, *QUIET)
NEEDS_CLINC150 = pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="needs the CLINC150 files: CLINC150_DIR")


def curves(run):
    """Of each column of metrics.csv the steps and values."""
    rows = read_csv(run / "metrics.csv")
    names = [name for name in rows[0] if name not in ("step", "epoch")]
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in names}


def assert_same_end(run, other):
    """Weights, threshold, rate and curves, to the bit."""
    assert_same_state(run, other)
    one, two = last(run), last(other)
    assert one["lr_schedulers"] == two["lr_schedulers"]
    rates = [[group["lr"] for s in c["optimizer_states"] for group in s.get("param_groups", [])] for c in (one, two)]
    assert rates[0] == rates[1]
    assert curves(run) == curves(other)


# Killed


SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
SMALL_CLINC150 = ("--data.variant", "small", "--trainer.max_epochs", 2, "--data.words.max_features", 2000)
SMALL_CLINC150 += ("--data.batch_size", 256)
TEN = (*OOS, "--data.batch_size", 10, "--trainer.max_epochs")
MOMENTUM = ("--trainer.max_epochs", 5, "--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", 0.1)
MOMENTUM += ("--model.lr_scheduler", "torch.optim.lr_scheduler.ExponentialLR", "--model.lr_scheduler.gamma", 0.8)
MOMENTUM += ("--data.weighted_sampler", "true", "--model.class_weight", "none")  # which draws the rows
OTHERS = [("xor", 12), ("iris_binary", 4), ("text_csv", 8)]
AT_TIMES = [("iris_binary", 23), ("iris_ova", 23), ("text_csv", 30)]
WITHIN = (*TEN, 3, "--trainer.val_check_interval", 0.5)
KILLS = [  # number, steps between two saves, and more; a save at every step is also one before an epoch's validation
    # L2, feature dropout, a falling rate and a threshold; 30 steps to an epoch
    ("clinc150", SMALL_CLINC150, (3, 7), [SLOW, NEEDS_CLINC150]),
    ("clinc150", SMALL_CLINC150, (20, 7), [NIGHTLY, NEEDS_CLINC150]),
    ("iris_ova", ("--trainer.max_epochs", 6), (20, 5), [NIGHTLY]),
    ("iris_ova", (*TEN[2:], 3), (3, 5, "--ranks", 2), [NIGHTLY]),
    ("text_csv", (*TEN, 3), (3, 5, "--ranks", 2), [SLOW]),
    ("text_csv", (*OOS, "--data.batch_size", 32, "--trainer.max_epochs", 4), (3, 1), [SLOW]),  # threshold
    ("text_csv", (*TEN, 4), (3, 1, "--at", "validations"), [NIGHTLY]),
    ("text_csv", (*TEN, 4), (3, 1, "--at", "saves"), [SLOW]),
    ("text_csv", WITHIN, (5, 1), [NIGHTLY]),
    ("text_csv", WITHIN, (3, 1, "--at", "validations"), [SLOW]),
    ("iris_imbalanced", MOMENTUM, (2, 3), [SLOW]),
    *((config, ("--trainer.max_epochs", n), (2, 3), [NIGHTLY]) for config, n in OTHERS),
    # At any time, while a picture is drawn too
    ("iris_binary", ("--trainer.max_epochs", 23), (2, 5, "--at", "times"), [SLOW]),
    *((config, ("--trainer.max_epochs", n), (10, 5, "--at", "times"), [NIGHTLY]) for config, n in AT_TIMES),
    ("clinc150", (*SMALL_CLINC150[:2], "--trainer.max_epochs", 4), (10, 5, "--at", "times"), [NIGHTLY, NEEDS_CLINC150]),
]


@pytest.mark.parametrize(("config", "options", "how"), [pytest.param(*case, marks=marks) for *case, marks in KILLS])
def test_a_killed_run_once_resumed_is_bit_identical_to_one_that_nobody_killed(config, options, how):
    kills, save_every, *more = how
    quiet = () if "times" in more else QUIET
    how = ("--kills", kills, "--save-every", save_every, *more, "--", "--config", f"configs/{config}.yaml")
    assert f"{kills} of {kills} bit-identical" in finish("tests/tools/kill_and_resume.py", *how, *options, *quiet)


EARLY = {
    "after its third epoch": ((), 3),
    "within its first": (("--data.batch_size", 4, "--trainer.val_check_interval", 3), 1),
}


@pytest.mark.parametrize(("options", "epoch"), EARLY.values(), ids=EARLY)
def test_a_run_that_early_stopping_has_ended_stays_ended(cli, capsys, tmp_path, options, epoch):
    stopping = ("EarlyStopping", {"monitor": "val/loss", "patience": 2, "min_delta": 1.0})
    plan = (*IRIS, *options, *with_callbacks(stopping), "--trainer.max_epochs", 4)
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


def four_epochs(config, plan, run, *options):
    smaller = (*OOS, "--data.batch_size", "10") if config == "text_csv" else ()
    smaller += ("--model.lr_scheduler", "null") if smaller else ()  # which would fall to 0 at max_steps
    place = ("--trainer.max_epochs", 4, "--trainer.log_every_n_steps", 1, "--trainer.default_root_dir", run)
    return ("fit", "--config", f"configs/{config}.yaml", *QUIET, *smaller, *PLANS[plan], *place, *options)


@pytest.fixture(scope="module")
def unbroken(cli, tmp_path_factory):
    """`unbroken(config, plan)` is a run of 4 epochs, by its configuration and plan, that was never stopped."""

    @cache
    def fit(config, plan):
        run = tmp_path_factory.mktemp("unbroken") / "run"
        cli(*four_epochs(config, plan, run))
        return run

    return fit


def by_max_steps(step):
    return "--trainer.max_steps", step


def by_a_callback(step):
    return with_callbacks(at(step, "stop"))


def marks(config, plan, step, stopped):
    """The step that ends no epoch and no validation stands for all of them, a plan with validations for the others."""
    if step not in (4, 9):  # 8 ends an epoch, 4 and 8 a validation
        return NIGHTLY
    return () if step == 9 and (stopped is by_a_callback or plan == "validations within epochs") else SLOW


STOPS = [
    (config, plan, step, by_max_steps) for config in ("iris_ova", "text_csv") for plan in PLANS for step in range(1, 13)
]
STOPS += [("iris_ova", plan, step, by_a_callback) for plan in PLANS for step in (4, 9)]


@pytest.mark.parametrize(
    ("config", "plan", "step", "stopped"), [pytest.param(*stop, marks=marks(*stop)) for stop in STOPS]
)
def test_a_stopped_run_goes_on_to_the_same_end(cli, tmp_path, unbroken, config, plan, step, stopped):
    run = tmp_path / "run"
    cli(*four_epochs(config, plan, run, *stopped(step)))
    assert last(run)["global_step"] == step
    cli(*four_epochs(config, plan, run, "--ckpt_path", run / "checkpoints/last.ckpt"))
    assert_same_state(run, unbroken(config, plan))
    if stopped is by_max_steps:  # when a callback stops a fit, Lightning validates once more
        assert curves(run) == curves(unbroken(config, plan))


# Resumed for more epochs than were planned


def test_a_resumed_runs_rate_follows_the_new_plan(cli, tmp_path):
    """Planned for 4 epochs of 8 steps, the rate has come down to 0; resumed for 8, it falls from half to 0."""
    run = tmp_path / "run"
    options = ("--model.lr", 2, "--data.batch_size", 8, "--trainer.log_every_n_steps", 1)
    options += ("--model.lr_scheduler.shape", "linear", "--model.lr_scheduler.power", 1)
    plan = (*TEXT, *options, "--trainer.default_root_dir", run, "--trainer.max_epochs")
    cli(*plan, 4)
    steps = last(run)["global_step"]
    cli(*plan, 8, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert last(run)["global_step"] == 2 * steps

    [rates] = [values for name, values in curves(run).items() if name.startswith("lr")]
    planned = [2 * (1 - step / steps) for step in range(steps)]
    planned += [2 * (1 - step / (2 * steps)) for step in range(steps, 2 * steps)]
    assert [rate for _, rate in rates] == pytest.approx(planned, abs=1e-6)


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
def fitted(cli, tmp_path_factory):
    """`fitted(epochs)` is a run of so many epochs of iris_ova; read it or copy it."""

    @cache
    def fit(epochs):
        run = tmp_path_factory.mktemp("fits") / "run"
        cli(*IRIS, "--trainer.max_epochs", epochs, "--trainer.default_root_dir", run)
        return run

    return fit


def resume(cli, run, *options):
    cli(*IRIS, "--trainer.max_epochs", 4, *options, "--trainer.default_root_dir", run, "--ckpt_path", "last")


BAD_RESUMES = {
    "misspelt metric": ("--checkpoint.monitor", "val/nope"),
    "other data": ("--data.features", "[petal length]"),
    "negative rate": ("--model.optimizer.init_args.lr", "-1"),
    "another optimizer": ("--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", 0.1),
}


@pytest.mark.parametrize("bad", BAD_RESUMES.values(), ids=BAD_RESUMES)
def test_after_a_resume_that_failed_the_next_one_ends_like_the_straight_run(cli, fitted, tmp_path, bad):
    run = shutil.copytree(fitted(2), tmp_path / "run")
    config, rows = (run / "config.yaml").read_text(), curves(run)
    refused(resume, cli, run, *bad)
    assert (run / "config.yaml").read_text() == config
    assert {name: values[: len(rows[name])] for name, values in curves(run).items() if name in rows} == rows
    assert not list(run.glob("version_*"))

    resume(cli, run)
    assert_same_end(run, fitted(4))
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
    finish("-c", FORKS + script, *arguments)


@pytest.mark.slow
def test_a_resume_killed_before_its_first_checkpoint_loses_neither_config_nor_curves(tmp_path):
    """The killed resume asks for another rate, which must not be taken for that of last.ckpt."""
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


@pytest.fixture
def run(fitted, tmp_path):
    """A copy of a run of one epoch."""
    return Path(shutil.copytree(fitted(1), tmp_path / "run"))


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
def test_a_disk_that_fills_up_leaves_the_checkpoints_whole_and_the_run_goes_on_once_there_is_room(
    cli, monkeypatch, fitted, run, error
):
    ordinary, saved = torch.save, {}

    def save(checkpoint, path, *_, **__):
        if checkpoint["epoch"] == 2:  # room for one more epoch, then none
            saved.update(contents(run / "checkpoints"))
            Path(path).write_bytes(b"the first bytes")
            raise error
        ordinary(checkpoint, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        line = refused(resume, cli, run)
    assert "cannot write" in line
    assert "checkpoint before it is whole" in line
    assert contents(run / "checkpoints") == saved
    assert last(run)["global_step"] == 2 * 6
    resume(cli, run)
    assert_same_end(run, fitted(4))


SIZES = (500, 2_000, 4_000, 64_000, 230_000)
WITH_PICTURES = ("fit", "--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "4", *NO_BAR)
WITH_PICTURES += ("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--refit", "false")


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """A run that was killed in its third of four epochs, beside the same one unbroken."""
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
    from tests.tools.kill_and_resume import outcome

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
    assert not [path for path in after if Path(path).name.startswith(".")]
    assert after["metrics.csv"].endswith(b"\n")
    for name in ("best", "last"):
        torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True)

    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stderr
    assert differences(outcome(half_done / "straight"), outcome(run)) == []
