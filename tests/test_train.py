"""The command line as a user meets it: what a run leaves behind, what wins, what is refused and how."""

import os
import re
import shutil
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ProgressBar

from cli.lightning_cli import TemplateCLI
from cli.trainer_defaults import POSITIVE_OPTIONS
from logreg.binary import BinaryLogit
from tests.conftest import refused
from tests.tools.runs import (
    NO_BAR,
    ROOT,
    assert_same_state,
    contents,
    metrics,
    read_csv,
    records,
    weights,
    with_callbacks,
)
from tests.tools.runs import checkpoint as load

IRIS = ("fit", "--config", "configs/iris_binary.yaml")
QUICK = ("--trainer.callbacks", "[]", *NO_BAR)


@pytest.fixture(scope="module")
def trained(cli, tmp_path_factory):
    """One run of iris_binary, six epochs, pictures every three; read it or copy it, never write into it."""
    path = tmp_path_factory.mktemp("fit") / "run"
    place = ("--trainer.default_root_dir", path, "--trainer.max_epochs", 6)
    cli(*IRIS, *NO_BAR, *place, "--figures.enabled", "true")
    return path


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run, at another place than it was trained in."""
    return Path(shutil.copytree(trained, tmp_path / "moved" / "run"))


# What a fit leaves behind


def test_a_run_directory_holds_config_checkpoints_logs_and_pictures(trained):
    names = {re.sub(r"tfevents.*", "tfevents", name) for name in contents(trained)}
    assert names == {
        "config.yaml",
        "hparams.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "events.out.tfevents",
        "metrics.csv",
        *(f"figures/boundary_epoch_0000{epoch}.png" for epoch in (0, 1, 2, 3, 5, 6)),
        "figures/boundary.gif",
        "figures/boundary_best.png",
        "figures/loss_surface.png",
        "figures/val_confusion.png",
        "figures/val_top_features.png",
        "figures/loss.png",
        "coefficients.csv",
        "data_report.json",
        "data_issues.csv",
    }


def test_saved_config_is_resolved_and_does_not_name_the_place_of_the_run(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 6
    assert config["trainer"]["default_root_dir"] is None
    assert config["data"]["init_args"]["val_fraction"] == 0.2  # a default, written out
    assert str(trained) not in (trained / "config.yaml").read_text()


def test_training_curves_have_a_point_for_every_batch(trained):
    assert sum(bool(row["train/loss"]) for row in read_csv(trained / "metrics.csv")) == 6 * 4


@pytest.mark.parametrize(
    ("options", "bars"),
    [
        ((), ["ThrottledProgressBar"]),
        (("--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar",), ["TQDMProgressBar"]),
        (("--trainer.enable_progress_bar", "false"), []),
    ],
)
def test_a_fit_has_the_progress_bar_it_was_given_or_one_of_its_own(cli, options, bars, monkeypatch):
    found, instantiate = [], TemplateCLI.instantiate_trainer

    def instantiate_and_look(cli, **kwargs):
        trainer = instantiate(cli, **kwargs)
        found.extend(type(callback).__name__ for callback in trainer.callbacks if isinstance(callback, ProgressBar))
        return trainer

    monkeypatch.setattr(TemplateCLI, "instantiate_trainer", instantiate_and_look)
    cli(*IRIS, "--trainer.fast_dev_run", "true", *options)
    assert found == bars


def test_a_dry_run_leaves_nothing(cli, tmp_path):
    cli(*IRIS, "--trainer.default_root_dir", tmp_path / "run", "--trainer.fast_dev_run", "true")
    assert list(tmp_path.rglob("*")) == []


# Test and predict


def test_test_and_predict_work_from_the_saved_config_and_leave_the_files_of_the_fit_alone(cli, run):
    before = contents(run)
    for command in ("validate", "test", "predict"):
        pictures = ("--figures.enabled", "true") if command == "test" else ()
        cli(command, "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt", *pictures)
    after = contents(run)
    assert before == {name: after[name] for name in before}
    new = {name for name in set(after) - set(before) if not name.startswith(("figures/", "test/"))}
    reports = {"test_metrics.json", "per_class.csv", "errors.csv", "confusions.csv", "top_features.csv"}
    assert new == reports | {"predictions.jsonl"}


def test_new_flowers_are_predicted_in_their_own_units_and_where_the_user_says(cli, run, tmp_path):
    before = contents(run)
    arguments = ("--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt")
    arguments += ("--trainer.default_root_dir", tmp_path / "elsewhere")
    cli("predict", *arguments, "--data.predict_inputs", "[[3.0, 1.0], [6.5, 2.3]]")
    cli("test", *arguments)
    lines = records(tmp_path / "elsewhere")
    assert [line["label"] for line in lines] == ["versicolor", "virginica"]
    assert [line["petal length (cm)"] for line in lines] == [3.0, 6.5]
    figures = metrics(tmp_path / "elsewhere")
    assert {"test/loss", "test/accuracy", "test/macro_f1"} <= set(figures)
    assert contents(run) == before


# A second fit


def test_a_second_fit_makes_a_second_run_and_harms_nothing(cli, run):
    before = contents(run)
    for number, place in enumerate((("--trainer.default_root_dir", run), ())):  # named, or that of the saved config
        cli("fit", "--config", run / "config.yaml", *QUICK, *place)
        after = contents(run)
        assert {name: after[name] for name in before} == before
        assert (run / f"version_{number}" / "checkpoints/best.ckpt").is_file()
        before = after


def test_the_same_command_twice_gives_the_same_weights(cli, trained, tmp_path):
    """The second time without pictures, which must not matter."""
    cli(*IRIS, *QUICK, "--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 6)
    assert_same_state(tmp_path / "run", trained)


# Going on


def test_resume_continues_in_the_same_directory_and_ends_where_one_long_fit_ends(cli, run, tmp_path):
    figures = (run / "figures/boundary_epoch_00006.png").read_bytes()
    going_on = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.max_epochs", 10)
    cli("fit", "--config", run / "config.yaml", *going_on, "--trainer.enable_progress_bar", "false")
    assert sorted(p.name for p in run.iterdir() if p.is_dir()) == ["checkpoints", "figures"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (run / "figures/boundary_epoch_00006.png").read_bytes() == figures
    assert (run / "figures/boundary_epoch_00010.png").is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 10
    assert yaml.safe_load((run / "config.before_resume_1.yaml").read_text())["trainer"]["max_epochs"] == 6

    cli(*IRIS, *QUICK, "--trainer.default_root_dir", tmp_path / "long", "--trainer.max_epochs", 10)
    assert load(run)["global_step"] == 40
    assert_same_state(run, tmp_path / "long")


def test_any_other_checkpoint_starts_a_new_run(cli, run, tmp_path):
    before = contents(run)
    going_on = ("--ckpt_path", run / "checkpoints/best.ckpt", "--trainer.max_epochs", 8)
    cli("fit", "--config", run / "config.yaml", *QUICK, *going_on, "--trainer.default_root_dir", tmp_path / "new")
    assert contents(run) == before
    assert load(tmp_path / "new")["global_step"] == 32


# What wins


def test_options_on_the_command_line_beat_the_checkpoint_on_fit(cli, run, tmp_path):
    options = ("--model.l2", 0.5, "--model.optimizer.init_args.lr", 0.25, "--trainer.max_epochs", 14)
    options += ("--ckpt_path", run / "checkpoints/best.ckpt", "--trainer.default_root_dir", tmp_path / "new")
    cli("fit", "--config", run / "config.yaml", *QUICK, *options)
    new = load(tmp_path / "new")
    assert new["hyper_parameters"]["l2"] == 0.5
    assert new["optimizer_states"][0]["param_groups"][0]["lr"] == 0.25
    old = load(run, "best")["state_dict"]["model.linear.weight"]
    assert new["state_dict"]["model.linear.weight"].norm() < 0.5 * old.norm()  # so it was really used


def test_a_model_option_on_the_command_line_is_not_dropped_on_test(cli, run):
    saved = ("--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt")
    losses = []
    for l2 in (0.0, 1.0):
        cli("test", *saved, "--model.l2", l2)
        losses.append(metrics(run)["test/objective"])
    weight = load(run, "best")["state_dict"]["model.linear.weight"]
    assert losses[1] - losses[0] == pytest.approx(float(weight.square().sum()), rel=1e-4)


# Help


def test_help_is_answered_without_importing_torch():
    command = [sys.executable, "-X", "importtime", "train.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "python train.py fit     --config configs/iris_binary.yaml" in done.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "site" in imported  # importtime did report
    assert not imported & {"torch", "lightning", "sklearn", "matplotlib", "numpy", "jsonargparse"}
    assert [name for name in re.findall(r"configs/[a-z]\w+\.yaml", done.stdout) if not (ROOT / name).is_file()] == []


def test_no_command_at_all_shows_the_help_and_fails():
    done = subprocess.run([sys.executable, "train.py"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "usage: python train.py {fit,validate,test,predict}" in done.stdout


# Bad input


@pytest.mark.slow
def test_bad_input_ends_a_process_with_status_one_and_one_line_on_standard_error(tmp_path):
    options = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.classes", "[versicolor, tulip]"]
    command = [sys.executable, "train.py", *IRIS, *options, "--trainer.accelerator", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = [line for line in done.stderr.splitlines() if "Seed set to" not in line]
    assert line.startswith("error: classes: expected at least 2 different names out of setosa, versicolor, virginica")
    assert line.endswith("; got versicolor, tulip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_a_command_that_needs_a_model_asks_for_its_checkpoint(cli, command):
    line = refused(cli, command, "--config", "configs/iris_binary.yaml")
    assert line == f"error: {command} needs a trained model: add --ckpt_path best, last or a file"


BAD_OPTIONS = {
    "unknown feature": ("--data.features", "[petal length, petal colour]", "petal width; got .*petal colour"),
    "unknown class": ("--data.classes", "[versicolor, tulip]", "setosa, versicolor, virginica; got versicolor, tulip"),
    "one class only": ("--data.classes", "[versicolor]", "at least 2 different names .* got versicolor"),
    "three classes for two": ("--data.classes", "[setosa, versicolor, virginica]", "2 classes, got 3; try OneVsAll"),
    "too few rows to split": ("--data.imbalance", "{virginica: 0.02}", "^error: class 'virginica' keeps 1 row"),
    "negative learning rate": ("--model.optimizer.lr", "-1", r"optimizer: .*an lr of at least 0.*: -1\.0$"),
    "learning rate that is a word": ("--model.optimizer.lr", "fast", "optimizer: lr: Expected a float.*, got fast$"),
    "word for class weights": ("--model.class_weight", "evenly", "'none', 'balanced'.*got evenly"),
    "unknown model option": ("--model.lrr", "1", "'lrr' is not accepted"),
    "unknown data option": ("--data.colour", "red", "'colour' is not accepted"),
    "unknown trainer option": ("--trainer.max_epoch_s", "1", "--trainer.max_epoch_s"),
    "unknown model": ("--model", "logreg.Nope", "logreg.*Nope"),
    "an address for a folder": ("--trainer.default_root_dir", "s3://bucket/run", "a folder on this machine, got s3://"),
    "negative seed": ("--data.seed", "-1", "^error: .*seed.* got -1"),
    "missing config file": ("--config", "configs/nope.yaml", "configs/nope.yaml"),
    "missing checkpoint": ("--ckpt_path", "nope.ckpt", "--ckpt_path: expected a checkpoint file, found none at nope"),
    "last checkpoint of no run": ("--ckpt_path", "last", "--ckpt_path last: no last.ckpt below"),
    "best checkpoint of no run": ("--ckpt_path", "best", "--ckpt_path best: no best.ckpt below"),
    "a text file for a checkpoint": ("--ckpt_path", "LICENSE", "LICENSE is no checkpoint"),
    "a trainer that writes nothing": ("--trainer.barebones", "true", "trainer.barebones writes nothing.*leave it out"),
    "unknown metric to watch": ("--checkpoint.monitor", "val/nope", "val/nope.*val/loss"),
}


SCHEDULER = "--model.lr_scheduler=torch.optim.lr_scheduler."

MEANINGLESS = {
    **{name: (f"--trainer.{name}", 0, f"trainer.{name}: expected more than 0, got 0") for name in POSITIVE_OPTIONS},
    "negative accumulation": ("--trainer.accumulate_grad_batches", -2, "expected more than 0, got -2"),
    "no such number of devices": ("--trainer.devices", -7, "devices"),
    "no device": ("--trainer.devices", 0, "devices"),
    "an accelerator that is not there": ("--trainer.accelerator", "tpu", "torch_xla"),
    "a precision that needs a package": ("--trainer.precision", "transformer-engine", "transformer_engine"),
    "negative clipping": ("--trainer.gradient_clip_val", -1, "gradient_clip_val: expected more than 0, got -1"),
    "no time": ("--trainer.max_time", "00:00:00:00", "nothing was trained: .*trainer.max_time"),
    "infinite penalty": ("--model.l2", ".inf", "l2 must be .*finite, got inf"),
    "no class counts": ("--model.class_weight", "[0, 0]", "class_weight must not be all 0"),
    "no features": ("--data.features", "null", "data.features: expected a value, got null"),
    "misspelt metric to stop": (
        *with_callbacks(("EarlyStopping", {"monitor": "val/nope"})),
        "val/nope .*EarlyStopping.*val/loss",
    ),
    "the same callback twice": (
        *with_callbacks(*[("EarlyStopping", {"monitor": "val/loss"})] * 2),
        "one stateful callback of type",
    ),
    "a learning rate to find without one": (*with_callbacks(("LearningRateFinder", {})), "learning rate"),
    "a duration that is none": (
        *with_callbacks(("Timer", {"duration": "x"})),
        r"`Timer\(duration='x'\)` is not a valid",
    ),
    **{
        f"{name} {option}": (f"{SCHEDULER}{name}", f"--model.{option}", f"lr_scheduler: .*{message}")
        for name, option, message in (
            ("StepLR", "lr_scheduler.step_size=0", "zero"),
            ("CosineAnnealingLR", "lr_scheduler.T_max=0", "zero"),
            ("ExponentialLR", "lr_scheduler.gamma=-1", r"the rate -0\.5"),
            ("LambdaLR", "lr_scheduler.lr_lambda='lambda epoch: 0.5'", "lr_lambda.*lambda epoch"),
            ("ReduceLROnPlateau", "l2=0", "ReduceLROnPlateau needs a metric"),
            ("LRScheduler", "l2=0", "NotImplementedError"),
        )
    },
    "a cycle that is over before the fit": (
        *(f"{SCHEDULER}OneCycleLR", "--model.lr_scheduler.max_lr=0.1", "--model.lr_scheduler.total_steps=20"),
        *("--trainer.max_epochs", 10, "OneCycleLR of at least the 40 steps that the fit takes, got one of 20"),
    ),
}

MEANINGLESS_FOR_TEXT = {
    "n-grams of no word": ("--data.words.ngram_range", "[0, 2]", "ngram_range: expected 1 <= .* got 0, 2"),
    "empty token pattern": ("--data.words", '{token_pattern: ""}', "token_pattern: expected one that no empty text"),
    # Its gradients are scaled, and only an optimizer knows how to take the scale out again.
    "fp16": ("--trainer.precision", "16-mixed", "bf16-mixed"),
    "fp16 by its short name": ("--trainer.precision", "16", "bf16-mixed"),
    "a broken token pattern": ("--data.words.token_pattern", "(", "token_pattern: expected a regular expression"),
    "empty vocabulary": ("--data.words", "{min_df: 0.9}", r"data\.words: .*no terms remain"),
    "threshold without oos label": (
        *("--data.oos_label", "null", "--model.threshold", "validation", r"threshold .* data\.oos_label"),
    ),
    "negative clipping": ("--model.clip_norm", -1, "clip_norm must be above 0"),
    "pruning": (
        *with_callbacks(("ModelPruning", {"pruning_fn": "l1_unstructured"})),
        "ModelPruning does not apply to an update written by hand: leave it out",
    ),
    "finding the rate": (
        *with_callbacks(("LearningRateFinder", {})),
        "LearningRateFinder does not apply to an update written by hand",
    ),
    "a scheduler that needs a metric": (f"{SCHEDULER}ReduceLROnPlateau", "--model.l2=0", "needs a metric"),
}

BAD = {name: ("iris_binary", *case) for name, case in (BAD_OPTIONS | MEANINGLESS).items()}
BAD |= {f"text: {name}": ("text_csv", *case) for name, case in MEANINGLESS_FOR_TEXT.items()}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_bad_option_ends_in_one_line_and_leaves_no_run(cli, tmp_path, case):
    config, *options, message = case
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    line = refused(cli, "fit", "--config", f"configs/{config}.yaml", *QUICK, *place, *options)
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


def change(path, value):
    """Sets one place of a configuration, as "trainer.max_epochs"."""

    def edit(config):
        *parents, key = path.split(".")
        reduce(getitem, parents, config)[key] = value
        return yaml.safe_dump(config)

    return edit


BAD_FILES = {
    "unknown section": (change("colour", "red"), "'colour'"),
    "unknown model key": (change("model.init_args.lrr", 1), "'lrr' is not accepted"),
    "unknown data key": (change("data.init_args.featurs", []), "'featurs' is not accepted"),
    "unknown trainer key": (change("trainer.max_epoch", 1), "'trainer.max_epoch'"),
    **{
        f"list for {place}": (change(place, ["a"]), rf'bad\.yaml: expected a map .* as "{place}", got \[\'a\'\]')
        for place in ("data", "model", "trainer", "checkpoint", "model.init_args", "data.init_args")
    },
    "list for the whole": (lambda config: "- a\n- b\n", r"whole file.*\['a', 'b'\]"),
    "broken YAML": (lambda config: "model: [\n", r"bad\.yaml: expected YAML: .* at line 2"),
    "empty file": (lambda config: "", "the file is empty"),
    "no data section": (lambda config: yaml.safe_dump({"model": config["model"]}), r"required: fit\.data"),
}


@pytest.mark.parametrize(("edit", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_config_file_ends_in_one_line_and_leaves_no_run(cli, tmp_path, edit, message):
    config = tmp_path / "bad.yaml"
    config.write_text(edit(yaml.safe_load((ROOT / "configs/iris_binary.yaml").read_text())))
    cheap = ("--trainer.fast_dev_run", "true")  # should the file be accepted after all
    line = refused(cli, "fit", "--config", config, "--trainer.default_root_dir", tmp_path / "run", *cheap)
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == [config]


OTHERS = {
    "another model": (("--config", "configs/iris_ova.yaml"), "holds a BinaryLogit, .* asks for a OneVsAll"),
    "another datamodule": (("--config", "configs/xor.yaml"), "holds a IrisDataModule, .* asks for a XORDataModule"),
    "other features": (
        ("--config", "configs/iris_binary.yaml", "--data.features", "[sepal length, sepal width]"),
        r"trained on feature_names \['petal length \(cm\)'.* asks for \['sepal length \(cm\)'",
    ),
    "other classes": (
        ("--config", "configs/iris_binary.yaml", "--data.classes", "[setosa, versicolor]"),
        r"trained on class_names \['versicolor', 'virginica'\], .* asks for \['setosa', 'versicolor'\]",
    ),
}


@pytest.mark.parametrize(("options", "message"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_something_else_is_refused(cli, run, tmp_path, options, message):
    before = contents(tmp_path)
    for command, *place in (("test",), ("fit", "--trainer.default_root_dir", tmp_path / "new")):
        line = refused(cli, command, *options, *place, "--ckpt_path", run / "checkpoints/best.ckpt")
        assert re.search(message, line), line
        assert contents(tmp_path) == before
        assert not (tmp_path / "new").exists()


def test_our_own_mistakes_keep_their_traceback(cli, monkeypatch, tmp_path):
    def broken(self, batch, batch_idx):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(BinaryLogit, "training_step", broken)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        cli(*IRIS, *QUICK, "--trainer.default_root_dir", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_fit_that_diverges_ends_in_one_line_with_the_last_good_checkpoint(cli, tmp_path, rate):
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 20)
    line = refused(cli, *IRIS, *QUICK, *place, "--model.optimizer.init_args.lr", rate)
    assert re.search(r"loss became (inf|nan) after step \d+ at a learning rate of 1e?\+?\d+: lower the rate", line)
    for path in tmp_path.rglob("*.ckpt"):
        assert str(tmp_path / "run/checkpoints/last.ckpt") in line
        assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run", path.stem).values())


def test_an_output_that_knows_only_ascii_ends_no_command(cli, monkeypatch, tmp_path):
    place = ("--trainer.default_root_dir", tmp_path / "ü")
    with (tmp_path / "out").open("w", encoding="ascii") as ascii_only:
        monkeypatch.setattr(sys, "stdout", ascii_only)
        cli(*IRIS, *QUICK, *place, "--trainer.max_epochs", 1)
        for command in ("test", "predict"):
            cli(command, *IRIS[1:], *place, "--ckpt_path", "best")
    assert rb"\xfc" in (tmp_path / "out").read_bytes()


def test_ctrl_c_while_torch_is_imported_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "train.py", "fit"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "stopped before anything was trained\n")


def test_a_full_disk_under_the_event_file_is_one_line(cli, capfd, monkeypatch, tmp_path):
    from tensorboard.summary.writer import record_writer

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_writer.RecordWriter, "flush", full)
    with pytest.raises(SystemExit, match=r"^error: .*No space left on device; make room, then .*--ckpt_path last$"):
        cli(*IRIS, *QUICK, "--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    assert "Traceback" not in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_rank_without_a_world_is_refused_and_harms_nothing(cli, monkeypatch, run):
    before = contents(run)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("cli.lightning_cli.rank_zero_only.rank", 1)  # read from the environment while importing
    line = refused(cli, *IRIS, *QUICK, "--trainer.default_root_dir", run, "--trainer.max_epochs", 1)
    assert "makes this process number 1 of several" in line
    assert contents(run) == before


FORKS = ("DDPStrategy", "--trainer.strategy.start_method", "fork")


@pytest.mark.parametrize(("command", "copies"), [("fit", ["ddp_spawn"]), ("test", ["ddp_spawn"]), ("fit", FORKS)])
def test_processes_that_are_copies_of_this_one_are_refused_and_nothing_is_harmed(cli, run, command, copies):
    before, place = contents(run), ("--trainer.default_root_dir", run)
    last = ("--ckpt_path", run / "checkpoints/last.ckpt")  # also of the resumed run nothing changes
    devices = ("--trainer.accelerator", "cpu", "--trainer.devices", 2)
    line = refused(cli, command, *IRIS[1:], *QUICK, *place, *last, *devices, "--trainer.strategy", *copies)
    assert "use --trainer.strategy ddp" in line
    assert contents(run) == before


def test_one_seed_rules_where_a_config_sets_no_other(cli, tmp_path):
    text = ("fit", "--config", "configs/text_csv.yaml", *QUICK, "--trainer.max_epochs", 1)
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        cli(*text, "--seed_everything", seed, "--trainer.default_root_dir", tmp_path / name)
    assert not torch.equal(weights(tmp_path / "a")["W.weight"], weights(tmp_path / "b")["W.weight"])
    assert_same_state(tmp_path / "a", tmp_path / "c")


def test_fit_says_which_epoch_is_the_best_and_where_its_run_is(cli, capsys, tmp_path):
    cli(*IRIS, *QUICK, "--trainer.default_root_dir", tmp_path / "run", "--trainer.max_epochs", 3)
    printed = capsys.readouterr().out
    assert re.search(r"^best\.ckpt: epoch \d+, val/loss 0\.\d{4}, val/accuracy \d\.\d{4}$", printed, re.MULTILINE)
    directory, *more = printed.splitlines()[-3:]
    assert directory == f"run directory: {tmp_path / 'run'}"
    own = tmp_path / "run/config.yaml"
    assert more == [
        f"next: python train.py test --config {own} --ckpt_path best",
        f"next: tensorboard --logdir {tmp_path / 'run'}",
    ]


@pytest.mark.parametrize("which", ["best", "last"])
def test_best_and_last_of_a_runs_own_config_are_that_runs_and_not_the_newest(cli, run, which):
    cli(*IRIS, *QUICK, "--trainer.default_root_dir", run, "--trainer.max_epochs", 1)  # version_0, below it
    cli("test", "--config", run / "config.yaml", "--ckpt_path", which)
    assert (run / "test_metrics.json").is_file()
    assert not (run / "version_0/test_metrics.json").exists()


# How good the models are

FOUR = ("--data.features", "[sepal length, sepal width, petal length, petal width]")
TASKS = [
    pytest.param("iris_binary", (), 0.93, marks=pytest.mark.slow),
    pytest.param("iris_ova", (), 0.93, marks=pytest.mark.slow),
    pytest.param("iris_binary", ("--data.classes", "[setosa, versicolor]"), 1.0, marks=pytest.mark.nightly),
    pytest.param("iris_ova", FOUR, 0.93, marks=pytest.mark.nightly),
]


@pytest.mark.parametrize(("config", "options", "at_least"), TASKS)
def test_mean_test_accuracy_over_ten_split_seeds(cli, tmp_path, config, options, at_least):
    """The whole way of a user: fit by the config, then test the checkpoint that was best on validation."""
    accuracies = []
    for seed in range(10):
        run = tmp_path / str(seed)
        more = (*options, "--data.seed", seed, "--trainer.default_root_dir", run)
        cli("fit", "--config", f"configs/{config}.yaml", *QUICK, *more)
        cli("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt")
        accuracies.append(metrics(run)["test/accuracy"])
    assert np.mean(accuracies) >= at_least, accuracies
