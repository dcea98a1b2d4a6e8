"""Checkpoints: the right state under the right name."""

import json
import os
import shutil
from pathlib import Path

import lightning as L
import pytest
import torch

from callbacks import AtomicCheckpointIO, RelocatableModelCheckpoint


class Falling(L.LightningModule):
    """Its one weight falls by 1 a step; its "loss" is given, epoch by epoch."""

    def __init__(self, losses):
        super().__init__()
        self.losses, self.weight = losses, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.log("loss", self.losses[self.current_epoch], on_step=False, on_epoch=True, batch_size=1)
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Validated(Falling):
    """Its "loss" is logged in the validation: given for one validation after the other."""

    def training_step(self, batch, batch_idx):
        return self.weight

    def validation_step(self, batch, batch_idx):
        step = self.trainer.global_step
        self.log("loss", self.losses[step], batch_size=1)


def loader(rows=1):
    return torch.utils.data.DataLoader(torch.zeros(rows))


def fit(folder, losses, kind=Falling, rows=1, ckpt_path=None, plugin=None, trainer_options=None, **options):
    """One step per row and epoch; the best state is where `losses` is least."""
    checkpoint = RelocatableModelCheckpoint(**{"monitor": "loss"} | options)
    off = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    plan = {"max_epochs": len(losses), "num_sanity_val_steps": 0} | (trainer_options or {})
    trainer = L.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[checkpoint],
        plugins=[plugin or AtomicCheckpointIO()],
        **off | plan,
    )
    loaders = (loader(rows), loader()) if kind is Validated else (loader(rows),)
    trainer.fit(kind(losses), *loaders, ckpt_path=ckpt_path)
    return checkpoint


def state(path):
    """Step and weight."""
    checkpoint = torch.load(path, weights_only=True)
    return checkpoint["global_step"], float(checkpoint["state_dict"]["weight"])


def steps(run):
    """Of each checkpoint the step."""
    return {path.stem: state(path)[0] for path in sorted((run / "checkpoints").iterdir())}


# Which state is kept under which name


def test_the_best_epoch_s_state_is_written_under_both_names(tmp_path):
    fit(tmp_path, losses=[3.0, 2.0])
    files = tmp_path / "checkpoints"
    assert sorted(path.name for path in files.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert state(files / "best.ckpt") == state(files / "last.ckpt") == (2, -2.0)


def test_overwriting_one_of_them_in_place_leaves_the_other_as_it_is(tmp_path):
    fit(tmp_path, losses=[3.0, 2.0])
    files = tmp_path / "checkpoints"
    assert not os.path.samefile(files / "best.ckpt", files / "last.ckpt")
    shutil.copyfile(__file__, files / "last.ckpt")
    assert state(files / "best.ckpt") == (2, -2.0)


def test_later_epochs_leave_the_best_one_s_file_alone(tmp_path):
    fit(tmp_path, losses=[3.0, 1.0, 2.0, 2.0])
    assert state(tmp_path / "checkpoints" / "best.ckpt") == (2, -2.0)
    assert state(tmp_path / "checkpoints" / "last.ckpt") == (4, -4.0)


def test_the_largest_value_is_the_best_where_asked(tmp_path):
    fit(tmp_path, losses=[1.0, 3.0, 2.0], mode="max")
    assert steps(tmp_path) == {"best": 2, "last": 3}


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), float("inf")])
def test_a_value_that_is_not_finite_is_never_the_best(tmp_path, bad):
    fit(tmp_path / "first", losses=[bad, 2.0, bad])
    assert steps(tmp_path / "first") == {"best": 2, "last": 3}
    fit(tmp_path / "only", losses=[bad, bad])
    assert steps(tmp_path / "only") == {"last": 2}


def test_save_top_k_keeps_the_others_under_the_names_of_their_epochs(tmp_path):
    fit(tmp_path, losses=[3.0, 1.0, 4.0, 2.0, 5.0], save_top_k=2)
    assert steps(tmp_path) == {"best": 2, "epoch_00002": 2, "epoch_00004": 4, "last": 5}


def test_save_top_k_of_minus_one_keeps_all(tmp_path):
    fit(tmp_path, losses=[2.0, 3.0, 1.0], save_top_k=-1)
    assert steps(tmp_path) == {"best": 3, "epoch_00001": 1, "epoch_00002": 2, "epoch_00003": 3, "last": 3}


def test_last_is_also_saved_every_n_train_steps(tmp_path):
    seen = []

    class Watching(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            super().save_checkpoint(checkpoint, path)
            seen.append((Path(path).stem, checkpoint["global_step"]))

    fit(tmp_path, losses=[2.0, 3.0], rows=5, every_n_train_steps=2, plugin=Watching())
    assert seen == [("last", 2), ("last", 4), ("best", 5), ("last", 6), ("last", 8), ("last", 10)]
    assert steps(tmp_path) == {"best": 5, "last": 10}


def test_a_validation_within_an_epoch_counts_too(tmp_path):
    losses = {2: 3.0, 4: 1.0, 6: 2.0, 8: 4.0}
    fit(
        tmp_path, losses, Validated, rows=4, trainer_options={"val_check_interval": 0.5, "max_epochs": 2}, save_top_k=-1
    )
    expected = {"best": 4, "epoch_00001": 4, "epoch_00002": 8, "last": 8, "step_00000002": 2, "step_00000006": 6}
    assert steps(tmp_path) == expected


def test_an_epoch_without_validation_is_no_candidate(tmp_path):
    losses = {2: 3.0, 4: 4.0}  # the loss of step 2 is still logged at step 3
    options = {"check_val_every_n_epoch": 2, "max_epochs": 5}
    fit(tmp_path, losses, Validated, trainer_options=options, save_top_k=-1)
    assert steps(tmp_path) == {"best": 2, "epoch_00002": 2, "epoch_00004": 4, "last": 5}


def test_a_run_without_validation_or_monitor_saves_its_last_state(tmp_path):
    fit(tmp_path, losses=[3.0, 2.0], monitor="val/loss")
    assert steps(tmp_path) == {"last": 2}


@pytest.mark.parametrize("kind", [Falling, Validated])
def test_without_a_monitor_the_last_state_is_the_best(tmp_path, kind):
    fit(tmp_path, {0: 1.0, 1: 1.0, 2: 3.0}, kind, monitor=None, trainer_options={"max_epochs": 2})
    assert steps(tmp_path) == {"best": 2, "last": 2}
    fit(
        tmp_path,
        {2: 3.0, 3: 4.0},
        kind,
        monitor=None,
        trainer_options={"max_epochs": 3},
        ckpt_path=tmp_path / "checkpoints/last.ckpt",
    )
    assert steps(tmp_path) == {"best": 3, "last": 3}


def test_a_monitor_that_validation_does_not_log_ends_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^expected nope \(checkpoint.monitor\) to be logged, got only: loss$"):
        fit(tmp_path, {1: 1.0}, Validated, monitor="nope", trainer_options={"max_epochs": 1})


@pytest.mark.parametrize(
    "option", [{"save_top_k": None}, {"save_top_k": -2}, {"save_top_k": 0}, {"every_n_train_steps": 0}]
)
def test_options_out_of_range_are_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"^expected {name} of at least 1.*, got {value}$"):
        RelocatableModelCheckpoint(**option)


def test_a_dry_run_writes_nothing(tmp_path):
    fit(tmp_path, losses=[1.0], every_n_train_steps=1, trainer_options={"fast_dev_run": True})
    assert list(tmp_path.iterdir()) == []


# Resumed


@pytest.mark.parametrize("save_top_k", [1, 2, -1])
def test_a_resumed_run_continues_from_the_best_so_far_also_after_a_move(tmp_path, save_top_k):
    losses = [3.0, 1.0, 2.0, 1.5, 0.5]
    fit(tmp_path / "straight", losses, save_top_k=save_top_k)
    for epochs in (1, 2, 3, 4):
        run, moved = tmp_path / f"run_{epochs}", tmp_path / f"moved_{epochs}"
        fit(run, losses, save_top_k=save_top_k, trainer_options={"max_epochs": epochs})
        run.rename(moved)
        fit(moved, losses, save_top_k=save_top_k, ckpt_path=moved / "checkpoints" / "last.ckpt")
        assert steps(moved) == steps(tmp_path / "straight")
    one, two = (torch.load(run / "checkpoints" / "last.ckpt") for run in (tmp_path / "straight", tmp_path / "moved_2"))
    assert one["callbacks"] == two["callbacks"]
    assert not list(tmp_path.glob("run_*"))


def test_a_worse_epoch_after_a_resume_does_not_replace_the_best(tmp_path):
    fit(tmp_path, [1.0, 2.0, 3.0], trainer_options={"max_epochs": 1})
    checkpoint = fit(tmp_path, [1.0, 2.0, 3.0], ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert steps(tmp_path) == {"best": 1, "last": 3}
    assert (checkpoint.best_model_path, float(checkpoint.best_model_score)) == (
        str(tmp_path / "checkpoints" / "best.ckpt"),
        1.0,
    )


def test_in_another_run_s_directory_the_best_starts_afresh(tmp_path):
    fit(tmp_path / "run", [1.0], trainer_options={"max_epochs": 1})
    fit(tmp_path / "other", [0.0, 3.0, 4.0], ckpt_path=tmp_path / "run" / "checkpoints" / "last.ckpt", mode="max")
    assert steps(tmp_path / "other") == {"best": 3, "last": 3}
    fit(tmp_path / "third", [0.0, 3.0, 4.0], ckpt_path=tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert steps(tmp_path / "third") == {"best": 2, "last": 3}


@pytest.mark.parametrize("change", [{"mode": "max"}, {"monitor": "other"}])
def test_a_best_state_that_was_chosen_otherwise_is_not_overwritten(tmp_path, change):
    fit(tmp_path, [1.0], trainer_options={"max_epochs": 1})
    expected = (
        r"best.ckpt of this run was chosen by monitor loss \(min\), the options say (loss \(max|other \(min)\): give"
    )
    with pytest.raises(ValueError, match=expected):
        fit(tmp_path, [0.0, 3.0], ckpt_path=tmp_path / "checkpoints/last.ckpt", **change)
    assert steps(tmp_path) == {"best": 1, "last": 1}


@pytest.mark.parametrize("state", [None, {}, []])
def test_a_checkpoint_that_has_forgotten_the_best_state_is_refused_in_its_own_run_alone(tmp_path, state):
    fit(tmp_path / "run", [1.0], trainer_options={"max_epochs": 1})
    last = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["callbacks"]["RelocatableModelCheckpoint"] = state
    torch.save(checkpoint, last)
    with pytest.raises(ValueError, match=r"callbacks.RelocatableModelCheckpoint: expected a map of monitor, mode"):
        fit(tmp_path / "run", [0.0, 3.0], ckpt_path=last)
    fit(tmp_path / "other", [0.0, 3.0], ckpt_path=last)
    assert steps(tmp_path / "other") == {"best": 2, "last": 2}


# Names in a checkpoint


@pytest.mark.parametrize("name", ["../../notes.txt", "ABSOLUTE"])
def test_a_checkpoint_cannot_name_files_to_delete(tmp_path, name):
    run, notes = tmp_path / "run", tmp_path / "notes.txt"
    notes.write_text("mine")
    fit(run, [1.0], save_top_k=2)
    last = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    victim = str(notes) if name == "ABSOLUTE" else name
    checkpoint["callbacks"]["RelocatableModelCheckpoint"]["kept"] = {victim: torch.tensor(9.0, dtype=torch.float64)}
    torch.save(checkpoint, last)
    fit(run, [1.0, 2.0, 3.0], save_top_k=2, ckpt_path=last)
    assert steps(run) == {"best": 1, "epoch_00001": 1, "epoch_00002": 2, "epoch_00003": 3, "last": 3}
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("name", ["../../notes.txt", "ABSOLUTE"])
def test_a_path_in_a_checkpoint_deletes_no_file_elsewhere(cli, tmp_path, name):
    """Lightning's ModelCheckpoint deletes the files that its state names as no longer among the best."""
    run, notes = tmp_path / "run", tmp_path / "notes.txt"
    notes.write_text("mine")
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss", "filename": "own-{epoch}"}}
    keeper["init_args"]["dirpath"] = str(run / "checkpoints")
    plan = ("--config", "configs/iris_ova.yaml", "--trainer.callbacks", json.dumps([keeper]))
    plan += ("--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", run)
    cli("fit", *plan, "--trainer.max_epochs", 1)
    last = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    [state] = [state for key, state in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint")]
    victim = str(notes) if name == "ABSOLUTE" else str(run / "checkpoints" / name)
    state |= {"best_k_models": {victim: torch.tensor(9.0)}, "kth_best_model_path": victim, "best_model_path": victim}
    torch.save(checkpoint, last)
    cli("fit", *plan, "--trainer.max_epochs", 2, "--ckpt_path", last)
    assert notes.read_text() == "mine"


def test_another_model_checkpoint_of_a_moved_run_goes_on_with_its_best(cli, tmp_path):
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss", "filename": "own-{epoch}"}}
    plan = ("--config", "configs/iris_ova.yaml", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
    last = tmp_path / "after/checkpoints/last.ckpt"
    for run, epochs, resume in (("before", 2, ()), ("after", 3, ("--ckpt_path", last))):
        if resume:
            (tmp_path / "before").rename(tmp_path / "after")
        keeper["init_args"]["dirpath"] = str(tmp_path / run / "checkpoints")
        place = ("--trainer.default_root_dir", tmp_path / run, "--trainer.callbacks", json.dumps([keeper]))
        cli("fit", *plan, *place, "--trainer.max_epochs", epochs, *resume)
    assert {path.name for path in (tmp_path / "after/checkpoints").glob("own-*")} == {"own-epoch=2.ckpt"}
