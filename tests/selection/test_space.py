"""What a search without a file varies: the options that a config has, around its own values."""

from types import SimpleNamespace

import pytest

from cli.links import fill_open_options
from selection.configured import Configured, as_text
from selection.space import CHARS, as_arguments, default_space
from tests.selection.helpers import config_file


def arguments_of(config, *options):
    """Those of the configuration with what it leaves open, as a search gives them to each trial."""
    arguments = ["--config", config_file(config), *options]
    configured = Configured(arguments)
    filled = fill_open_options(configured.config.clone(), configured.build()[1]) if config == "text_csv" else {}
    return [*arguments, *(f"--{name}={as_text(value)}" for name, value in filled.items())]


def space_of(config, *options):
    parsed = Configured(arguments_of(config, *options)).config
    own, space = default_space(parsed, num_rows=100)
    return space, own, parsed


def test_texts_have_n_grams_of_words_and_of_characters():
    space, own, _ = space_of("text_csv")
    assert set(space) == {
        *("model.l2", "model.lr", "model.class_weight"),
        *("data.feature_dropout", "data.words.ngram_range", "data.chars"),
    }
    assert space["data.chars"] == [own["data.chars"], "null", CHARS]
    assert own["data.words.ngram_range"] == "[1, 2]"
    chars = ("--data.words", "null", "--data.chars", "{analyzer: char, ngram_range: [1, 5]}")
    space, own, _ = space_of("text_csv", *chars)
    assert "data.chars" not in space and "data.words.ngram_range" not in space
    assert space["data.chars.ngram_range"][0] == own["data.chars.ngram_range"] == "[1, 5]"


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
    for name, of in space.items():
        assert own[name] in of if isinstance(of, list) else of["low"] <= own[name] <= of["high"]
    again = Configured([*arguments_of(config, *options), *as_arguments(own, space)]).config
    assert (again.model, again.data) == (parsed.model, parsed.data)


def test_no_penalty_is_the_lowest_of_the_space_and_stays_none():
    space, own, _ = space_of("iris_ova", "--model.l2", "0")
    assert own["model.l2"] == space["model.l2"]["low"] > 0
    assert as_arguments({"model.l2": own["model.l2"]}, {"model.l2": space["model.l2"]}) == ["--model.l2", "0"]
    space, own, _ = space_of("iris_ova", "--model.l2", "1e-12")
    assert as_arguments({"model.l2": own["model.l2"]}, {"model.l2": space["model.l2"]}) == ["--model.l2", "1e-12"]


def test_a_model_without_any_such_option_has_nothing_to_search():
    config = SimpleNamespace(get=lambda name: None)
    with pytest.raises(ValueError, match="with an option to tune"):
        default_space(config, num_rows=100)
