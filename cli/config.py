"""What a configuration may hold: checked while it is read, and before anything that it names is called."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from callbacks.checkpoints import RelocatableModelCheckpoint
from callbacks.figures import Figures

LARGEST = 1_000_000  # characters of a configuration file
MOST_VALUES, DEEPEST = 100_000, 50
# Callbacks that every run has, by the section that holds their options.
CALLBACKS: dict[str, Any] = {"checkpoint": RelocatableModelCheckpoint, "figures": Figures}
SECTIONS = ("trainer", *CALLBACKS, "model", "data")

read_yaml = get_loader("yaml")  # jsonargparse's own


def load_yaml(text: str, path: str = "") -> Any:
    """Read a value, or, where there is a path, a whole configuration file.

    Raises:
        ValueError: not YAML, too much of it, or a section that is no map.
    """
    if len(text) > LARGEST:
        raise ValueError(f"{path}: expected at most {LARGEST:,} characters of YAML, got {len(text):,}")
    try:
        value = read_yaml(text)
    except RecursionError as error:
        raise ValueError(f"{path}: expected YAML nested at most {DEEPEST} deep") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML: {error}") from error
    require_bounded(value, path)
    if path:
        require_sections(value, path)
    return value


def config_text(parser: LightningArgumentParser, options: Namespace) -> str:
    """The resolved configuration, without the place and the start of the run, which are no part of the experiment."""
    options = options.clone()
    options.trainer.default_root_dir = options.ckpt_path = None
    del options["refit"]  # a command, not an option of the run
    for name, value in vars(options.data.get("init_args", Namespace())).items():
        if name.endswith(("_file", "_dir")):  # absolute, so that the run's config.yaml works from any folder
            options.data.init_args[name] = [*map(_absolute, value)] if isinstance(value, list) else _absolute(value)
    return parser.dump(options, skip_none=False)


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def require_bounded(value: Any, source: str) -> None:
    """Refuse YAML whose aliases expand without end, or that refers to itself.

    Raises:
        ValueError: more values, or deeper nesting, than a configuration has.
    """
    remaining, number = [(value, 0)], 0
    while remaining:
        item, depth = remaining.pop()
        number += 1
        if depth > DEEPEST or number > MOST_VALUES:
            raise ValueError(f"{source}: expected at most {MOST_VALUES:,} values, nested at most {DEEPEST} deep")
        if isinstance(item, dict | list):
            remaining += [(inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item)]


def require_sections(config: Any, source: str) -> None:
    """Refuse a list or a word where a map of options belongs; jsonargparse would read some as if they were not there.

    Raises:
        ValueError: which file, which section, what came.
    """
    if config is None or config == "":
        raise ValueError(f"{source}: expected a configuration, the file is empty")
    places = {"the whole file": config}
    if isinstance(config, dict):
        places |= {name: config[name] for name in SECTIONS if name in config}
        for name, section in list(places.items()):
            if isinstance(section, dict) and "init_args" in section:
                places[f"{name}.init_args"] = section["init_args"]
    for name, value in places.items():
        if not isinstance(value, dict) and not (name in ("model", "data") and isinstance(value, str)):
            raise ValueError(
                f'{source}: expected a map of options (name: value) as "{name}", got {type(value).__name__}: {value}'
            )


def require_classes(config: Any) -> None:
    """Refuse to call anything but a class, and as optimizer or scheduler anything but torch's.

    jsonargparse accepts any function as a class_path where a callable is expected, and calls it.

    Raises:
        ValueError: names the option and what came.
    """
    bases = {"optimizer": Optimizer, "lr_scheduler": LRScheduler}
    for name, key, value in _named_values(config, "", ""):
        base = bases.get(key, object)
        if isinstance(value, str) and name.endswith(".class_path"):
            value = locate(value)
        elif not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not (inspect.isclass(value) and issubclass(value, base)):
            expected = "a class" if base is object else f"a subclass of {base.__module__}.{base.__name__}"
            got = getattr(value, "__qualname__", value)
            raise ValueError(f"{name}: expected {expected}, got {got}; functions are not taken from a configuration")


def _named_values(value: Any, name: str, key: str) -> Iterator[tuple[str, str, Any]]:
    """Every value that is no container: its full name, the option that it belongs to, and itself."""
    if isinstance(value, Namespace | dict):
        for inner, item in (vars(value) if isinstance(value, Namespace) else value).items():
            owner = key if inner == "class_path" else inner
            yield from _named_values(item, f"{name}.{inner}".lstrip("."), owner)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _named_values(item, f"{name}[{number}]", key)
    else:
        yield name, key, value
