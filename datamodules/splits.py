"""Holding out samples for validation and test."""

from collections.abc import Sequence
from typing import Any


def stratified_split(labels: Sequence[Any], held_out: int | float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Choose samples to hold out at random, with every class in its proportion in both the rest and the held-out ones.

    Args:
        labels: N labels, of any kind that can be sorted.
        held_out: how many samples (int), or which share of them (float in (0, 1), rounded up).
        seed: of the choice.
        name: "val" or "test", for the error message.

    Returns:
        Positions of the samples to keep, and of those to hold out, both in random order.

    Raises:
        ValueError: too few samples, or a class with a single one.
    """
    from sklearn.model_selection import train_test_split  # slow to import, so not at the top

    try:
        kept, held = train_test_split(range(len(labels)), test_size=held_out, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ValueError(
            f"cannot hold out {held_out:g} of {len(labels)} rows for {name}: {error}; "
            f"raise {name}_fraction, or remove labels with a single row"
        ) from error
    return kept, held
