"""Checkpoints: the right state under the right name."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch

from callbacks.run.checkpoint_io import AtomicCheckpointIO
from callbacks.run.checkpoints import RelocatableModelCheckpoint

NAN, INF = float("nan"), float("inf")


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
    """Its "loss" is logged in the validation: given for the step of each validation."""

    def training_step(self, batch, batch_idx):
        return self.weight

    def validation_step(self, batch, batch_idx):
        self.log("loss", self.losses[self.trainer.global_step], batch_size=1)


def loader(rows=1):
    return torch.utils.data.DataLoader(torch.zeros(rows))


def fit(folder, losses, kind=Falling, rows=1, ckpt_path=None, plugin=None, plan=(), **options):
    """One step per row and epoch; the best state is where `losses` is least. `plan` is options of the Trainer."""
    checkpoint = RelocatableModelCheckpoint(**{"monitor": "loss"} | options)
    off = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    trainer = L.Trainer(
        **{"accelerator": "cpu", "default_root_dir": folder, "callbacks": [checkpoint]},
        **{"plugins": [plugin or AtomicCheckpointIO()], "max_epochs": len(losses), "num_sanity_val_steps": 0, **off}
        | dict(plan),
    )
    loaders = (loader(rows), loader()) if issubclass(kind, Validated) else (loader(rows),)
    trainer.fit(kind(losses), *loaders, ckpt_path=ckpt_path)
    return checkpoint


def steps(run):
    """Of each checkpoint the step; the weight is minus the step."""
    checkpoints = {path.stem: torch.load(path, weights_only=True) for path in sorted((run / "checkpoints").iterdir())}
    found = {name: checkpoint["global_step"] for name, checkpoint in checkpoints.items()}
    assert {name: -float(c["state_dict"]["weight"]) for name, c in checkpoints.items()} == found
    return found


# Which state is kept under which name

KEPT = {
    "the last epoch": ([3.0, 2.0], {}, {"best": 2, "last": 2}),
    "an earlier one": ([3.0, 1.0, 2.0, 2.0], {}, {"best": 2, "last": 4}),
    "the largest value": ([1.0, 3.0, 2.0], {"mode": "max"}, {"best": 2, "last": 3}),
    "a nan": ([NAN, 2.0, NAN], {}, {"best": 2, "last": 3}),
    "minus infinity": ([-INF, 2.0, -INF], {}, {"best": 2, "last": 3}),
    "infinity": ([INF, 2.0, INF], {}, {"best": 2, "last": 3}),
    "infinity, the largest": ([INF, 2.0, INF], {"mode": "max"}, {"best": 2, "last": 3}),
    "no finite value": ([NAN, -INF, INF], {}, {"last": 3}),
    "the best two": (
        [3.0, 1.0, 4.0, 2.0, 5.0],
        {"save_top_k": 2},
        {"best": 2, "epoch_00002": 2, "epoch_00004": 4, "last": 5},
    ),
    "all": (
        [2.0, 3.0, 1.0],
        {"save_top_k": -1},
        {"best": 3, "epoch_00001": 1, "epoch_00002": 2, "epoch_00003": 3, "last": 3},
    ),
    "no such metric": ([3.0, 2.0], {"monitor": "val/loss"}, {"last": 2}),
}


@pytest.mark.parametrize(("losses", "options", "expected"), KEPT.values(), ids=KEPT)
def test_each_state_has_the_names_that_it_deserves(tmp_path, losses, options, expected):
    fit(tmp_path, losses, **options)
    assert steps(tmp_path) == expected
    inodes = {path.stat().st_ino for path in (tmp_path / "checkpoints").iterdir()}
    assert len(inodes) == len(expected)  # else overwriting one in place would change another


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
    plan = {"val_check_interval": 0.5, "max_epochs": 2}
    fit(tmp_path, {2: 3.0, 4: 1.0, 6: 2.0, 8: 4.0}, Validated, rows=4, plan=plan, save_top_k=-1)
    expected = {"best": 4, "epoch_00001": 4, "epoch_00002": 8, "last": 8, "step_00000002": 2, "step_00000006": 6}
    assert steps(tmp_path) == expected


def test_an_epoch_without_validation_is_no_candidate(tmp_path):
    losses = {2: 3.0, 4: 4.0}  # the loss of step 2 is still logged at step 3
    fit(tmp_path, losses, Validated, plan={"check_val_every_n_epoch": 2, "max_epochs": 5}, save_top_k=-1)
    assert steps(tmp_path) == {"best": 2, "epoch_00002": 2, "epoch_00004": 4, "last": 5}


@pytest.mark.parametrize("kind", [Falling, Validated])
def test_without_a_monitor_the_last_state_is_the_best(tmp_path, kind):
    for epochs, resume in ((2, None), (3, tmp_path / "checkpoints/last.ckpt")):
        fit(tmp_path, [1.0] * 4, kind, monitor=None, plan={"max_epochs": epochs}, ckpt_path=resume)
        assert steps(tmp_path) == {"best": epochs, "last": epochs}


def test_an_interrupted_fit_without_a_monitor_has_no_best_state_until_it_is_resumed_to_its_end(tmp_path):
    class Interrupted(Falling):
        def on_train_epoch_start(self):
            if self.current_epoch == 2:
                raise SystemExit

    with pytest.raises(SystemExit):
        fit(tmp_path, [1.0] * 4, Interrupted, monitor=None, plan={"max_epochs": 4})
    assert steps(tmp_path) == {"last": 2}
    fit(tmp_path, [1.0] * 4, monitor=None, ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert steps(tmp_path) == {"best": 4, "last": 4}


def test_a_monitor_that_validation_does_not_log_ends_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^expected nope \(checkpoint.monitor\) to be logged, got only: loss$"):
        fit(tmp_path, {1: 1.0}, Validated, monitor="nope")


def test_a_metric_of_the_whole_epoch_is_waited_for_after_a_validation_within_it(tmp_path):
    class Both(Validated):
        def training_step(self, batch, batch_idx):
            self.log("train", -float(self.current_epoch), on_step=False, on_epoch=True, batch_size=1)
            return self.weight

    plan = {"val_check_interval": 0.5, "max_epochs": 2}
    fit(tmp_path / "train", [1.0] * 9, Both, rows=4, monitor="train", plan=plan)
    assert steps(tmp_path / "train") == {"best": 8, "last": 8}
    with pytest.raises(ValueError, match="expected val/acc "):
        fit(tmp_path / "val", [1.0] * 9, Both, rows=4, monitor="val/acc", plan=plan)
    assert steps(tmp_path / "val") == {"last": 2}


@pytest.mark.parametrize("number", [None, 0])
def test_a_best_state_is_kept(number):
    with pytest.raises(ValueError, match=f"^expected save_top_k of at least 1.*, got {number}$"):
        RelocatableModelCheckpoint(save_top_k=number)


def test_a_dry_run_writes_nothing(tmp_path):
    fit(tmp_path, losses=[1.0], every_n_train_steps=1, plan={"fast_dev_run": True})
    assert list(tmp_path.iterdir()) == []


# Resumed


@pytest.mark.parametrize("save_top_k", [1, 2, -1])
def test_a_resumed_run_continues_from_the_best_so_far_also_after_a_move(tmp_path, save_top_k):
    losses = [3.0, 1.0, 2.0, 1.5]  # a worse epoch after a resume does not replace the best
    fit(tmp_path / "straight", losses, save_top_k=save_top_k)
    for epochs in (1, 2, 3):
        run, moved = tmp_path / f"run_{epochs}", tmp_path / f"moved_{epochs}"
        fit(run, losses, save_top_k=save_top_k, plan={"max_epochs": epochs})
        run.rename(moved)
        checkpoint = fit(moved, losses, save_top_k=save_top_k, ckpt_path=moved / "checkpoints/last.ckpt")
        assert steps(moved) == steps(tmp_path / "straight")
        assert checkpoint.best_model_path == str(moved / "checkpoints/best.ckpt")
        assert float(checkpoint.best_model_score) == 1
    one, two = (torch.load(run / "checkpoints/last.ckpt") for run in (tmp_path / "straight", tmp_path / "moved_2"))
    assert one["callbacks"] == two["callbacks"]
    assert not list(tmp_path.glob("run_*"))


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 2)])
def test_in_another_run_s_directory_the_best_starts_afresh(tmp_path, mode, best):
    fit(tmp_path / "run", [1.0])
    fit(tmp_path / "other", [0.0, 3.0, 4.0], ckpt_path=tmp_path / "run/checkpoints/last.ckpt", mode=mode)
    assert steps(tmp_path / "other") == {"best": best, "last": 3}


@pytest.mark.parametrize("change", [{"mode": "max"}, {"monitor": "other"}])
def test_a_best_state_that_was_chosen_otherwise_is_not_overwritten(tmp_path, change):
    fit(tmp_path, [1.0])
    expected = (
        r"best.ckpt of this run was chosen by monitor loss \(min\), the options say (loss \(max|other \(min)\): give"
    )
    with pytest.raises(ValueError, match=expected):
        fit(tmp_path, [0.0, 3.0], ckpt_path=tmp_path / "checkpoints/last.ckpt", **change)
    assert steps(tmp_path) == {"best": 1, "last": 1}


def test_a_checkpoint_that_has_forgotten_the_best_state_is_refused_in_its_own_run_alone(tmp_path):
    fit(tmp_path / "run", [1.0])
    last = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["callbacks"]["RelocatableModelCheckpoint"]
    torch.save(checkpoint, last)
    for monitor in ("loss", "auto"):
        with pytest.raises(ValueError, match=r"best.ckpt of this run was chosen by monitor auto \(None\), the options"):
            fit(tmp_path / "run", [0.0, 3.0], ckpt_path=last, monitor=monitor)
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


@pytest.fixture
def fit_with_own(cli, tmp_path):
    """`fit_with_own(run, epochs, ...)` fits with a ModelCheckpoint of Lightning's beside ours."""

    def fit(run, epochs, *resume):
        keeper = {"monitor": "val/loss", "filename": "own-{epoch}", "dirpath": str(run / "checkpoints")}
        callbacks = json.dumps([{"class_path": "ModelCheckpoint", "init_args": keeper}])
        off = ("--trainer.logger", "false", "--trainer.enable_progress_bar", "false")
        place = ("--trainer.default_root_dir", run, "--trainer.callbacks", callbacks, "--trainer.max_epochs", epochs)
        cli("fit", "--config", "configs/iris_ova.yaml", *off, *place, *resume)
        return run / "checkpoints/last.ckpt"

    return fit


@pytest.mark.parametrize("name", ["../../notes.txt", "ABSOLUTE"])
def test_a_path_in_a_checkpoint_deletes_no_file_elsewhere(fit_with_own, tmp_path, name):
    """Lightning's ModelCheckpoint deletes the files that its state names as no longer among the best."""
    run, notes = tmp_path / "run", tmp_path / "notes.txt"
    notes.write_text("mine")
    last = fit_with_own(run, 1)
    checkpoint = torch.load(last, weights_only=True)
    [state] = [state for key, state in checkpoint["callbacks"].items() if key.startswith("ModelCheckpoint")]
    victim = str(notes) if name == "ABSOLUTE" else str(run / "checkpoints" / name)
    state |= {"best_k_models": {victim: torch.tensor(9.0)}, "kth_best_model_path": victim, "best_model_path": victim}
    torch.save(checkpoint, last)
    fit_with_own(run, 2, "--ckpt_path", last)
    assert notes.read_text() == "mine"


def test_another_model_checkpoint_of_a_moved_run_goes_on_with_its_best(fit_with_own, tmp_path):
    fit_with_own(tmp_path / "before", 2)
    (tmp_path / "before").rename(tmp_path / "after")
    fit_with_own(tmp_path / "after", 3, "--ckpt_path", tmp_path / "after/checkpoints/last.ckpt")
    assert {path.name for path in (tmp_path / "after/checkpoints").glob("own-*")} == {"own-epoch=2.ckpt"}
