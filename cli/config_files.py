"""Configuration files: read as UTF-8 YAML, one laid over another."""

from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Path as ConfigPath
from jsonargparse import _typehints, get_loader, set_loader
from jsonargparse.typing import register_type

from cli.config import SECTIONS

read_yaml = get_loader("yaml")  # jsonargparse's own
read_path = ConfigPath.read_text


def install_loader() -> None:
    """Let jsonargparse read YAML through `load_yaml`, write what can be read, and begin a class's options afresh.

    By itself it keeps those options of a replaced class that the new one happens to accept: another optimizer would
    train with the rate of the one in the file. It writes "Unable to serialize instance l1_unstructured" for a text
    where a function could stand too, and nothing at all for an enum. It offers no switch, hence two private names,
    which tests/cli/test_config_files.py watches.
    """
    set_loader("yaml", load_yaml, exceptions=(ValueError,))
    ConfigPath.read_text = read_config  # type: ignore[method-assign, assignment]
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))
    register_type(torch.device)
    _typehints.serialize_as_import_path = _typehints.object_path_serializer
    _typehints.discard_init_args_on_class_path_change = forget_options


def forget_options(parser: Any, before: Any, after: Any) -> None:
    """Empty the options of the class `before`, which a later file or the command line replaces by another."""
    if before and before.get("init_args") and before["class_path"] != after["class_path"]:
        vars(before["init_args"]).clear()


def read_config(path: Any) -> str:
    """The text of a configuration file.

    Raises:
        ValueError: it is not in UTF-8; names it.
    """
    try:
        return path.read_text(encoding="utf-8") if isinstance(path, Path) else read_path(path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected a configuration in UTF-8, got byte {error.object[error.start]:#04x} at {error.start}; "
            "save it as UTF-8"
        ) from error


def load_yaml(text: str, path: str = "") -> Any:
    """Read a value, or, where there is a path, a whole configuration file.

    Raises:
        ValueError: not YAML, or a section that is no map.
    """
    try:
        value = read_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: expected YAML: {error}") from error
    if path:
        require_sections(value, path)
    return value


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
