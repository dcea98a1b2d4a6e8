"""A fit that is not profiled does all that Lightning's default lets it do, and a profiler that is asked for works."""

import lightning as L
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.run.no_profiler import NoProfiler

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def weights(profiler):
    L.seed_everything(1, verbose=False)
    model = BoringModel()
    L.Trainer(**QUIET, accelerator="cpu", max_steps=5, limit_val_batches=0, profiler=profiler).fit(model)
    return torch.nn.utils.parameters_to_vector(model.parameters())


def test_actions_within_actions_run_and_errors_pass():
    profiler, done = NoProfiler(), []
    with profiler.profile("outer"), profiler.profile("inner"):
        done.append(1)
    try:
        with profiler.profile("failing"):
            raise KeyError
    except KeyError:
        done.append(2)
    assert done == [1, 2]


def test_a_fit_learns_what_it_learns_under_lightnings_own():
    assert torch.equal(weights(NoProfiler()), weights(None))


def test_a_profiler_that_the_user_asks_for_is_used(cli, tmp_path):
    config = ("--config", "configs/xor.yaml", "--trainer.callbacks", "null", "--trainer.max_epochs", 1)
    profiler = (
        "--trainer.profiler",
        "lightning.pytorch.profilers.SimpleProfiler",
        "--trainer.profiler.dirpath",
        tmp_path,
    )
    where = ("--trainer.profiler.filename", "profile", "--trainer.default_root_dir", tmp_path / "run")
    cli("fit", *config, *profiler, *where)
    assert "run_training_epoch" in (tmp_path / "fit-profile.txt").read_text()
