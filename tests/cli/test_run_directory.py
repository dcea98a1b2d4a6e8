"""A run directory is one run's own: never shared, never overwritten, and removed by name when nothing came of it."""

import os
import threading

import pytest
from jsonargparse import Namespace

from cli.run_directory import RunDirectory, base_directory, choose_run, newest_checkpoint, run_of

STARTED = ("config.yaml", "hparams.yaml", "metrics.csv", "events.out.tfevents.1.host.2.0", "figures/boundary.gif")
STARTED += ("data_report.json", "data_issues.csv", "figures/loss_surface.png")


def start_a_fit_in(run):
    """The files that a fit writes before its first checkpoint."""
    for name in (*STARTED, "checkpoints/.last.ckpt.123"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("x")


def fail(run):
    with pytest.raises(ValueError, match="went wrong"), run:
        start_a_fit_in(run.path)
        raise ValueError("went wrong")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("was_there", [False, True])
def test_a_failed_run_leaves_nothing_but_the_empty_folder_that_was_there(tmp_path, was_there):
    (tmp_path / "run").mkdir() if was_there else None
    fail(RunDirectory.claim(tmp_path / "run", named=True))
    assert list(tmp_path.rglob("*")) == [tmp_path / "run"] * was_there


def test_a_failed_run_leaves_every_file_that_is_not_its_own(tmp_path):
    run = RunDirectory.claim(tmp_path / "run", named=True)
    other = RunDirectory.claim(tmp_path / "run", named=True)  # started meanwhile, below the first
    assert other.path == tmp_path / "run/version_0"
    start_a_fit_in(other.path)
    (other.path / "checkpoints/best.ckpt").write_text("weights")
    (run.path / "notes.txt").write_text("mine")
    (run.path / "figures").mkdir()
    (run.path / "figures/drawing.png").write_text("mine")
    (run.path / "data").mkdir()
    before = files(run.path)
    fail(run)
    assert files(run.path) == before


def test_a_run_that_saved_a_checkpoint_is_kept(tmp_path):
    run = RunDirectory.claim(tmp_path / "run", named=True)
    (run.path / "checkpoints/last.ckpt").write_text("weights")
    fail(run)
    assert set(files(run.path)) >= {*STARTED, "checkpoints/last.ckpt"}


def test_a_run_that_this_process_did_not_claim_is_never_removed(tmp_path):
    start_a_fit_in(tmp_path)
    fail(RunDirectory(tmp_path))
    assert set(files(tmp_path)) >= set(STARTED)


def test_a_run_without_an_error_is_kept(tmp_path):
    with RunDirectory.claim(tmp_path / "run", named=True) as run:
        start_a_fit_in(run.path)
    assert set(files(run.path)) >= set(STARTED)


def test_claims_at_the_same_moment_get_directories_of_their_own(tmp_path):
    claimed, go = [], threading.Barrier(8)

    def claim():
        go.wait()
        claimed.append(RunDirectory.claim(tmp_path / "runs", named=False).path)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [tmp_path / f"runs/version_{number}" for number in range(8)]


def test_the_config_that_another_replaces_is_kept_beside_once(tmp_path):
    run = RunDirectory.claim(tmp_path / "run", named=True)
    run.write_config("lr: 1\n")
    for _ in range(2):  # at every checkpoint; only the first changes anything
        run.write_config("lr: 2\n")
    assert (run.path / "config.yaml").read_text() == "lr: 2\n"
    assert (run.path / "config.before_resume_1.yaml").read_text() == "lr: 1\n"
    assert not (run.path / "config.before_resume_2.yaml").exists()


# Paths


def options(named=None, config=None, ckpt_path=None):
    return Namespace(trainer=Namespace(default_root_dir=named and str(named)), config=config, ckpt_path=ckpt_path)


def test_runs_go_below_the_name_of_their_config_or_beside_the_run_that_has_it_or_where_the_user_says(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(base_directory(options(config=["iris.yaml"]))) == os.path.join("runs", "iris")
    assert str(base_directory(options())) == os.path.join("runs", "run")
    assert base_directory(options(tmp_path / "x", ["iris.yaml"])) == tmp_path / "x"
    assert base_directory(options("~/runs")) == tmp_path / "runs"
    with pytest.raises(ValueError, match=r"default_root_dir: expected a folder on this machine, got file://"):
        base_directory(options("file:///tmp/x"))
    run = RunDirectory.claim(tmp_path / "runs/iris", named=False).path
    assert base_directory(options(config=[run / "config.yaml"])) == tmp_path / "runs/iris"


def test_the_newest_checkpoint_is_that_of_the_highest_version_whatever_the_times_of_the_files(tmp_path):
    for number, time in ((0, 300), (1, 100), (10, 200)):
        path = tmp_path / f"version_{number}/checkpoints/best.ckpt"
        path.parent.mkdir(parents=True)
        path.write_text("x")
        os.utime(path, (time, time))
    assert newest_checkpoint(tmp_path, "best") == tmp_path / "version_10/checkpoints/best.ckpt"
    with pytest.raises(ValueError, match=r"last: no last\.ckpt below .*; there is best\.ckpt: --ckpt_path best$"):
        newest_checkpoint(tmp_path, "last")
    with pytest.raises(ValueError, match=r"--ckpt_path last: no last\.ckpt below .*; run fit first"):
        newest_checkpoint(tmp_path / "elsewhere", "last")


@pytest.fixture
def finished(tmp_path):
    run = RunDirectory.claim(tmp_path / "run", named=True).path
    for name in ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        (run / name).write_text("x")
    return run


def test_only_last_resumes_a_run_and_only_in_its_place(finished, tmp_path):
    last, best = (str(finished / f"checkpoints/{name}.ckpt") for name in ("last", "best"))
    assert run_of(finished / "checkpoints/last.ckpt") == finished
    assert choose_run("fit", options(None, ckpt_path=last), writes=True) == RunDirectory(finished)
    assert choose_run("fit", options(finished, ckpt_path=last), writes=True) == RunDirectory(finished)
    for number, checkpoint in enumerate((last, best)):
        chosen = choose_run("fit", options(tmp_path / f"else {number}", ckpt_path=checkpoint), writes=True)
        assert chosen.is_new and chosen.path != finished
