"""Several configuration files, each an overlay of those before it."""

from pydoc import locate
from typing import Any

from jsonargparse import ArgumentParser, set_loader

from cli.config import load_yaml


def install_loader() -> None:
    """Let jsonargparse read YAML through `load_yaml`, and each file as an overlay of those before it."""
    overlays = Overlays()

    def load(text: str, path: str = "") -> Any:
        value = load_yaml(text, path)
        return overlays.add(path, value) if path else value

    set_loader("yaml", load, exceptions=(ValueError,))


class Overlays:
    """The configuration files of one command line, in their order.

    jsonargparse lets a class that a later file names keep those arguments of the class it replaces that it happens to
    accept: another optimizer would train with the rate of the one before it. Here a class starts from its own defaults.
    """

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}

    def add(self, path: str, config: Any) -> Any:
        """A file's content, where another class than that of the files before it has all its arguments written out.

        Raises:
            ValueError: a class whose defaults cannot be looked up.
        """
        before: Any = None
        for earlier, content in self._files.items():
            if earlier == path:  # read a second time
                break
            before = content if before is None else _merged(before, content)
        self._files[path] = config if before is None else _without_inheritance(config, before, "")
        return self._files[path]


def _merged(before: Any, after: Any) -> Any:
    """What two files say together."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before | {key: _merged(before.get(key), value) for key, value in after.items()}
    return after


def _without_inheritance(value: Any, before: Any, place: str) -> Any:
    if isinstance(value, list) and isinstance(before, list):  # jsonargparse compares lists item by item
        pairs = zip(value, before, strict=False)
        items = [_without_inheritance(item, old, f"{place}[{number}]") for number, (item, old) in enumerate(pairs)]
        return items + value[len(before) :]
    name, replaced = _class_name(value), _class_name(before)
    if name and replaced and name.rpartition(".")[2] != replaced.rpartition(".")[2]:
        spec: dict[str, Any] = value if isinstance(value, dict) else {"class_path": name}
        inherited = before.get("init_args") if isinstance(before, dict) else None
        return spec | {"init_args": _defaults(name, inherited or {}, place) | (spec.get("init_args") or {})}
    if isinstance(value, dict) and isinstance(before, dict):
        places = {key: f"{place}.{key}".lstrip(".") for key in value}
        return {key: _without_inheritance(item, before.get(key), places[key]) for key, item in value.items()}
    return value


def _class_name(value: Any) -> str | None:
    name = value.get("class_path") if isinstance(value, dict) else value
    return name if isinstance(name, str) and "." in name.strip(".") else None


def _defaults(name: str, inherited: dict[str, Any], place: str) -> dict[str, Any]:
    """A class's own defaults; None for an argument without one that it would inherit, which jsonargparse refuses.

    All of them, because the class that is replaced has had its defaults filled in as well.
    """
    found = locate(name)
    if not isinstance(found, type):
        raise ValueError(f"{place}: expected a class, found none named {name}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(found, fail_untyped=False, instantiate=False)
    defaults = vars(parser.get_defaults())
    return {key: value for key, value in defaults.items() if value is not None or key in inherited}
