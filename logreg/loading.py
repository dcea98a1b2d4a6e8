"""Loads models from checkpoints, without running, importing or instantiating anything that the file names."""

import inspect
from typing import Any

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
            plain values, or hyperparameters that the class does not take.
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
    checkpoint = checkpoint | {"hyper_parameters": arguments}
    model = cls(**arguments)
    model.strict_loading = strict
    model.on_load_checkpoint({key: checkpoint[key] for key in READ if key in checkpoint})
    model.load_state_dict(checkpoint["state_dict"], strict=strict)
    return model


def plain_arguments(cls: type, saved: dict[str, Any]) -> dict[str, Any]:
    """The saved hyperparameters that `cls` takes.

    Raises:
        ValueError: one is no option of `cls` or its parents, or an object that is the caller's choice; names it.
    """
    parameters = [inspect.signature(parent.__init__).parameters for parent in cls.__mro__]  # type: ignore[misc]
    known = {name for signature in parameters for name in signature} - {"self", *CALLERS_OWN}
    for name in saved:
        if name not in known:
            raise ValueError(f"hyper_parameters: expected plain options of {cls.__name__}, got {name!r}")
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters[0].values())
    return {name: value for name, value in saved.items() if takes_any or name in parameters[0]}


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
        if name.endswith("_extra_state"):  # a module's own, empty or not
            continue
        value, like = saved[name], own[name]
        if value.shape != like.shape:
            raise ValueError(f"state_dict.{name}: expected {tuple(like.shape)}, got {tuple(value.shape)}")
        if not value.to(like.dtype).isfinite().all():
            raise ValueError(f"the checkpoint holds {name} with numbers that are not finite: train again")
    options = checkpoint.get("hyper_parameters", {})
    for name in OF_DATA & options.keys() & model.hparams.keys():
        expected, got = model.hparams[name], options[name]
        if got != expected:
            raise ValueError(
                f"hyper_parameters.{name}: expected {expected!s:.200}, as the data has, got {got!s:.200}; "
                "use the run's config.yaml"
            )


def names_a_class(value: Any) -> bool:
    """Whether jsonargparse would find something to instantiate anywhere in a value."""
    if isinstance(value, dict):
        return "class_path" in value or "_instantiator" in value or any(map(names_a_class, value.values()))
    return isinstance(value, list | tuple | set) and any(map(names_a_class, value))
