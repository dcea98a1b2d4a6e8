"""Search spaces: by option a list of values, or a map of `low` and `high`, and if needed `log` or `step`."""

from itertools import product
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from cli.config import load_yaml, read_config
from selection.configured import as_text

Space = dict[str, Any]
LARGEST_C, SMALLEST_C = 1000, 0.3  # scikit-learn's measure of the penalty: l2 is 1 / (2 · rows · C)
PENALTIES = ("model.l2", "model.optimizer.weight_decay")  # the first of them that there is
RATES, DROPOUT = ("model.lr", "model.optimizer.lr"), "data.feature_dropout"
CHARS = '{"analyzer": "char_wb", "ngram_range": [2, 4], "min_df": 2, "sublinear_tf": true}'
CATEGORIES = {  # beside the configured value
    "data.words.ngram_range": ("[1, 1]", "[1, 2]", "[1, 3]"),
    "data.chars": ("null", CHARS),
    "data.chars.ngram_range": ("[1, 2]", "[1, 3]", "[2, 4]"),
    "model.class_weight": ("none", "balanced"),
}


def read_space(file: str) -> tuple[Space, dict[str, Any]]:
    """The search space in a YAML file, and values from it.

    Raises:
        ValueError: it is none, by its option.
    """
    import optuna

    space, values, trial = load_yaml(read_config(Path(file)), file), dict[str, Any](), optuna.create_study().ask()
    for name, of in space.items():
        try:
            space[name] = of = [*map(as_text, of)] if isinstance(of, list) else of
            values |= drawn_from({name: of}, trial)
        except (AttributeError, TypeError, ValueError) as error:
            expected = "a list of values, or a map of low and high, and perhaps log or step"
            detail = f" ({error})" if isinstance(of, dict) else ""
            raise ValueError(f"{file}: {name}: expected {expected}, got {of}{detail}") from error
    return space, values


def combinations(space: Space) -> list[dict[str, Any]]:
    """All of them; a ValueError refuses a range."""
    if ranges := [name for name, of in space.items() if not isinstance(of, list)]:
        raise ValueError(f"--grid: expected lists of values alone, got a range of {', '.join(ranges)}")
    return [dict(zip(space, values, strict=True)) for values in product(*space.values())]


def default_space(config: Namespace, num_rows: int) -> tuple[dict[str, Any], Space]:
    """The options to search that a configuration has, for N rows to learn from: configured values, and a space.

    The lowest penalty stands for none.

    Raises:
        ValueError: it has none of them.
    """
    own: dict[str, Any] = {}
    space: Space = {}

    def value_of(name: str) -> Any:
        return config.get(name.replace(".", ".init_args.", 1).replace("optimizer.", "optimizer.init_args."))

    for name in PENALTIES:
        if not space and (value := value_of(name)) is not None:
            smallest, largest = (1 / (2 * num_rows * c) for c in (LARGEST_C, SMALLEST_C))
            low = min(smallest, value / 10) if value else smallest
            own[name], space[name] = max(value, low), {"low": low, "high": max(largest, value), "log": True}
    for name in RATES:
        if (value := value_of(name)) is not None:
            own[name], space[name] = value, {"low": value / 10, "high": value * 10, "log": True}
    if (value := value_of(DROPOUT)) is not None:
        own[DROPOUT], space[DROPOUT] = value, {"low": 0.0, "high": max(0.8, value)}
    # Chars come and go beside words; without words they stay.
    left_out = "data.chars" if value_of("data.words") is None else "data.chars.ngram_range"
    for name, others in CATEGORIES.items():
        value = value_of(name)
        if name != left_out and (value is not None or name == "data.chars"):
            own[name] = as_text(vars(value) if isinstance(value, Namespace) else value)
            space[name] = [*dict.fromkeys((own[name], *others))]
    if not space:
        raise ValueError("expected a model or data with an option to tune (l2, lr, feature_dropout, ...), got none")
    return own, space


def drawn_from(space: Space, trial: Any) -> dict[str, Any]:
    """Values that Optuna suggests for a trial."""
    values: dict[str, Any] = {}
    for name, of in space.items():
        if isinstance(of, list):
            values[name] = trial.suggest_categorical(name, of)
        else:
            is_int = all(isinstance(value, int) for value in of.values())
            values[name] = (trial.suggest_int if is_int else trial.suggest_float)(name, **of)
    return values


def as_arguments(chosen: dict[str, Any], space: Space) -> list[str]:
    """The words that add chosen values to a command line."""
    words = []
    for name, of in space.items():
        is_none = name in PENALTIES and "log" in of and chosen[name] == of["low"]
        words += [f"--{name}", "0" if is_none else str(chosen[name])]
    return words
