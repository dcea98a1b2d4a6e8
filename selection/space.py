"""Search spaces: by option a list of values, or a map of `low` and `high`, and if needed `log` or `step`.

Those in selection/spaces/ may also have `times`, how far to go below and above the configured value.
"""

from itertools import product
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from cli.config import load_yaml, read_config
from selection.configured import as_text

Space = dict[str, Any]
SHIPPED = sorted(Path(__file__).with_name("spaces").glob("*.yaml"))


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


def default_space(config: Namespace) -> tuple[dict[str, Any], Space]:
    """The configured values of the options to search, and the space: of the shipped ones that with the most options.

    Raises:
        ValueError: the configuration has none of them.
    """
    found = []
    for file in SHIPPED:
        own, space = dict[str, Any](), dict[str, Any]()
        for name, of in load_yaml(file.read_text(encoding="utf-8"), str(file)).items():
            place = name.replace(".", ".init_args.", 1).replace("optimizer.", "optimizer.init_args.")
            value = config.get(place)
            if value is None and (name != "data.chars" or place not in config):
                continue  # no such option, or one that is off; characters may come beside words
            own[name] = as_text(vars(value) if isinstance(value, Namespace) else value)
            if isinstance(of, list):
                of = [*dict.fromkeys((own[name], *map(as_text, of)))]
            elif "times" in of:
                of = {"low": value / of["times"], "high": value * of["times"], "log": True}
            space[name] = of
        found.append((own, space))
    own, space = max(found, key=lambda each: len(each[1]))
    if not space:
        raise ValueError("expected a model or data with an option to tune (l2, lr, feature_dropout, ...); see --space")
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


def as_arguments(chosen: dict[str, Any]) -> list[str]:
    """The words that add chosen values to a command line."""
    return [word for name, value in chosen.items() for word in (f"--{name}", as_text(value))]
