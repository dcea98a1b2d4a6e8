"""What the state of a datamodule may hold when it comes from a checkpoint, which anybody may have written."""

from typing import Any

import torch


def require(holds: bool, key: str, expected: str, found: Any) -> None:
    """Raise a ValueError that names the key, what was expected and what came, unless `holds`."""
    if not holds:
        plain = found is None or type(found) in (bool, int, float, str)
        raise ValueError(f"{key}: expected {expected}, got {f'{found!r:.60}' if plain else type(found).__name__}")


def are_names(value: Any) -> bool:
    """Whether a value is a list of different strings."""
    return type(value) is list and all(type(name) is str for name in value) and 0 < len(value) == len(set(value))


def are_counts(value: Any, length: int) -> bool:
    """Whether a value is a list of `length` numbers of rows."""
    return type(value) is list and len(value) == length and all(type(n) is int and 0 <= n < 2**53 for n in value)


def is_vector(value: Any, length: int | None = None, dtype: torch.dtype = torch.float32) -> bool:
    """Whether a value is a tensor of `length` (None: any number of) finite numbers of this type.

    One without memory, or with attributes that hide its methods, is none; torch.load lets both through.
    """
    dense = isinstance(value, torch.Tensor) and not vars(value) and value.layout == torch.strided and not value.is_meta
    numbers = dense and not value.is_quantized and value.dtype == dtype and value.ndim == 1
    return numbers and length in (None, len(value)) and bool(value.isfinite().all())
