"""Many small objects in little memory."""

import pickle
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Packed(Sequence[T]):
    """A sequence that is bytes but for the item that is asked for.

    Short sentences take two thirds of the memory of a list of them, rows as dicts a third. What is unpickled here was
    pickled here, in this process. An index is one number, not a slice.

    Args:
        items: in their order.

    >>> rows = Packed([{"text": "will it snow"}, {"text": ""}])
    >>> len(rows), rows[-1]
    (2, {'text': ''})
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._content, self._ends = bytearray(), array("q")
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        self._content += pickle.dumps(item, protocol=3)  # later ones put each item in a frame
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self._ends))[index]
        start = self._ends[index - 1] if index else 0
        return pickle.loads(memoryview(self._content)[start : self._ends[index]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)
