"""What `tune` may change: options of the command line, of those that the configuration has."""

import json
from typing import Any

from jsonargparse import Namespace

from cli.study import load_optuna

LARGEST_C, SMALLEST_C = 1000, 0.3  # scikit-learn's measure of the penalty: l2 is 1 / (2 · rows · C)
PENALTIES = ("model.l2", "model.optimizer.weight_decay")  # the first of them that there is
RATES = ("model.lr", "model.optimizer.lr")
DROPOUT = "data.feature_dropout"
CHARS = '{"analyzer": "char_wb", "ngram_range": [2, 4], "min_df": 2, "sublinear_tf": true}'
CATEGORIES = {  # beside the configured value
    "data.words.ngram_range": ("[1, 1]", "[1, 2]", "[1, 3]"),
    "data.chars": ("null", CHARS),
    "data.chars.ngram_range": ("[1, 2]", "[1, 3]", "[2, 4]"),
    "model.class_weight": ("none", "balanced"),
}


def search_space(config: Namespace, num_rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Optuna's distributions, by option, and the configured value of each, which lies within.

    Penalty and rate are searched by their logarithm; the lowest penalty stands for none.

    Args:
        config: parsed.
        num_rows: N, to learn from.

    Raises:
        ValueError: the configuration has none of the options.
    """
    of = load_optuna().distributions
    numbers = {name: value for name in (*PENALTIES, *RATES, DROPOUT) if (value := value_of(config, name)) is not None}
    if PENALTIES[0] in numbers:
        numbers.pop(PENALTIES[1], None)
    space: dict[str, Any] = {}
    for name, value in numbers.items():
        low, high = range_of(name, value, num_rows)
        space[name], numbers[name] = of.FloatDistribution(low, high, log=name != DROPOUT), max(value, low)
    texts = categories(config)
    space |= {
        name: of.CategoricalDistribution(list(dict.fromkeys((text, *CATEGORIES[name])))) for name, text in texts.items()
    }
    if not space:
        raise ValueError("expected a model or data with an option to tune (l2, lr, feature_dropout, ...), got none")
    return space, numbers | texts


def range_of(option: str, value: float, num_rows: int) -> tuple[float, float]:
    """The lowest and the highest value of an option that is configured as `value`."""
    if option in RATES:
        return value / 10, value * 10
    if option == DROPOUT:
        return 0.0, max(0.8, value)
    low, high = (1 / (2 * num_rows * c) for c in (LARGEST_C, SMALLEST_C))
    return min(low, value / 10) if value else low, max(high, value)


def categories(config: Namespace) -> dict[str, str]:
    """The configured value of each option with categories. Chars come and go beside words; without words they stay."""
    words, chars = value_of(config, "data.words"), value_of(config, "data.chars")
    found = {name: value_of(config, name) for name in CATEGORIES}
    found = {name: value for name, value in found.items() if value is not None and name != "data.chars"}
    if words is not None:
        found.pop("data.chars.ngram_range", None)
        found["data.chars"] = chars
    return {name: as_text(value) for name, value in found.items()}


def value_of(config: Namespace, option: str) -> Any:
    """The value of an option as the command line spells it; None if there is none."""
    return config.get(option.replace(".", ".init_args.", 1).replace("optimizer.", "optimizer.init_args."))


def as_text(value: Any) -> str:
    """A value as the command line takes it; Optuna's storage keeps categories as text."""
    if isinstance(value, str):
        return value
    return json.dumps(vars(value) if isinstance(value, Namespace) else value)


def as_arguments(chosen: dict[str, Any], space: dict[str, Any]) -> list[str]:
    """The words that add chosen values to a command line."""
    words: list[str] = []
    for option, value in chosen.items():
        is_none = option in PENALTIES and value == space[option].low
        words += [f"--{option}", "0" if is_none else str(value)]
    return words
