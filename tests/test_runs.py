"""A run goes on as itself: with its own data options, in its own directory, once at a time."""

import json
import os
import re
import shlex
import shutil
import signal
from contextlib import nullcontext

import pytest
import yaml

from deploy.classifier import Classifier
from logreg.one_vs_all import OneVsAll
from tests.conftest import refused
from tests.tools.runs import QUIET as NO_SCREEN
from tests.tools.runs import ROOT, assert_same_state, checkpoint, contents, finish, with_callbacks

SLOW = pytest.mark.slow
QUIET = (*NO_SCREEN, "--trainer.callbacks", "null", "--trainer.logger", "false")


def fit(cli, config, run, *options, epochs=1):
    cli("fit", "--config", config, *QUIET, "--trainer.max_epochs", epochs, "--trainer.default_root_dir", run, *options)
    return run


# Options of the data that are part of what was learned

TEXT, TABLE, CHARS = "configs/text_csv.yaml", "configs/table_csv.yaml", "{analyzer: char, ngram_range: [1, 2]}"
NO_WORDS = ("--data.words", "null", "--data.chars", CHARS)
OWN = ("--data.words", "{ngram_range: [1, 2]}", "--data.oos_label", "other")  # in place of what follows from the texts
UNLIKE = [
    (TEXT, (), ("--data.words.min_df", 2), "words.min_df 1, the configuration asks for 2"),
    (TABLE, (), ("--data.feature_columns", "[age, months]"), "feature_columns None"),
]
MORE = [
    (TEXT, (), ("--data.oos_label", "null"), "oos_label other, the configuration asks for None"),
    (TABLE, (), ("--data.categorical_columns", "[months]"), "categorical_columns ['months']"),
    (TEXT, (), ("--data.words.ngram_range", "[1, 1]"), "words.ngram_range (1, 2), the configuration asks for (1, 1)"),
    (TEXT, (), ("--data.chars", CHARS), "chars null, the configuration asks for n-grams"),
    (TEXT, ("--data.chars", CHARS), NO_WORDS, "words n-grams, the configuration asks for null"),
    (TEXT, (), ("--data.preset", "words"), "words.sublinear_tf False, the configuration asks for True"),
    (TABLE, ("--data.feature_columns", "[age, months]"), (), "feature_columns ['age', 'months']"),
    (TABLE, ("--data.feature_columns", "[age, town]"), ("--data.feature_columns", "[town, age]"), "['town', 'age']"),
    (TABLE, (), ("--data.id_columns", "[months]"), "id_columns ['months']"),
]
UNLIKE += [pytest.param(*case, marks=SLOW) for case in MORE]


@pytest.mark.parametrize(("config", "before", "now", "said"), UNLIKE)
def test_a_resume_with_other_features_is_refused_and_the_config_still_describes_the_model(
    cli, tmp_path, config, before, now, said
):
    own = OWN if config == TEXT else ()
    run = fit(cli, config, tmp_path / "run", *own, *before)
    files = contents(tmp_path)
    last = ("--ckpt_path", run / "checkpoints/last.ckpt")
    arguments = ("fit", "--config", config, *own, *QUIET, "--trainer.max_epochs", 2, *last)
    for place in (run, tmp_path / "other"):
        line = refused(cli, *arguments, "--trainer.default_root_dir", place, *(now or ("--data.seed", "null")))
        assert "the checkpoint was trained with" in line
        assert said in line
        assert "config.yaml" in line
    assert contents(tmp_path) == files
    fit(cli, run / "config.yaml", run, *last, epochs=2)
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2


def test_any_features_may_be_configured_to_evaluate_a_checkpoint(cli, tmp_path):
    run = fit(cli, TEXT, tmp_path)
    cli("test", "--config", TEXT, "--data.words.min_df", 2, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert "test/accuracy" in json.loads((run / "test_metrics.json").read_text())


# Which directory

IRIS = "configs/iris_ova.yaml"


def steps(run):
    return checkpoint(run)["global_step"]


def change(run, disk, part):
    """The last.ckpt of a run of which a part is on another disk, or, of the configuration, gone."""
    if part == "config.yaml":
        (run / part).unlink()
    elif part == "a second link":
        (disk / "checkpoints").symlink_to(run / "checkpoints")
        return disk / "checkpoints/last.ckpt"
    else:
        (run / part).rename(disk / "moved")
        (run / part).symlink_to(disk / "moved")
    return run / "checkpoints/last.ckpt"


PARTS = ["checkpoints", "config.yaml"]
PARTS += [pytest.param(part, marks=SLOW) for part in (".", "checkpoints/last.ckpt", "a second link")]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("named", [True, pytest.param(False, marks=SLOW)], ids=["by its path", "as last"])
def test_a_run_goes_on_where_it_is_whatever_is_a_link(cli, tmp_path, part, named):
    """A link named otherwise than last.ckpt is any other checkpoint."""
    base, disk = tmp_path / "base", tmp_path / "disk"
    disk.mkdir()
    base.mkdir()
    (base / "notes.txt").touch()
    run = base / "version_0"
    fit(cli, IRIS, base)
    last = change(run, disk, part)
    before = {path for path in tmp_path.rglob("*") if "before_resume" not in path.name}
    fit(cli, IRIS, base, "--ckpt_path", last if named else "last", epochs=2)
    assert steps(run) == 12
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    new = {path for path in tmp_path.rglob("*") if "before_resume" not in path.name} - before
    assert {path.name for path in new} <= {"config.yaml", "checkpoints", "last.ckpt", "best.ckpt"}  # not through a link
    cli("test", "--config", IRIS, "--ckpt_path", last)
    assert (run / "test_metrics.json").is_file()
    assert {path.name for path in disk.iterdir()} <= {"moved", "checkpoints"}


def test_a_checkpoint_of_no_run_that_has_all_epochs_begins_none(cli, tmp_path, capsys):
    last = tmp_path / "last.ckpt"
    shutil.copy(fit(cli, IRIS, tmp_path / "run", epochs=2) / "checkpoints/last.ckpt", last)
    more = ("fit", "--config", IRIS, *QUIET, "--ckpt_path", last, "--trainer.default_root_dir", tmp_path / "new")
    line = refused(cli, *more, "--trainer.max_epochs", 2)
    assert line == "error: nothing was trained: the checkpoint has all 2 epochs; raise --trainer.max_epochs"
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    cli(*more, "--trainer.max_epochs", 3)
    assert capsys.readouterr().err == f"note: a new run begins from {last}, in {tmp_path / 'new'}\n"
    assert steps(tmp_path / "new") == 18


# Once at a time


def test_a_run_that_is_being_trained_is_trained_by_no_second_process(cli, tmp_path, monkeypatch):
    """flock keeps out a second opening of the file also within this process."""
    run, lines = fit(cli, IRIS, tmp_path / "run"), []
    resume = ("fit", "--config", IRIS, *QUIET, "--trainer.max_epochs", 3, "--ckpt_path", run / "checkpoints/last.ckpt")
    on_train_start = OneVsAll.on_train_start

    def begin_another(model):
        if not lines:
            before = contents(run)
            lines.append(refused(cli, *resume))
            assert contents(run) == before
        on_train_start(model)

    monkeypatch.setattr(OneVsAll, "on_train_start", begin_another)
    cli(*resume)
    assert lines == [f"error: {run}: another process is training this run: wait for its end, or stop it"]
    assert steps(run) == 18
    begun = fit(cli, IRIS, tmp_path / "new", epochs=1)  # and a new run is one too
    cli(*resume[:-1], begun / "checkpoints/last.ckpt")


# Jobs that start again


@pytest.fixture
def stop_at(monkeypatch):
    """`stop_at[7] = signal.SIGINT` sends the process a signal before that update of the next fit, once."""
    planned = {}

    def on_train_batch_start(model, *_):
        if (number := planned.pop(model.trainer.global_step, None)) is not None:
            signal.raise_signal(number)

    monkeypatch.setattr(OneVsAll, "on_train_batch_start", on_train_batch_start)
    return planned


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM job of one process, with a `scontrol` that only writes down how it is called: the file of its calls."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scontrol").write_text('#!/bin/sh\necho "$@" >> "$0.calls"\nexit $SCONTROL_STATUS\n')
    (tmp_path / "bin/scontrol").chmod(0o755)
    job = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "fit", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SCONTROL_STATUS": "0"}
    for name, value in (job | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "bin/scontrol.calls"


@pytest.fixture
def torchrun(monkeypatch):
    """What torchrun tells the only process that it starts."""
    for name, value in {"RUN_ID": "job1", "RESTART_COUNT": "0", "MAX_RESTARTS": "0"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def stopped_fit(cli, stop_at):
    """`stopped_fit(run, step, signal, ...)` is a fit that a signal ends at a step."""

    def fit_until(run, step, number, *options):
        stop_at[step] = number
        with pytest.raises(SystemExit) as stopped:
            fit(cli, IRIS, run, *options, epochs=4)
        assert stopped.value.code == 128 + number

    return fit_until


@pytest.mark.slow
def test_each_of_two_fits_in_a_requeued_job_goes_on_in_its_own_run(cli, tmp_path, slurm, stopped_fit, capsys):
    base = tmp_path / "runs"
    fit(cli, IRIS, base, "--seed_everything", 1, epochs=4)
    stopped_fit(base, 7, signal.SIGUSR1, "--seed_everything", 2)
    assert "requeued SLURM job 4711" in capsys.readouterr().out
    assert slurm.read_text() == "requeue 4711\n"
    assert not list(tmp_path.glob("**/hpc_ckpt*"))
    before = {
        name: content for name, content in contents(base).items() if name.startswith(("checkpoints", "version_0"))
    }
    fit(cli, IRIS, base, "--seed_everything", 1, epochs=4)  # the job begins again, with its first line
    assert before.items() <= contents(base).items()
    fit(cli, IRIS, base, "--seed_everything", 2, epochs=4)
    assert {path.parent.name for path in base.rglob("config.yaml")} == {"runs", "version_0", "version_1"}
    assert_same_state(base / "version_0", fit(cli, IRIS, tmp_path / "straight", "--seed_everything", 2, epochs=4))
    fit(cli, IRIS, base, "--seed_everything", 2, epochs=4)  # what has ended is not continued
    assert steps(base / "version_2") == 24


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=SLOW)], ids=["new", "from best.ckpt"])
def test_a_worker_that_torchrun_starts_again_goes_on_in_its_own_run(cli, tmp_path, torchrun, stopped_fit, resumed):
    best = fit(cli, IRIS, tmp_path / "other") / "checkpoints/best.ckpt"
    options = ("--seed_everything", 1, *(("--ckpt_path", best) if resumed else ()))
    stopped_fit(tmp_path / "run", 15, signal.SIGTERM, *options)
    fit(cli, IRIS, tmp_path / "run", *options, epochs=4)
    assert not list((tmp_path / "run").glob("version_*"))
    assert_same_state(tmp_path / "run", fit(cli, IRIS, tmp_path / "straight", *options, epochs=4))
    fit(cli, IRIS, tmp_path / "run", *options, epochs=4)  # what has ended is not continued
    assert (tmp_path / "run/version_0/checkpoints/last.ckpt").is_file()


def test_a_job_that_slurm_cannot_requeue_says_how_to_go_on(tmp_path, slurm, stopped_fit, monkeypatch, capsys):
    monkeypatch.setenv("SCONTROL_STATUS", "1")
    for name in ("ARRAY_JOB_ID", "ARRAY_TASK_ID"):
        monkeypatch.setenv(f"SLURM_{name}", "3")
    stopped_fit(tmp_path / "run", 7, signal.SIGUSR1, "--seed_everything", 2)
    said = capsys.readouterr().out
    assert f" --ckpt_path {tmp_path}/run/checkpoints/last.ckpt\n" in said
    assert "SLURM job 3_3 could not be requeued: " in said
    assert slurm.read_text() == "requeue 3_3\n"
    assert not (tmp_path / "run/unfinished_job.txt").exists()


def test_the_command_that_ctrl_c_prints_goes_on_also_after_a_resume(cli, tmp_path, stopped_fit, stop_at, capsys):
    stopped_fit(tmp_path / "a run", 7, signal.SIGINT, "--seed_everything", 1)
    stop_at[15] = signal.SIGINT
    for end in (pytest.raises(SystemExit), nullcontext()):
        [command] = re.findall(r"^go on with: python train\.py (.*)$", capsys.readouterr().out, re.MULTILINE)
        with end:
            cli(*shlex.split(command))
    assert command.count("--ckpt_path") == 1
    assert steps(tmp_path / "a run") == 24


def test_what_ctrl_c_has_ended_torchruns_next_command_does_not_continue(cli, tmp_path, torchrun, stopped_fit):
    stopped_fit(tmp_path / "run", 7, signal.SIGINT, "--seed_everything", 1)
    fit(cli, IRIS, tmp_path / "run", "--seed_everything", 1, epochs=4)
    assert steps(tmp_path / "run") < steps(tmp_path / "run/version_0") == 24


NOTES = {"note: without --rdzv-id NAME, a restart by torchrun begins a new run": ("RUN_ID", "job1", "none")}
NOTES["TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"] = ("USE_AGENT_STORE", "False", "True")


@pytest.mark.parametrize(("note", "settings"), NOTES.items(), ids=["an id", "a store that would hang"])
def test_torchrun_with_restarts_is_told_what_they_need(cli, tmp_path, torchrun, monkeypatch, capsys, note, settings):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    name, *values = settings
    for value, said in zip(values, (False, True), strict=True):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
        fit(cli, IRIS, tmp_path / value)
        assert (note in capsys.readouterr().err) == said


DIES = """
import os, signal
import lightning as L

class Dies(L.Callback):
    def on_train_batch_start(self, trainer, *_):
        begun_again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
        if trainer.global_rank == 1 and trainer.global_step == {step} and not begun_again:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "step", [pytest.param(15, marks=SLOW), pytest.param(3, marks=pytest.mark.nightly)]
)  # after and before the first checkpoint
def test_torchrun_ends_a_run_of_which_a_worker_was_killed_as_if_nothing_had_happened(tmp_path, step):
    (tmp_path / "dies.py").write_text(DIES.format(step=step))
    environment = {"PYTHONPATH": str(tmp_path)}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or gloo reads the dead worker's address
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    plan = ("train.py", "fit", "--config", IRIS, *QUIET, "--trainer.max_epochs", 4, "--trainer.accelerator", "cpu")
    plan += ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.callbacks")
    for name, options, callbacks in (("run", ("--max-restarts", 3), "dies.Dies"), ("straight", (), "null")):
        place = ("--trainer.default_root_dir", tmp_path / name)
        output = finish(*torchrun, *options, *plan, callbacks, *place, **environment)
        assert output.count("run directory:") == 1
    assert_same_state(tmp_path / "run", tmp_path / "straight")
    assert not list((tmp_path / "run").glob("version_*"))


# Paths


def test_variables_and_the_home_folder_in_paths_are_expanded(cli, tmp_path, monkeypatch):
    for name, folder in (("HOME", "home"), ("SCRATCH", "scratch")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "home/rows.csv").write_bytes((ROOT / "tests/data/customers.csv").read_bytes())
    config = yaml.safe_load((ROOT / TABLE).read_text())
    config["trainer"]["default_root_dir"] = "$SCRATCH/${USER_OF_NO_NAME}"
    config["data"]["init_args"]["train_file"] = ["~/rows.csv"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    arguments = ("fit", "--config", tmp_path / "c.yaml", *QUIET, "--trainer.max_epochs", 1)
    assert "trainer.default_root_dir: the variable ${USER_OF_NO_NAME} is not set" in refused(cli, *arguments)
    monkeypatch.setenv("USER_OF_NO_NAME", "me")
    cli(*arguments, *with_callbacks(("ModelCheckpoint", {"dirpath": "$SCRATCH/kept"})))
    run = tmp_path / "scratch/me"
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["data"]["init_args"]["train_file"] == [str(tmp_path / "home/rows.csv")]
    assert list((tmp_path / "scratch/kept").iterdir())
    cli("test", "--config", TABLE, "--ckpt_path", "$SCRATCH/me/checkpoints/best.ckpt")
    assert (run / "test_metrics.json").is_file()
    assert Classifier.load("~/../scratch/$USER_OF_NO_NAME").class_names == ["no", "yes"]
    assert not [path for path in ROOT.iterdir() if path.name.startswith(("$", "~"))]


@pytest.mark.parametrize("content", ["a: b".encode("utf-16"), b"\xff\xfe\x00", b"seed_everything: 1 # caf\xe9"])
def test_a_config_that_is_no_utf8_is_named(cli, tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    for others in ((), ("--config", IRIS)):
        line = refused(cli, "fit", *others, "--config", tmp_path / "c.yaml")
        assert f"{tmp_path}/c.yaml: expected a configuration in UTF-8, got byte 0x" in line
        assert "save it as UTF-8" in line


def test_the_config_of_a_run_that_is_no_utf8_is_named_and_a_resume_keeps_it(cli, tmp_path):
    run = fit(cli, IRIS, tmp_path)
    (run / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"config\.yaml: expected a configuration in UTF-8, got byte 0xff at 0"):
        Classifier.load(run)
    fit(cli, IRIS, run, "--ckpt_path", run / "checkpoints/last.ckpt", epochs=2)
    assert (run / "config.before_resume_1.yaml").read_bytes() == b"\xff\xfe"


@pytest.mark.parametrize("config", [TEXT, TABLE])
@pytest.mark.parametrize("option", ["train_file", *(pytest.param(f"{s}_file", marks=SLOW) for s in ("val", "test"))])
def test_a_file_that_is_gone_is_named_with_its_option(cli, tmp_path, config, option):
    source = yaml.safe_load((ROOT / config).read_text())["data"]["init_args"]["train_file"]
    (tmp_path / "rows.csv").write_bytes((ROOT / source).read_bytes())
    run = fit(cli, config, tmp_path / "run", f"--data.{option}", tmp_path / "rows.csv")
    (tmp_path / "rows.csv").unlink()
    line = refused(cli, "test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt")
    assert f"{option}: no file at {tmp_path}/rows.csv; name one with --data.{option} FILE" in line
