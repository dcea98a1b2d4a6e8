"""Loading a checkpoint never runs, imports or instantiates anything that the file names."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from checkpoint_file import load_checkpoint

CALLERS_OWN = ("net", "optimizer", "lr_scheduler")  # objects, not plain values: the caller's choice, never the file's
READ = ("format_version", "state_dict", "hyper_parameters")
OF_DATA = {"num_features", "num_classes", "class_names", "class_counts", "oos_class"}


def load_safely(
    cls: Any,
    checkpoint_path: Any,
    map_location: Any = "cpu",
    hparams_file: Any = None,
    strict: bool = True,
    weights_only: bool | None = True,
    **options: Any,
) -> Any:
    """Build a model from a checkpoint's hyperparameters, and fill in its weights.

    Takes tensors and plain values from the file, and nothing else. Lightning's own `load_from_checkpoint` lets the file
    say what to instantiate (`hyper_parameters["_instantiator"]` and every `class_path` below it), and leaves it to an
    environment variable whether pickled code may run.

    Args:
        cls: the class of the model.
        checkpoint_path: a local path.
        map_location: the device that the model goes to, from the CPU: not every device has the file's float64.
        hparams_file: refused; Lightning would instantiate what it names.
        strict: whether the names of the weights must match exactly.
        weights_only: False is refused.
        options: arguments of the class that replace the file's.

    Raises:
        ValueError: weights_only=False or an hparams_file, a file that is no checkpoint or holds more than tensors and
            plain values, or hyperparameters that are not plain values of the class's own signature.
    """
    if weights_only is False:
        raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
    if hparams_file is not None:
        raise ValueError("expected no hparams_file: give the options that differ from the checkpoint's by name")
    model = from_checkpoint(cls, load_checkpoint(checkpoint_path), strict, **options)
    return model if callable(map_location) else model.to(map_location)


def from_checkpoint(cls: Any, checkpoint: dict[str, Any], strict: bool = True, **options: Any) -> Any:
    """Build a model from what a checkpoint file holds; arguments as for `load_safely`."""
    arguments = plain_arguments(cls, checkpoint.get("hyper_parameters", {})) | options
    _require_sizes(arguments, checkpoint["state_dict"])
    checkpoint = checkpoint | {"hyper_parameters": arguments}
    try:
        model = cls(**arguments)
    except TypeError as error:  # of a value of another type than the option's
        raise ValueError(f"hyper_parameters: expected the options of {cls.__name__}: {error}") from error
    model.strict_loading = strict
    model.on_load_checkpoint({key: checkpoint[key] for key in READ if key in checkpoint})
    model.load_state_dict(checkpoint["state_dict"], strict=strict)
    return model


def plain_arguments(cls: type, saved: Any) -> dict[str, Any]:
    """The saved hyperparameters that `cls` takes, if all of them are plain values of its signature or its parents'.

    Raises:
        ValueError: names the hyperparameter that is unknown, or from which something could be instantiated.
    """
    if not isinstance(saved, dict):
        raise ValueError(f"hyper_parameters: expected a map from option to value, got a {type(saved).__name__}")
    parameters = [inspect.signature(parent.__init__).parameters for parent in cls.__mro__]  # type: ignore[misc]
    known = {name for signature in parameters for name in signature} - {"self", *CALLERS_OWN}
    for name, value in saved.items():
        if name not in known:
            raise ValueError(f"hyper_parameters: expected plain options of {cls.__name__}, got {name!r}")
        if names_a_class(value):
            raise ValueError(f"hyper_parameters: expected a plain value as {name!r}, got a class_path to instantiate")
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters[0].values())
    return {name: value for name, value in saved.items() if takes_any or name in parameters[0]}


def _require_sizes(arguments: dict[str, Any], state_dict: dict[str, Any]) -> None:
    """Refuse numbers of features and classes that the file's weights do not have, before memory is taken for them."""
    sizes = {name: arguments.get(name, 1) for name in ("num_features", "num_classes")}
    held = sum(value.untyped_storage().nbytes() for value in state_dict.values() if is_dense(value))
    if not all(type(size) is int for size in sizes.values()) or math.prod(sizes.values()) > held:
        raise ValueError(f"hyper_parameters: expected numbers that fit the {held} bytes of weights, got {sizes}")


def is_dense(value: Any) -> bool:
    """Whether a value is a tensor of numbers in memory, and nothing more: no attribute hides one of its methods."""
    plain = isinstance(value, Tensor) and not vars(value)
    return plain and value.layout == torch.strided and not value.is_meta and not value.is_quantized


def require_state(model: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse weights that are not the model's, or that come from other data than the model was built for.

    Args:
        model: a LightningModule.
        checkpoint: with its `state_dict` and `hyper_parameters`.

    Raises:
        ValueError: names the key, what was expected there and what came.
    """
    own, saved = model.state_dict(), checkpoint["state_dict"]
    for name in [*own, *saved] if model.strict_loading else own.keys() & saved.keys():
        if name not in own or name not in saved:
            expected, got = ("a weight", "none") if name in own else ("no such weight", "one")
            raise ValueError(f"state_dict.{name}: expected {expected}, got {got}; use the run's config.yaml")
        value, like, extra = saved[name], own[name], name.endswith("_extra_state")
        fits = is_dense(value) and (value.numel() <= 1 if extra else value.shape == like.shape)
        if not fits or (value.dtype != like.dtype and not (value.is_floating_point() and like.is_floating_point())):
            got = f"{value.dtype} {tuple(value.shape)}" if is_dense(value) else type(value).__name__
            raise ValueError(f"state_dict.{name}: expected {like.dtype} {tuple(like.shape)}, got {got}")
        if like.is_floating_point() and not extra and value.numel():
            low, high = value.aminmax()
            if not -torch.finfo(like.dtype).max <= low <= high <= torch.finfo(like.dtype).max:
                raise ValueError(f"state_dict.{name}: expected finite numbers of {like.dtype}, got {low} to {high}")
    options = checkpoint.get("hyper_parameters", {})
    if not isinstance(options, dict):
        raise ValueError(f"hyper_parameters: expected a map from option to value, got a {type(options).__name__}")
    for name in OF_DATA & options.keys() & model.hparams.keys():
        expected, got = model.hparams[name], options[name]
        if repr(got) != repr(expected):  # of plain values; `==` of tensors is no yes or no
            raise ValueError(
                f"hyper_parameters.{name}: expected {expected!s:.200}, as the data has, got {got!s:.200}; "
                "use the run's config.yaml"
            )


def names_a_class(value: Any) -> bool:
    """Whether jsonargparse would find something to instantiate anywhere in a value."""
    if isinstance(value, dict):
        return "class_path" in value or "_instantiator" in value or any(map(names_a_class, value.values()))
    return isinstance(value, list | tuple | set) and any(map(names_a_class, value))
