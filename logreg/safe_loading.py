"""Loading a checkpoint never runs, imports or instantiates anything that the file names."""

import inspect
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

CALLERS_OWN = ("net", "optimizer", "lr_scheduler")  # objects, not plain values: the caller's choice, never the file's


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
        checkpoint_path: a local path or a URL.
        map_location: the device to load to.
        hparams_file: refused; Lightning would instantiate what it names.
        strict: whether the names of the weights must match exactly.
        weights_only: False is refused.
        options: arguments of the class that replace the file's.

    Raises:
        ValueError: weights_only=False or an hparams_file, a file that is no checkpoint, or hyperparameters that are not
            plain values of the class's own signature.
        pickle.UnpicklingError: the file holds more than tensors and plain values; nothing of it was run.
    """
    if weights_only is False:
        raise ValueError("expected weights_only=True: loading with False runs whatever code the file holds")
    if hparams_file is not None:
        raise ValueError("expected no hparams_file: give the options that differ from the checkpoint's by name")
    checkpoint = TorchCheckpointIO().load_checkpoint(checkpoint_path, map_location, weights_only=True)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(f"expected a Lightning checkpoint, {checkpoint_path} holds something else")
    model = cls(**(plain_arguments(cls, checkpoint.get("hyper_parameters", {})) | options))
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"], strict=strict)
    return model if callable(map_location) else model.to(map_location)


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


def names_a_class(value: Any) -> bool:
    """Whether jsonargparse would find something to instantiate anywhere in a value."""
    if isinstance(value, dict):
        return "class_path" in value or "_instantiator" in value or any(map(names_a_class, value.values()))
    return isinstance(value, list | tuple | set) and any(map(names_a_class, value))
