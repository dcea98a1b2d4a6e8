"""Configurations: their sections, and checks of options before anything that they name is called."""

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from callbacks.run.checkpoints import RelocatableModelCheckpoint
from cli.capabilities import additions_to

# Callbacks that every run has, by the section that holds their options.
CALLBACKS: dict[str, Any] = {"checkpoint": RelocatableModelCheckpoint}
for callback in additions_to("figures"):
    CALLBACKS["figures"] = callback
SECTIONS = ("trainer", *CALLBACKS, "model", "data")
OF_PATHS = re.compile(r"(.*_)?(file|files|dir|dirpath|root|path)")  # names of options


def config_text(parser: LightningArgumentParser, options: Namespace, skip_default: bool = False) -> str:
    """The resolved configuration, without the place and the start of the run, which are no part of the experiment."""
    options = options.clone()
    options.trainer.default_root_dir = None
    for name in ("ckpt_path", "weights_only", "refit"):  # of the command
        options.pop(name, None)
    for name, value in vars(options.data.get("init_args", Namespace())).items():
        if name.endswith(("_file", "_dir")):  # absolute, so that the run's config.yaml works from any folder
            options.data.init_args[name] = [*map(_absolute, value)] if isinstance(value, list) else _absolute(value)
    return parser.dump(options, skip_unset=False, skip_default=skip_default)


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def expand_paths(config: Any, name: str = "") -> None:
    """Put the user's folder for ~ and environment variables for $NAME in options that name files or folders.

    Raises:
        ValueError: names the option with a variable that is not set.
    """
    items = vars(config) if isinstance(config, Namespace) else config
    for key, value in list(items.items() if isinstance(items, dict) else enumerate(items)):
        place = f"{name}.{key}".lstrip(".") if isinstance(items, dict) else name
        if isinstance(value, Namespace | dict | list):
            expand_paths(value, place)
        elif isinstance(value, str) and OF_PATHS.fullmatch(last := place.rpartition(".")[2]) and last != "class_path":
            items[key] = expanded = os.path.expandvars(os.path.expanduser(value))
            if (unset := re.search(r"\$(\w+|\{\w+\})", expanded)) and not Path(expanded).exists():
                raise ValueError(f"{place.replace('.init_args', '')}: the variable {unset[0]} is not set, got {value}")


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


def require_values(config: Any) -> None:
    """Refuse null for an option of model or data that has a value by default and cannot do without.

    jsonargparse reads null as "not given", and would pass it on.

    Raises:
        ValueError: names the option.
    """
    for section in ("model", "data"):
        for name, value in vars(config[section].get("init_args", Namespace())).items():
            if value is None and not _may_be_none(locate(config[section].class_path), name):
                raise ValueError(f"{section}.{name}: expected a value, got null; leave it out for its default")


def _may_be_none(owner: Any, name: str) -> bool:
    for parent in inspect.getmro(owner):  # an option may be one that the class passes on to its parent
        init = vars(parent).get("__init__")
        parameter = inspect.signature(init).parameters.get(name) if init else None
        if parameter is not None:
            if parameter.default is None or parameter.default is parameter.empty:
                return True
            try:
                allowed = get_type_hints(init).get(name, Any)
            except NameError:  # a name that is imported for type checkers alone
                return True
            return allowed is Any or type(None) in get_args(allowed)
    return True


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
