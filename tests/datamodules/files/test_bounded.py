"""Input without an end is refused in one line, before it fills the memory."""

import gzip
import io
import json
import sys

import pytest

from datamodules.files import readers
from datamodules.files.formats import LONGEST_TEXT


class Endless(io.RawIOBase):
    """The same byte for ever."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = b"y" * len(buffer)
        return len(buffer)


def test_a_file_or_standard_input_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LARGEST_FILE", 5_000_000)
    hole = tmp_path / "hole.csv"
    with hole.open("wb") as file:
        file.truncate(100_000_000_000)
    with pytest.raises(ValueError, match=r"hole\.csv: expected at most 5,000,000 bytes, got more; split it"):
        readers.read_labelled(hole, "text", "label")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Endless())))
    with pytest.raises(ValueError, match="standard input: expected at most 5,000,000 bytes, got more"):
        readers.read_inputs("-", "text")


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_field_of_a_table_that_is_too_long_is_refused_by_its_line(tmp_path, name):
    content = b"text,label\na,x\n" + b"y" * (LONGEST_TEXT + 1) + b",x\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=r"line 3: not a row of a csv file: field larger than field limit"):
        readers.read_labelled(tmp_path / name, "text", "label")


def test_a_text_in_json_that_is_too_long_is_refused_by_its_place(tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([{"text": "x" * (LONGEST_TEXT + 1), "label": "a"}]))
    with pytest.raises(ValueError, match=r"long\.json entry 1: expected at most 1,000,000 characters in 'text'"):
        readers.read_labelled(path, "text", "label")


def test_a_closed_standard_input_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as Python sets it where the descriptor is closed
    with pytest.raises(ValueError, match="standard input: expected texts, but it is closed"):
        readers.read_inputs("-", "text")
