"""A run goes on as itself: with its own data options, in its own directory, once at a time."""

import json

import pytest
import yaml

QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary")
QUIET += ("false", "--trainer.logger", "false")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(cli, *arguments):
    """The one line that a command ends in."""
    with pytest.raises(SystemExit) as exit:
        cli(*arguments)
    assert str(exit.value.code).startswith("error: ")
    assert "\n" not in exit.value.code
    return exit.value.code


def fit(cli, config, run, *options, epochs=1):
    cli("fit", "--config", config, *QUIET, "--trainer.max_epochs", epochs, "--trainer.default_root_dir", run, *options)
    return run


# Options of the data that are part of what was learned

TEXT, TABLE, CHARS = "configs/text_csv.yaml", "configs/table_csv.yaml", "{analyzer: char, ngram_range: [1, 2]}"
NO_WORDS = ("--data.words", "null", "--data.chars", CHARS)
UNLIKE = [
    (TEXT, (), ("--data.words.min_df", 2), "words.min_df 1, the configuration asks for 2"),
    (TEXT, (), ("--data.oos_label", "null"), "oos_label other, the configuration asks for None"),
    (TABLE, (), ("--data.feature_columns", "[age, months]"), "feature_columns None"),
    (TABLE, (), ("--data.categorical_columns", "[months]"), "categorical_columns ['months']"),
]
MORE = [
    (TEXT, (), ("--data.words.ngram_range", "[1, 1]"), "words.ngram_range (1, 2), the configuration asks for (1, 1)"),
    (TEXT, (), ("--data.chars", CHARS), "chars null, the configuration asks for n-grams"),
    (TEXT, ("--data.chars", CHARS), NO_WORDS, "words n-grams, the configuration asks for null"),
    (TEXT, (), ("--data.preset", "words"), "words.sublinear_tf False, the configuration asks for True"),
    (TABLE, ("--data.feature_columns", "[age, months]"), (), "feature_columns ['age', 'months']"),
    (TABLE, ("--data.feature_columns", "[age, town]"), ("--data.feature_columns", "[town, age]"), "['town', 'age']"),
    (TABLE, (), ("--data.id_columns", "[months]"), "id_columns ['months']"),
]
UNLIKE += [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]


@pytest.mark.parametrize(("config", "before", "now", "said"), UNLIKE)
def test_a_resume_with_other_features_is_refused_and_the_config_still_describes_the_model(
    cli, tmp_path, config, before, now, said
):
    run = fit(cli, config, tmp_path / "run", *before)
    files = contents(run)
    last = ("--ckpt_path", run / "checkpoints/last.ckpt")
    arguments = ("fit", "--config", config, *QUIET, "--trainer.max_epochs", 2, *last)
    for place in (run, tmp_path / "other"):
        line = refused(cli, *arguments, "--trainer.default_root_dir", place, *(now or ("--data.seed", "null")))
        assert "the checkpoint was trained with" in line
        assert said in line
        assert "config.yaml" in line
    assert contents(tmp_path) == files
    fit(cli, run / "config.yaml", run, *last, epochs=2)
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 2


def test_a_resume_may_name_the_columns_that_the_run_has_found(cli, tmp_path):
    run = fit(cli, TABLE, tmp_path)
    named = ("--data.feature_columns", "[age, months, plan, town]")
    fit(cli, TABLE, run, *named, "--ckpt_path", run / "checkpoints/last.ckpt", epochs=2)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["feature_columns"] == [
        *("age", "months", "plan", "town")
    ]


def test_any_features_may_be_configured_to_evaluate_a_checkpoint(cli, tmp_path):
    run = fit(cli, TEXT, tmp_path)
    cli("test", "--config", TEXT, "--data.words.min_df", 2, "--ckpt_path", run / "checkpoints/last.ckpt")
    assert "test/accuracy" in json.loads((run / "test_metrics.json").read_text())
