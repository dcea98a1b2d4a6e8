"""A search is no worse than the config, goes on where it stopped, and ends in a config that `fit` takes."""

import re
import subprocess
import sys

import lightning as L
import pytest
import torch
import yaml
from jsonargparse import ArgumentError

from cli.errors import one_line
from datamodules.splits import stratified_folds
from selection import tune
from selection.configured import Configured
from selection.sample import Fold, Sample
from tests.selection.helpers import read_csv

optuna = pytest.importorskip("optuna")
# Optuna leaves closing its database to the collector.
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")
SHORT = ("--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "4", "--trainer.callbacks", "null")


@pytest.fixture
def tuned(tmp_path):
    """`tuned("--trials", "3")`: lines of trials.csv, and the folder they are in."""
    pytest.importorskip("datamodules.table.iris")

    def run(*options):
        tune.main([*SHORT, "--folds", "2", "--minutes", "5", "--trainer.default_root_dir", str(tmp_path), *options])
        [folder] = tmp_path.glob("tuning_*")
        return read_csv(folder / "trials.csv"), folder

    return run


@pytest.fixture
def scripted(monkeypatch):
    """`scripted(losses)`: fits of Iris are replaced by folds of these losses, so that only the search is tested."""

    def use(*losses):
        answers = iter(losses)

        def judge(sample, seen, held_out):
            if isinstance(answer := next(answers), BaseException):
                raise answer
            return Fold(None, None, {"nll": answer, "accuracy": -answer})

        monkeypatch.setattr(Sample, "judge", judge)

    return use


def test_the_config_comes_first_and_the_best_trial_becomes_a_config_that_fit_takes(tuned, cli, capsys, tmp_path):
    lines, folder = tuned("--trials", "3")
    own = {"model.l2": 0.001, "model.optimizer.lr": 0.5, "model.class_weight": "none"}
    assert {name: type(value)(lines[0][name]) for name, value in own.items()} == own
    assert [line["trial"] for line in lines] == ["0", "1", "2"]
    best = min((line for line in lines if line["state"] == "complete"), key=lambda line: float(line["nll"]))
    assert float(best["nll"]) < float(lines[0]["nll"])  # four epochs are few at the config's rate
    config = yaml.safe_load((folder / "iris_binary_tuned.yaml").read_text())
    options = config["model"]["init_args"]
    assert options["l2"] == pytest.approx(float(best["model.l2"]))
    assert options["optimizer"]["init_args"]["lr"] == pytest.approx(float(best["model.optimizer.lr"]))
    printed = capsys.readouterr().out
    assert f"nll {float(best['nll']):.4f} instead of {float(lines[0]['nll']):.4f}" in printed
    place = f"--trainer.default_root_dir {tmp_path}"
    assert f"python train.py fit --config {folder / 'iris_binary_tuned.yaml'} {place}\n" in printed
    cli("fit", "--config", folder / "iris_binary_tuned.yaml", "--trainer.default_root_dir", tmp_path / "run")
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    # A trial's value is what cross-validation finds with its options.
    sample = Sample(Configured([*SHORT, *(word for name in own for word in (f"--{name}", best[name]))]), "train", "val")
    found = [sample.judge(seen, rows).metrics["nll"] for seen, rows in stratified_folds(sample.names, 2, seed=42)]
    assert float(best["nll"]) == pytest.approx(sum(found) / 2)


def test_the_same_command_goes_on_and_other_rows_or_options_are_a_search_of_their_own(tuned, scripted, tmp_path):
    scripted(*[0.5] * 6)
    first, _ = tuned("--trials", "3")
    scripted(*[0.4] * 4)
    second, folder = tuned("--trials", "5")
    assert second[:3] == first
    assert len({line["model.l2"] for line in second}) == 5  # the sampler does not begin anew
    tuned("--trials", "4")  # there are five already
    scripted(0.5, 0.5)
    with pytest.raises(ValueError, match="unpack"):
        tuned("--trials", "1", "--data.seed", "2")
    assert {path.name for path in tmp_path.glob("tuning_*")} > {folder.name}


@pytest.mark.parametrize(
    ("losses", "expected", "error"),
    [
        ((*[0.3] * 8, 0.9, *[0.3] * 2), [*["complete 2"] * 4, "pruned 1", "complete 2"], ""),
        ((*[0.3] * 2, ValueError("it diverged"), *[0.3] * 2), ["complete 2", "pruned 0", "complete 2"], "it diverged"),
    ],
    ids=["behind the median of those before", "cannot be fitted"],
)
def test_a_trial_that_is_no_better_neither_ends_the_search_nor_replaces_the_config(
    tuned, scripted, capsys, losses, expected, error
):
    scripted(*losses)
    lines, folder = tuned("--trials", str(len(expected)))
    assert [f"{line['state']} {line['folds']}" for line in lines] == expected
    assert [line["error"] for line in lines if line["error"]] == ([error] if error else [])
    assert "nll 0.3000 as before: nothing better was found" in capsys.readouterr().out
    assert not (folder / "iris_binary_tuned.yaml").exists()


def test_a_config_that_cannot_be_fitted_ends_in_its_own_error_and_a_bug_keeps_its_traceback(tuned, scripted):
    scripted(ValueError("the fit diverged"))
    with pytest.raises(ValueError, match="the fit diverged"):
        tuned("--trials", "3")
    scripted(0.5, 0.5, KeyError("a bug"))
    with pytest.raises(KeyError, match="a bug"):
        tuned("--trials", "3")


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tuned, scripted, tmp_path, capsys):
    scripted(KeyboardInterrupt())
    with pytest.raises(ValueError, match="no trial was completed"):
        tuned("--trials", "9")
    scripted(0.5, 0.5, 0.4, 0.4, 0.3, KeyboardInterrupt())
    with pytest.raises(SystemExit) as stop:
        tuned("--trials", "9")
    assert stop.value.code == 130
    [folder] = tmp_path.glob("tuning_*")
    lines = read_csv(folder / "trials.csv")
    assert [line["state"] for line in lines] == ["fail", "complete", "complete", "fail"]
    assert lines[0]["model.l2"] == lines[1]["model.l2"] == "0.001"  # the config comes first again
    assert "nll 0.4000 instead of 0.5000" in capsys.readouterr().out
    scripted(*[0.4] * 2)
    assert [line["state"] for line in tuned("--trials", "3")[0]][3:] == ["fail", "complete"]


def test_time_ends_a_fit_in_its_midst(tuned):
    with pytest.raises(ValueError, match="no trial was completed: give more time with --minutes"):
        tuned("--minutes", "0.0001")


def test_a_damaged_file_of_trials_is_refused_in_one_line_and_left_as_it_is(tuned, scripted):
    scripted(0.5, 0.5)
    _, folder = tuned("--trials", "1")
    (folder / "study.db").write_text("no database")
    with pytest.raises(ValueError, match=r"study.db: expected the trials of a search, got .*; remove it to begin anew"):
        tuned("--trials", "2")
    assert (folder / "study.db").read_text() == "no database"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--minutes", "0"), "minutes.*does not conform to restriction v>0, got 0"),
        (("--trials", "0"), "trials.*restriction v>0.*got 0"),
        (("--metric", "share"), "--metric share: expected --mode min or max"),
        (("--folds", "1"), "folds must be at least 2, got 1"),
    ],
)
def test_an_impossible_search_is_refused_in_one_line(tuned, options, message, tmp_path):
    with pytest.raises((ValueError, ArgumentError)) as refused:
        tuned(*options)
    assert re.search(message, one_line(refused.value))
    assert list(tmp_path.iterdir()) == []


def test_any_metric_of_validate_is_searched_and_another_is_refused_with_those_there_are(tuned):
    lines, _ = tuned("--trials", "2", "--metric", "val/auroc")
    assert all(0 < float(line["auroc"]) <= 1 for line in lines if line["state"] == "complete")
    assert lines[0]["state"] == "complete"
    with pytest.raises(ValueError, match=r"--metric: expected one of accuracy, auroc, .*, got aurocc"):
        tuned("--trials", "2", "--metric", "aurocc", "--mode", "max", "--seed_everything", "1")


def test_a_missing_optuna_is_named_with_the_command_that_brings_it(tuned, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'needs Optuna: pip install -e "\.\[tune\]"'):
        tuned()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_searches_at_once_share_one_file_of_trials(tmp_path):
    pytest.importorskip("datamodules.table.iris")
    command = [sys.executable, "-m", "selection.tune", "--config", "configs/iris_binary.yaml", "--folds", "2"]
    command += ["--trainer.max_epochs", "3", "--trials", "6", "--trainer.default_root_dir", str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    printed = [search.communicate(timeout=300)[0] for search in both]
    assert [search.returncode for search in both] == [0, 0], printed
    [folder] = tmp_path.glob("tuning_*")
    lines = read_csv(folder / "trials.csv")
    assert 6 <= len([line for line in lines if line["state"] in ("complete", "pruned")]) <= 7


# A search space in a file


SPACE = """
model.optimizer: [SGD, Adam]
model.optimizer.lr: {low: 0.001, high: 1.0, log: true}
data.batch_size: {low: 8, high: 32, step: 8}
seed_everything: [1, 2]
"""


@pytest.fixture
def swept(tmp_path, tuned):
    """`swept(SPACE, "--trials", "3")` is `tuned` with a search space."""

    def run(space, *options):
        file = tmp_path / "space.yaml"
        file.write_text(space)
        return tuned("--space", str(file), *options)

    return run


def test_a_space_in_a_file_has_any_options_and_the_best_become_a_config(swept):
    lines, folder = swept(SPACE, "--trials", "3")
    assert len(lines) == 3
    config = yaml.safe_load((folder / "iris_binary_tuned.yaml").read_text())
    best = min((line for line in lines if line["state"] == "complete"), key=lambda line: float(line["nll"]))
    optimizer = config["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"].rpartition(".")[2] == best["model.optimizer"]
    assert optimizer["init_args"]["lr"] == pytest.approx(float(best["model.optimizer.lr"]))
    assert config["data"]["init_args"]["batch_size"] == int(best["data.batch_size"])
    assert config["seed_everything"] == int(best["seed_everything"])


def test_a_grid_has_every_combination_once_and_goes_on_after_ctrl_c(swept, scripted):
    grid = ("model.l2: [0, 0.1]\nseed_everything: [1, 2]", "--grid", "true")
    scripted(0.5, 0.5, KeyboardInterrupt())
    with pytest.raises(SystemExit):
        swept(*grid)
    scripted(*[0.4] * 6)
    lines, _ = swept(*grid)
    done = [(line["model.l2"], line["seed_everything"]) for line in lines if line["state"] == "complete"]
    assert sorted(done) == [("0", "1"), ("0", "2"), ("0.1", "1"), ("0.1", "2")]
    scripted()
    assert swept(*grid)[0] == lines


class Mine(L.LightningModule):
    """One number, which the validation logs as it is; training does not change it."""

    def __init__(self, start: float, depth: int = 1):
        super().__init__()
        self.start, self.layer = start + depth, torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("share", self.start / (self.current_epoch + 1))
        self.log("val_loss", self.start - 3 + self.current_epoch if self.start < 100 else float("nan"))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class MyData(L.LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)

    val_dataloader = train_dataloader


@pytest.fixture
def swept_of_mine(tmp_path):
    def run(space, *options):
        (tmp_path / "space.yaml").write_text(space)
        own = ("--model", f"{__name__}.Mine", "--model.start", "0", "--data", f"{__name__}.MyData")
        place = ("--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "3")
        tune.main([*own, *place, "--space", str(tmp_path / "space.yaml"), *options])
        [folder] = tmp_path.glob("tuning_*")
        return read_csv(folder / "trials.csv")

    return run


def test_a_module_of_ones_own_is_judged_by_the_best_validation_of_one_fit(swept_of_mine):
    lines = swept_of_mine("model.start: {low: 1.0, high: 2.0}\nmodel.depth: {low: 2, high: 5}", "--trials", "4")
    for line in lines:
        if line["state"] == "complete":
            assert float(line["val_loss"]) == pytest.approx(float(line["model.start"]) + int(line["model.depth"]) - 3)
            assert line["validations"] == "3"
    assert len(lines) == 4


def test_the_metric_and_its_mode_may_be_named(swept_of_mine, capsys):
    lines = swept_of_mine("model.start: [1.0, 2.0]", "--grid", "true", "--metric", "share", "--mode", "max")
    assert sorted(float(line["share"]) for line in lines) == [2, 3]
    assert "share 3.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ("model.startt: [1]", (), "model: Option 'startt' is not accepted"),
        (
            "model.start: 3",
            (),
            "space.yaml: model.start: expected a list of values, or a map of .*, got 3",
        ),
        ("model.start: {low: 3}", (), "space.yaml: model.start: expected a list"),
        ("- model.start", (), "space.yaml: .*expected a map of options"),
        ("model.start: [a, b]", (), "model: start: Expected a float, got"),
        ("model.start: {low: 1, high: 2}", ("--grid", "true"), "--grid: expected lists .* got a range of model.start"),
        ("model.start: [1]", ("--metric", "share"), "--metric share: expected --mode min or max"),
        ("model.start: [1]", ("--metric", "losses"), "--metric: expected one of .*share.*val_loss, got losses"),
        ("model.start: [100]", ("--trials", "1"), "no trial was completed: val_loss is nan"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_line(swept_of_mine, space, options, message):
    with pytest.raises((ValueError, ArgumentError)) as refused:
        swept_of_mine(space, *options)
    assert re.search(message, one_line(refused.value))
