"""Options linked to the data: arguments of the model, and options that a configuration leaves open."""

import inspect
from collections.abc import Callable
from functools import cache, partial
from pydoc import locate
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

# Arguments of the model, and of its `net`, that are attributes of the datamodule.
LINKED_ATTRIBUTES = ("num_features", "num_classes", "class_names", "class_counts", "oos_class")
LINKED_TO_NET = ("num_features", "num_classes")


def link_data_to_model(parser: LightningArgumentParser, configured_model: Callable[[], Namespace]) -> None:
    """Let the model's arguments follow from the datamodule, once that is built; `configured_model` is called then."""

    def value(name: str, data: L.LightningDataModule) -> Any:
        return linked_value(name, configured_model(), data)

    def value_of_net(name: str, data: L.LightningDataModule) -> Any:
        net = configured_model().get("init_args", Namespace()).get("net")
        return linked_value(name, net, data, "model.net") if isinstance(net, Namespace) else None

    links = [(f"model.init_args.{name}", partial(value, name)) for name in LINKED_ATTRIBUTES]
    links += [(f"model.init_args.net.init_args.{name}", partial(value_of_net, name)) for name in LINKED_TO_NET]
    for argument, compute in links:
        parser.link_arguments("data", argument, compute, apply_on="instantiate")


def put_back_linked(model: Namespace, written: dict[str, Any]) -> bool:
    """Add configured arguments that could follow from the data, which jsonargparse leaves out; whether there are any.

    Other data, such as a plain LightningDataModule, offers none: without them a run's config.yaml could not be used.
    """
    options = model.get("init_args", Namespace())
    given = {name: options[name] for name in LINKED_ATTRIBUTES if options.get(name) is not None}
    if given:
        written.setdefault("init_args", {}).update(given)
    net = options.get("net")
    return bool(given) | (isinstance(net, Namespace) and put_back_linked(net, written["init_args"]["net"]))


def linked_value(name: str, model: Namespace, data: L.LightningDataModule, section: str = "model") -> Any:
    """The argument `name` of a model or net: what the datamodule offers, else what is configured, else the default.

    A ValueError names what is nowhere, or a configured value that differs from the datamodule's.
    """
    parameter = parameter_of(locate(model.class_path), name)
    if parameter is None:
        return None  # the model takes no such argument, and gets none
    configured = model.get("init_args", Namespace()).get(name)
    if name in vars(data) or inspect.getattr_static(data, name, None) is not None:
        value = getattr(data, name)
        if configured is not None and configured != value:
            raise ValueError(f"{section}.{name} is {configured}, but the data has {value}; leave it out")
        return value
    if configured is None and parameter.default is parameter.empty:
        raise ValueError(
            f"{model.class_path} needs {name}, which {type(data).__name__} does not offer: "
            f"define it there, or set --{section}.{name}"
        )
    return parameter.default if configured is None else configured


def instantiate_data(options: Namespace, instantiate: Callable[..., Any]) -> Any:
    """The datamodule of a configuration, by `instantiate(class, **options)`, before all that follows from it."""
    instantiators = [(instantiate, L.LightningDataModule, True)]
    return _parser_of_data().instantiate(Namespace(data=options.data.clone()), instantiators=instantiators).data


@cache  # an estimator builds its data again and again
def _parser_of_data() -> LightningArgumentParser:
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(L.LightningDataModule, "data", subclass_mode=True)
    return parser


def fill_open_options(options: Namespace, data: Any) -> dict[str, Any]:
    """Set options that are open, null or auto, to what the datamodule recommends for its rows; returns these by name.

    It does so by an attribute `recipe`, a map of options by their names on the command line. A value that takes time to
    choose is a function, called if its option is open; the map then has what it returned. `refit` is the command's.
    """
    filled = {}
    for name, value in [*(getattr(data, "recipe", None) or {}).items()]:
        *sections, option = name.split(".")
        place: Any = options if sections else None
        for section in sections:
            place = place.get(section) if isinstance(place, Namespace) else None
            place = place.get("init_args", place) if isinstance(place, Namespace) else None
        if isinstance(place, Namespace) and option in place and place[option] in (None, "auto"):
            value = data.recipe[name] = value() if callable(value) else value
            place[option] = Namespace(**value) if isinstance(value, dict) else value
            filled[name] = value
    return filled


def parameter_of(kind: Any, name: str) -> inspect.Parameter | None:
    """The argument of this name of a class, or of a parent to which its `**options` go; None if there is none."""
    for each in inspect.getmro(kind) if inspect.isclass(kind) else [kind]:
        parameters = inspect.signature(each.__init__ if inspect.isclass(each) else each).parameters
        if name in parameters:
            return parameters[name]
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return None
