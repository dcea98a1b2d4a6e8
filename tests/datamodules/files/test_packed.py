"""A list in little memory: what goes in comes out, in less than half of the room."""

import datetime
import tracemalloc

import pytest

from datamodules.files.packed import Packed

ITEMS = ["", "will it snow", "naïve ☕ 雪\r\n", {"id": 7, "when": datetime.date(2024, 2, 29), "half": "\ud83d"}, None]


def test_items_are_those_of_a_list():
    packed = Packed(ITEMS)
    assert packed == ITEMS
    assert list(packed) == ITEMS
    assert packed != ITEMS[:-1]
    assert [packed[index] for index in range(-5, 5)] == ITEMS * 2
    for index in (5, -6):
        with pytest.raises(IndexError):
            packed[index]
    packed.append("more")
    assert (len(packed), packed[5], packed[0]) == (6, "more", "")
    assert not Packed()


def test_rows_take_a_fraction_of_the_memory_of_a_list_of_them():
    def rows():
        return ({"id": str(number), "text": f"will it snow on day {number}"} for number in range(20_000))

    memory = []
    for kind in (list, Packed):
        tracemalloc.start()
        kept = kind(rows())
        memory.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(kept) == 20_000
    assert memory[1] < memory[0] / 3
