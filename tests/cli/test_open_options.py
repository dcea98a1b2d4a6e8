"""Options that a configuration leaves open: they follow from the training rows, once, and config.yaml keeps them."""

import csv
import json

import pytest
import yaml

import datamodules.text.tfidf as tfidf

CONFIG = "configs/text_csv.yaml"
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
OPEN = (
    *(("data", name) for name in ("batch_size", "words", "chars")),
    *(("model", "lr"), ("trainer", "max_epochs")),
)


def options(run):
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def value(config, section, name):
    return config[section].get("init_args", config[section])[name]


@pytest.fixture(scope="module")
def run(cli, tmp_path_factory):
    """A fit of two of its epochs, so that there is more to go on with."""
    folder = tmp_path_factory.mktemp("open") / "run"
    cli("fit", "--config", CONFIG, *QUIET, "--trainer.limit_val_batches", 0, "--checkpoint.monitor", "null",
        "--trainer.callbacks", "null", "--trainer.max_steps", 2, "--trainer.default_root_dir", folder)  # fmt: skip
    return folder


def test_config_yaml_has_what_they_came_to(run):
    found = options(run)
    assert all(value(found, *place) is not None for place in OPEN)
    assert value(found, "data", "preset") is None
    assert value(found, "model", "lr") == 85.3  # of four labels
    assert value(found, "data", "chars")["analyzer"] == "char_wb"


@pytest.mark.parametrize("by", ["its own config.yaml", "the configuration it began with"])
def test_a_resume_never_chooses_again(cli, run, monkeypatch, by, tmp_path):
    before = (run / "config.yaml").read_text(encoding="utf-8")
    another = {"refit": False, "data.batch_size": 7, "model.lr": 3.0, "trainer.max_epochs": 2}
    monkeypatch.setattr(tfidf, "recipe", lambda *of: another)  # as a later version may have it
    config = run / "config.yaml" if by == "its own config.yaml" else CONFIG
    as_before = ("--trainer.limit_val_batches", 0, "--checkpoint.monitor", "null", "--trainer.callbacks", "null")
    where = ("--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.max_steps", 3)
    cli("fit", "--config", config, *QUIET, *as_before, *where)
    after = options(run)
    assert after == {**yaml.safe_load(before), "trainer": {**yaml.safe_load(before)["trainer"], "max_steps": 3}}


def test_neither_a_refit_nor_folds_choose_again(cli, tmp_path, monkeypatch):
    pytest.importorskip("selection.sample")
    seen = []
    recipe = tfidf.recipe

    def counted(*of):
        seen.append(of)
        return recipe(*of) | {"model.lr": 50.0 + len(seen)}

    monkeypatch.setattr(tfidf, "recipe", counted)
    run = tmp_path / "run"
    cli("fit", "--config", CONFIG, *QUIET, "--trainer.max_epochs", 2, "--trainer.default_root_dir", run,
        "--refit", "folds")  # fmt: skip
    assert value(options(run), "model", "lr") == value(options(run / "version_0"), "model", "lr") == 51
    for section, name in OPEN[:-1]:
        assert value(options(run), section, name) == value(options(run / "version_0"), section, name)


def test_what_is_given_counts_and_without_a_refit_there_is_one_run(cli, tmp_path, capsys):
    given = {"data.batch_size": 16, "model.lr": 5.0, "data.feature_dropout": 0.0, "trainer.max_epochs": 1}
    words = ("--data.words.ngram_range", "[1, 2]", *(f"--{name}={value}" for name, value in given.items()))
    cli("fit", "--config", CONFIG, *QUIET, *words, "--trainer.default_root_dir", tmp_path / "run")
    found = options(tmp_path / "run")
    assert {name: value(found, *name.split(".")) for name in given} == given
    assert value(found, "data", "chars") is None
    assert list(value(found, "data", "words")["ngram_range"]) == [1, 2]
    assert not list((tmp_path / "run").glob("version_*"))
    cli("test", "--config", CONFIG, *words, "--ckpt_path", "best", "--trainer.default_root_dir", tmp_path / "run")
    assert "took no part" not in capsys.readouterr().out


def test_the_second_fit_is_the_default_and_best_is_its_model(cli, tmp_path, capsys):
    run = tmp_path / "run"
    short = ("--trainer.max_epochs", 3, "--trainer.default_root_dir", run)
    cli("fit", "--config", CONFIG, *QUIET, *short, "--refit", "auto")
    shown = capsys.readouterr().out
    assert "now again on training and validation rows: " in shown
    assert "--refit false leaves this out" in shown
    assert "the second fit took " in shown
    cli("test", "--config", CONFIG, "--ckpt_path", "best", "--trainer.default_root_dir", run)
    found = json.loads((run / "version_0/data_report.json").read_text())
    rows = found["train"]["rows"]
    assert f"trained on {rows} training and validation rows; the test rows took no part" in capsys.readouterr().out
    assert rows + found["test"]["rows"] == 102


@pytest.mark.parametrize(("config", "option"), [(CONFIG, "fast_dev_run"), ("configs/xor.yaml", "max_epochs")])
def test_where_a_second_fit_is_impossible_auto_leaves_it_out(cli, tmp_path, config, option):
    place = ("--refit", "auto", "--trainer.default_root_dir", tmp_path / "run")
    cli("fit", "--config", config, *QUIET, f"--trainer.{option}", 1, *place)
    assert not list((tmp_path / "run").glob("version_*"))


def test_chinese_is_taken_by_characters_with_one_line_that_tells(cli, tmp_path, capsys):
    things = "雨雪风霜雾云"
    rows = [(f"{day}会有{thing}吗", "天气") for day in ("今天", "明天", "后天") for thing in things]
    rows += [(f"请{verb}一首{kind}歌", "音乐") for verb in ("播放", "放", "来") for kind in "老新慢快情民"]
    with open(tmp_path / "zh.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    place = ("--data.train_file", tmp_path / "zh.csv", "--trainer.default_root_dir", tmp_path / "run")
    cli("fit", "--config", CONFIG, *QUIET, *place, "--refit", "auto")
    said = capsys.readouterr().err
    assert said.count("note: texts without spaces between words: n-grams of characters, in place of words") == 1
    assert "warning" not in said
    assert value(options(tmp_path / "run"), "data", "words") is None
    cli("test", "--config", CONFIG, "--ckpt_path", "best", *place)
    assert json.loads((tmp_path / "run/test_metrics.json").read_text())["test/accuracy"] > 0.8
