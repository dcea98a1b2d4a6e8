"""A search is no worse than the config, goes on where it stopped, and ends in a config that `fit` takes."""

import csv
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from jsonargparse import ArgumentError

from cli.errors import one_line
from cli.links import fill_open_options
from datamodules.splits import stratified_folds
from selection import tune
from selection.configured import Configured, as_text
from selection.sample import Fold, Sample
from selection.tune import CHARS, as_arguments, search_space

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings(
    "default::ResourceWarning"
)  # Optuna leaves closing its database to the collector


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tuned(tmp_path):
    """`tuned("--trials", "3")`: lines of trials.csv, and the folder they are in."""
    pytest.importorskip("datamodules.table.iris")

    def run(*options):
        short = ("--trainer.max_epochs", "4", "--trainer.callbacks", "null", "--folds", "2", "--minutes", "5")
        place = ("--trainer.default_root_dir", str(tmp_path))
        tune.main(["--config", "configs/iris_binary.yaml", *short, *place, *options])
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
    assert f"python train.py fit --config {folder / 'iris_binary_tuned.yaml'}" in printed
    cli("fit", "--config", folder / "iris_binary_tuned.yaml", "--trainer.default_root_dir", tmp_path / "run")
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_a_trials_value_is_what_cross_validation_finds_with_its_options(tuned):
    lines, _ = tuned("--trials", "2")
    line = [line for line in lines if line["state"] == "complete"][-1]
    names = ("model.l2", "model.optimizer.lr", "model.class_weight")
    options = [word for name in names for word in (f"--{name}", line[name])]
    short = ("--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "4")
    sample = Sample(Configured([*short, *options]), "train", "val")
    found = [sample.judge(*fold).metrics["nll"] for fold in stratified_folds(sample.names, 2, seed=42)]
    assert float(line["nll"]) == pytest.approx(sum(found) / 2)


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


def test_a_search_that_finds_nothing_better_keeps_the_config(tuned, scripted, capsys):
    scripted(0.3, 0.3, 0.5, 0.5, 0.4, 0.4)
    _, folder = tuned("--trials", "3")
    assert "nll 0.3000 as before: nothing better was found" in capsys.readouterr().out
    assert yaml.safe_load((folder / "iris_binary_tuned.yaml").read_text())["model"]["init_args"]["l2"] == 0.001


def test_a_trial_behind_the_median_of_those_before_ends_after_the_fold_that_shows_it(tuned, scripted):
    scripted(*[0.5] * 8, 0.9, *[0.4] * 2)
    lines, _ = tuned("--trials", "6")
    assert [(line["state"], line["folds"]) for line in lines[3:]] == [
        ("complete", "2"),
        ("pruned", "1"),
        ("complete", "2"),
    ]


def test_a_trial_that_cannot_be_fitted_does_not_end_the_search_and_its_reason_is_written(tuned, scripted):
    scripted(0.5, 0.5, ValueError("the fit diverged"), 0.4, 0.4)
    lines, _ = tuned("--trials", "3")
    assert [line["state"] for line in lines] == ["complete", "pruned", "complete"]
    assert lines[1]["error"] == "the fit diverged"


def test_a_config_that_cannot_be_fitted_ends_in_its_own_error_and_a_bug_keeps_its_traceback(tuned, scripted):
    scripted(ValueError("the fit diverged"))
    with pytest.raises(ValueError, match="the fit diverged"):
        tuned("--trials", "3")
    scripted(0.5, 0.5, KeyError("a bug"))
    with pytest.raises(KeyError, match="a bug"):
        tuned("--trials", "3")


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tuned, scripted, tmp_path, capsys):
    scripted(0.5, 0.5, 0.4, 0.4, 0.3, KeyboardInterrupt())
    with pytest.raises(SystemExit) as stop:
        tuned("--trials", "9")
    assert stop.value.code == 130
    [folder] = tmp_path.glob("tuning_*")
    assert [line["state"] for line in read_csv(folder / "trials.csv")] == ["complete", "complete", "fail"]
    assert "nll 0.4000 instead of 0.5000" in capsys.readouterr().out
    scripted(*[0.4] * 2)
    assert [line["state"] for line in tuned("--trials", "3")[0]][2:] == ["fail", "complete"]


def test_a_search_that_was_stopped_in_its_first_trial_begins_with_the_config_again(tuned, scripted):
    scripted(KeyboardInterrupt())
    with pytest.raises(ValueError, match="no trial was completed"):
        tuned("--trials", "2")
    scripted(0.5, 0.5)
    lines, _ = tuned("--trials", "1")
    assert [line["state"] for line in lines] == ["fail", "complete"]
    assert lines[1]["model.l2"] == "0.001"


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
        (("--minutes", "0"), "minutes.* 0 does not conform to restriction v>0"),
        (("--trials", "0"), "trials.*restriction v>0.*got 0"),
        (("--metric", "loss"), "metric.*'nll', 'accuracy', 'macro_f1'.*loss"),
        (("--folds", "1"), "folds must be at least 2, got 1"),
    ],
)
def test_an_impossible_search_is_refused_in_one_line(tuned, options, message, tmp_path):
    with pytest.raises((ValueError, ArgumentError)) as refused:
        tuned(*options)
    assert re.search(message, one_line(refused.value))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_optuna_is_named_with_the_command_that_brings_it(tuned, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'needs Optuna: pip install -e "\.\[tune\]"'):
        tuned()
    assert list(tmp_path.iterdir()) == []


# What is searched


def arguments_of(config, *options):
    """Those of the configuration with what it leaves open, as a search gives them to each trial."""
    if not Path(f"configs/{config}.yaml").is_file():
        pytest.skip("the config was deleted with its task (docs/template.md)")
    arguments = ["--config", f"configs/{config}.yaml", *options]
    configured = Configured(arguments)
    if config != "text_csv":
        return arguments
    filled = fill_open_options(configured.config.clone(), configured.build()[1])
    return [*arguments, *(f"--{name}={as_text(value)}" for name, value in filled.items())]


def space_of(config, *options):
    parsed = Configured(arguments_of(config, *options)).config
    space = search_space(parsed, num_rows=100)
    return space, {name: own for name, (own, _) in space.items()}, parsed


def test_texts_have_n_grams_of_words_and_of_characters():
    space, own, _ = space_of("text_csv")
    assert set(space) == {
        *("model.l2", "model.lr", "model.class_weight"),
        *("data.feature_dropout", "data.words.ngram_range", "data.chars"),
    }
    assert space["data.chars"][1] == [own["data.chars"], "null", CHARS]
    assert own["data.words.ngram_range"] == "[1, 2]"
    chars = ("--data.words", "null", "--data.chars", "{analyzer: char, ngram_range: [1, 5]}")
    space, own, _ = space_of("text_csv", *chars)
    assert "data.chars" not in space and "data.words.ngram_range" not in space
    assert space["data.chars.ngram_range"][1][0] == own["data.chars.ngram_range"] == "[1, 5]"


def test_a_network_has_the_rate_and_the_penalty_of_its_optimizer():
    assert set(space_of("xor_mlp")[0]) == {"model.optimizer.lr", "model.optimizer.weight_decay"}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("text_csv", ()),
        ("text_csv", ("--model.class_weight", "balanced", "--data.chars", "{analyzer: char, norm: null}")),
        ("table_csv", ()),
        ("iris_ova", ("--model.class_weight", "[1, 2, 3]")),
        ("xor_mlp", ()),
    ],
)
def test_the_configured_values_are_in_the_space_and_added_to_the_command_line_change_nothing(config, options):
    space, own, parsed = space_of(config, *options)
    for value, of in space.values():
        assert value in of if isinstance(of, list) else of[0] <= value <= of[1]
    again = Configured([*arguments_of(config, *options), *as_arguments(own, space)]).config
    assert (again.model, again.data) == (parsed.model, parsed.data)


def test_no_penalty_is_the_lowest_of_the_space_and_stays_none():
    space, own, _ = space_of("iris_ova", "--model.l2", "0")
    assert own["model.l2"] == space["model.l2"][1][0] > 0
    assert as_arguments({"model.l2": own["model.l2"]}, space) == ["--model.l2", "0"]
    space, own, _ = space_of("iris_ova", "--model.l2", "1e-12")
    assert as_arguments({"model.l2": own["model.l2"]}, space) == ["--model.l2", "1e-12"]


def test_a_model_without_any_such_option_has_nothing_to_search():
    config = SimpleNamespace(get=lambda name: None)
    with pytest.raises(ValueError, match="with an option to tune"):
        search_space(config, num_rows=100)


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
