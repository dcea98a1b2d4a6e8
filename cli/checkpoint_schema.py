"""What a checkpoint from anywhere must be before anything is made of it: its outline and its tensors.

Models, datamodules and callbacks check the parts of it that they have written, when they are given them.
"""

import math
import reprlib
from collections.abc import Iterator
from typing import Any

import torch
from packaging.version import InvalidVersion, Version
from torch import Tensor

KEYS = {"state_dict": dict, "pytorch-lightning_version": str}
KEYS_TO_RESUME = {"epoch": int, "global_step": int, "loops": dict, "callbacks": dict}
KEYS_TO_RESUME |= {"optimizer_states": list, "lr_schedulers": list}
OF_NUMBERS = ("state_dict.", "optimizer_states[")  # below which numbers are finite
DEEPEST = 50


def require_outline(checkpoint: Any, resumes: bool) -> None:
    """Refuse a checkpoint without the parts that Lightning reads, or with tensors that are not what they seem.

    Args:
        checkpoint: what torch.load(weights_only=True) returned.
        resumes: whether a fit goes on from it, for which more must be there than weights.

    Raises:
        ValueError: names the key, what was expected there and what came.
    """
    require(isinstance(checkpoint, dict), "the file", "a Lightning checkpoint", checkpoint)
    for key, kind in (KEYS | KEYS_TO_RESUME).items():
        if resumes or key in KEYS:
            value = checkpoint.get(key)
            require(isinstance(value, kind) and type(value) is not bool, key, f"a value of type {kind.__name__}", value)
    require(all(type(key) is str for key in checkpoint), "the file", "a Lightning checkpoint", list(checkpoint))
    _require_version(checkpoint["pytorch-lightning_version"])
    for key, value in _leaves(checkpoint):
        if isinstance(value, Tensor):
            require(_is_whole(value), key, "a tensor with all of its numbers in the file", value)
        if key.startswith(OF_NUMBERS) and not _is_finite(value):
            raise ValueError(
                f"it holds {key.removeprefix('state_dict.')} with numbers that are not finite: train again"
            )


def require(holds: bool, key: str, expected: str, found: Any) -> None:
    """Raise a ValueError that names the key, what was expected there and what came, unless `holds`."""
    if not holds:
        got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else reprlib.repr(found)
        raise ValueError(f"{key}: expected {expected}, got {got}")


def _require_version(value: str) -> None:
    try:
        known = Version(value) >= Version("2.0")
    except InvalidVersion:
        known = False
    require(known, "pytorch-lightning_version", "2.0 or later", value)


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """All that is no container, with its key; without recursion, as nothing limits how deep a file goes."""
    remaining: list[tuple[str, Any, int]] = [("", value, 0)]
    while remaining:
        key, item, depth = remaining.pop()
        require(depth <= DEEPEST, key[:200], f"values nested at most {DEEPEST} deep", item)
        if isinstance(item, dict):
            remaining += [(f"{key}.{name!s:.100}".lstrip("."), inner, depth + 1) for name, inner in item.items()]
        elif isinstance(item, list | tuple | set):
            remaining += [(f"{key}[{number}]", inner, depth + 1) for number, inner in enumerate(item)]
        else:
            yield key, item


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor takes no more memory than it has in the file, and is no more than a tensor.

    A file can declare a tensor of any size over a single number, by strides of 0 or as one without storage, and can
    give it attributes of any name, such as those of methods.
    """
    if vars(tensor) or tensor.is_meta or tensor.is_quantized:
        return False
    if tensor.layout != torch.strided:
        return True  # its size says nothing of its memory; who takes it decides about its layout
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.ndim == 0:
        return True
    # The sum of finite numbers is finite, unless it overflows; summing makes no copy.
    return not value.is_floating_point() or bool(value.sum(dtype=torch.float64).isfinite())
