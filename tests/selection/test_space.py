"""What a search without a file varies: the options of a shipped space that a config has."""

import pytest
from jsonargparse import Namespace

from cli.links import fill_open_options
from selection.configured import Configured, as_text
from selection.space import as_arguments, default_space
from tests.selection.helpers import config_file


def arguments_of(config, *options):
    """Those of the configuration with what it leaves open, as a search gives them to each trial."""
    arguments = ["--config", config_file(config), *options]
    configured = Configured(arguments)
    filled = fill_open_options(configured.config.clone(), configured.build()[1]) if config == "text_csv" else {}
    return [*arguments, *(f"--{name}={as_text(value)}" for name, value in filled.items())]


def space_of(config, *options):
    parsed = Configured(arguments_of(config, *options)).config
    own, space = default_space(parsed)
    return space, own, parsed


def test_texts_have_n_grams_of_words_and_of_characters():
    space, own, _ = space_of("text_csv")
    assert set(space) == {
        *("model.l2", "model.lr", "model.class_weight"),
        *("data.feature_dropout", "data.words.ngram_range", "data.chars"),
    }
    assert space["data.chars"][:2] == [own["data.chars"], "null"] and len(space["data.chars"]) == 3
    assert own["data.words.ngram_range"] == "[1, 2]"
    without_words = ("--data.words", "null", "--data.chars", "{analyzer: char, ngram_range: [1, 5]}")
    space, own, _ = space_of("text_csv", *without_words)
    assert "data.words.ngram_range" not in space
    assert '"analyzer": "char"' in own["data.chars"] and own["data.chars"] in space["data.chars"]


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
def test_every_value_of_the_space_and_the_configured_ones_are_options_that_the_config_takes(config, options):
    space, own, parsed = space_of(config, *options)
    for name, of in space.items():
        assert own[name] in of if isinstance(of, list) else of["low"] < of["high"]
        for value in of if isinstance(of, list) else (of["low"], of["high"]):
            Configured([*arguments_of(config, *options), *as_arguments({name: value})])
    again = Configured([*arguments_of(config, *options), *as_arguments(own)]).config
    assert (again.model, again.data) == (parsed.model, parsed.data)


def test_a_rate_goes_as_far_from_its_own_value_as_the_space_tells():
    space, own, _ = space_of("xor_mlp", "--model.optimizer.lr", "0.2")
    assert own["model.optimizer.lr"] == "0.2"
    assert space["model.optimizer.lr"] == {"low": 0.02, "high": 2.0, "log": True}


def test_a_model_without_any_such_option_has_nothing_to_search():
    with pytest.raises(ValueError, match="with an option to tune"):
        default_space(Namespace())
