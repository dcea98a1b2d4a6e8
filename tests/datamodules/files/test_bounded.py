"""Input without an end is refused in one line, before it fills the memory."""

import io
import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from datamodules.files.bounded import LONGEST_TEXT, read_bounded
from datamodules.files.readers import read_inputs, read_labelled


@pytest.fixture
def bounded_memory():
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * LONGEST_TEXT


class Endless(io.RawIOBase):
    """The same bytes for ever."""

    def __init__(self, content):
        self.content = content

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = (self.content * (1 + len(buffer) // len(self.content)))[: len(buffer)]
        return len(buffer)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_a_sparse_file_of_100_gb_is_refused_by_its_first_line(tmp_path, suffix, bounded_memory):
    path = tmp_path / f"hole{suffix}"
    with path.open("wb") as file:
        file.truncate(100_000_000_000)
    with pytest.raises(ValueError, match=r"hole\.\w+: expected lines of at most 1,000,000 bytes, got a longer one"):
        read_inputs(str(path), "text")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_device_without_end_is_refused(tmp_path, bounded_memory):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="got a longer one"):
        read_labelled(tmp_path / "zero.csv", "text", "label")


def test_standard_input_without_end_is_refused(monkeypatch, bounded_memory):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless(b"y"))))
    with pytest.raises(ValueError, match="standard input: expected lines of at most"):
        read_inputs("-", "text")


@pytest.mark.parametrize("by_line", [True, False])
def test_lines_without_end_are_refused(monkeypatch, by_line):
    monkeypatch.setattr("datamodules.files.bounded.LARGEST_FILE", 5_000_000)
    with pytest.raises(ValueError, match="pipe: expected at most 5,000,000 bytes, got more"):
        read_bounded("pipe", io.BufferedReader(Endless(b"y\n" if by_line else b"y")), by_line)


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
def test_a_line_may_be_as_long_as_a_text_wherever_it_begins(line_break):
    for before in (b"", b"x" * 10, b"x" * (LONGEST_TEXT - 3)):
        content = before + line_break + b"y" * LONGEST_TEXT + line_break + b"z"
        assert read_bounded("file", io.BytesIO(content), by_line=True) == content
        with pytest.raises(ValueError, match="got a longer one"):
            read_bounded("file", io.BytesIO(content.replace(b"z", b"z" * (LONGEST_TEXT + 1))), by_line=True)


def test_a_text_in_json_that_is_too_long_is_refused_by_its_place(tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{"text": "x" * (LONGEST_TEXT + 1), "label": "a"}]))
    with pytest.raises(ValueError, match=r"long\.json entry 1: expected at most 1,000,000 characters in 'text'"):
        read_labelled(path, "text", "label")


def test_a_closed_standard_input_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as Python sets it where the descriptor is closed
    with pytest.raises(ValueError, match="standard input: expected texts, but it is closed"):
        read_inputs("-", "text")
