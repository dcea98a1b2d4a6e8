"""Configurations: read as UTF-8 YAML, laid over each other, checked before a class is called, and written."""

import inspect
import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from enum import Enum
from glob import glob
from itertools import pairwise
from pathlib import Path
from pydoc import locate
from typing import Any, get_args

import torch
import yaml
from jsonargparse import Namespace, _typehints, get_loader, set_loader
from jsonargparse import Path as ConfigPath
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser

from callbacks.run.checkpoints import RelocatableModelCheckpoint
from cli.capabilities import additions_to
from cli.links import parameter_of, put_back_linked

# Callbacks that every run has, by the section that holds their options.
CALLBACKS: dict[str, Any] = {"checkpoint": RelocatableModelCheckpoint}
for callback in additions_to("figures"):
    CALLBACKS["figures"] = callback
SECTIONS = ("trainer", *CALLBACKS, "model", "data")
OF_PATHS = re.compile(r"(.*_)?(file|files|dir|dirpath|root|path)")  # names of options

SURROGATES = re.compile(r"\\ud[89ab]..\\ud[c-f]..", re.IGNORECASE)  # an emoji as JSON escapes it; YAML refuses them
load_value = get_loader("yaml")  # jsonargparse's own
read_path = ConfigPath.read_text


def install_loader() -> None:
    """Let jsonargparse read YAML through `load_yaml`, write what can be read, and begin a class's options afresh.

    By itself it keeps those options of a replaced class that the new one happens to accept: another optimizer would
    train with the rate of the one in the file. It writes "Unable to serialize instance l1_unstructured" for a text
    where a function could stand too, and nothing at all for an enum. It offers no switch, hence two private names,
    which tests/cli/test_config.py watches.
    """
    set_loader("yaml", load_yaml, exceptions=(ValueError,))
    ConfigPath.read_text = read_config  # type: ignore[method-assign, assignment]
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))
    register_type(torch.device)
    _typehints.serialize_as_import_path = _typehints.object_path_serializer
    _typehints.discard_init_args_on_class_path_change = forget_options


def config_first(arguments: Iterable[str]) -> list[str]:
    """The words of a command line, its first file in front: of two words the later wins.

    jsonargparse would let `--refit false --config FILE` lose its option to the file.
    """
    words = [*arguments]
    start = next((n for n, word in enumerate(words) if re.match(r"-c$|--config(=|$)", word)), 0)
    end = start + 1 + ("=" not in words[start]) if start else 0
    return words[start:end] + words[:start] + words[end:]


def command_without_checkpoint(words: Sequence[str]) -> str:
    """A command line as one types it, without --ckpt_path.

    >>> command_without_checkpoint(["train.py", "fit", "--ckpt_path", "last", "--model.sizes", "[1, 2]"])
    "python train.py fit --model.sizes '[1, 2]'"
    """
    others = [word for before, word in pairwise(["", *words]) if "--ckpt_path" not in (before, word.partition("=")[0])]
    return shlex.join(["python", *others])


def forget_options(parser: Any, before: Any, after: Any) -> None:
    """Empty the options of the class `before`, which a later file or the command line replaces by another."""
    if before and before.get("init_args") and before["class_path"] != after["class_path"]:
        vars(before["init_args"]).clear()


def read_config(path: Any) -> str:
    """The text of a configuration file; a ValueError names one that is not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8") if isinstance(path, Path) else read_path(path)
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"{path}: expected a configuration in UTF-8, got {got}; save it as UTF-8") from error


def load_yaml(text: str, path: str = "") -> Any:
    """Read a value, or, where there is a path, a whole configuration file.

    A ValueError names the line that is no YAML, or the section that is no map of options.
    """
    try:
        value = load_value(SURROGATES.sub(lambda pair: json.loads(f'"{pair[0]}"'), text))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise ValueError(f"{path}: expected YAML: {reason}") from error
    if path and value in (None, ""):
        raise ValueError(f"{path}: expected a configuration, the file is empty")
    if path:
        sections = {name: value[name] for name in SECTIONS if name in value} if isinstance(value, dict) else {}
        maps = {name: section for name, section in sections.items() if isinstance(section, dict)}
        inner = {f"{name}.init_args": section["init_args"] for name, section in maps.items() if "init_args" in section}
        # jsonargparse reads some lists as if they were not there.
        for name, options in {"the whole file": value, **sections, **inner}.items():
            if not isinstance(options, dict) and not (name in ("model", "data") and isinstance(options, str)):
                raise ValueError(f'{path}: expected a map of options (name: value) as "{name}", got {options}')
    return value


def config_text(parser: LightningArgumentParser, options: Namespace, skip_default: bool = False) -> str:
    """The resolved configuration, without the place and the start of the run, which are no part of the experiment."""
    options = options.clone()
    options.trainer.default_root_dir = None
    for name in ("ckpt_path", "weights_only", "refit", "test"):  # of the command
        options.pop(name, None)
    for name, value in vars(options.data.get("init_args", Namespace())).items():
        if name.endswith(("_file", "_files", "_dir")):  # absolute, so that the run's config.yaml works from any folder
            options.data.init_args[name] = [*map(_absolute, value)] if isinstance(value, list) else _absolute(value)
    text = parser.dump(options, skip_unset=False, skip_default=skip_default)
    config = yaml.safe_load(text)
    has_linked = put_back_linked(options.model, config["model"])
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if has_linked else text


def _absolute(path: str | None) -> str | None:
    return str(Path(path).resolve()) if path and (Path(path).exists() or glob(path)) else path


def expand_paths(config: Any, name: str = "") -> None:
    """Put the user's folder for ~ and environment variables for $NAME in options that name files or folders.

    A ValueError names the option with a variable that is not set.
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


def require_options(config: Any, sections: Iterable[str] = ("model", "data")) -> None:
    """Refuse, with a ValueError, null where an option of model or data needs a value: jsonargparse passes it on."""
    for section in sections:
        for name, value in vars(config[section].get("init_args", Namespace())).items():
            parameter = parameter_of(locate(config[section].class_path), name)
            if value is None and parameter is not None and not _may_be_none(parameter):
                raise ValueError(f"{section}.{name}: expected a value, got null; leave it out for its default")


def _may_be_none(parameter: inspect.Parameter) -> bool:
    if parameter.default is None or parameter.default is parameter.empty:
        return True
    allowed = parameter.annotation  # a text where a name is imported for type checkers alone
    return allowed in (Any, parameter.empty) or isinstance(allowed, str) or type(None) in get_args(allowed)
