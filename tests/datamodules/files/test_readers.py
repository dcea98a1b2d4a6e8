"""Files that nothing has checked before: every format, every way to be wrong, and any bytes at all."""

import csv
import gzip
import io
import json
import sys
from datetime import timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.files import formats, readers
from datamodules.files.cells import as_label
from datamodules.files.readers import read_inputs, read_labelled

SENTENCES = ["will it snow", 'say "hello", twice', "first\nsecond line", "naïve café ☕", "a\u2028b\u0085c", "=1+1"]
LABELS = ["weather", "chat", "multi, line", "drinks", "separators", "sums"]
EXAMPLES = [50, pytest.param(2_000, marks=pytest.mark.nightly)]  # hypothesis examples per property


def profile(examples):
    """The short run is the same every time; an example that takes ten seconds counts as a hang."""
    return settings(max_examples=examples, derandomize=examples < 1_000, deadline=timedelta(seconds=10), database=None)


def table(rows, delimiter=",", ends="\r\n"):
    """Rows as the bytes of a CSV or TSV file. All quoted, for Python 3.11 forgets to quote a lone carriage return."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def encoded(suffix, texts, labels, ends="\r\n", text_column="text", label_column="label"):
    """The same labelled texts in any format."""
    if suffix in (".csv", ".tsv"):
        rows = [(text_column, label_column), *zip(texts, labels, strict=True)]
        return table(rows, "," if suffix == ".csv" else "\t", ends)
    objects = [{text_column: text, label_column: label} for text, label in zip(texts, labels, strict=True)]
    if suffix == ".json":
        return json.dumps(objects).encode()
    return b"".join(json.dumps(o, ensure_ascii=False).encode() + ends.encode() for o in objects)


def read_texts(path, column):
    return read_inputs(path, column)[0]


def refusal(read, path, *columns):
    """The message of the one ValueError that reading must raise: its own words, in one line, naming the file."""
    with pytest.raises(ValueError) as caught:
        read(str(path), *columns)
    message = str(caught.value)
    assert caught.type is ValueError, f"{caught.type.__name__}: {message}"
    assert str(path) in message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1_000
    return message


# --- every format ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".CSV", ".JSONL"])
def test_quotes_commas_newlines_and_any_script_come_back_as_written(tmp_path, suffix, ends):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(encoded(suffix.lower(), SENTENCES, LABELS, ends))
    assert read_labelled(path, "text", "label") == (SENTENCES, LABELS)
    assert read_texts(str(path), "text") == SENTENCES


def test_a_txt_file_holds_one_text_a_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b'\xef\xbb\xbfwill it snow\r\n\r\n  \nplay, "this"\nlast line without an end\xe2\x80\xa8...')
    expected = ["will it snow", "", "", 'play, "this"', "last line without an end\u2028..."]
    assert read_texts(str(path), "text") == expected  # as many as there are lines
    path.write_bytes(b"a\rb\r")  # as an old Mac ends them
    assert read_texts(str(path), "text") == ["a", "b"]


def standard_input(monkeypatch, content, errors="strict"):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors=errors))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_dash_reads_standard_input_one_text_a_line_without_a_byte_order_mark(monkeypatch, mark):
    standard_input(monkeypatch, mark + b"will it snow\n\nplay this\r\n")
    assert read_texts("-", "text") == ["will it snow", "", "play this"]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # the latter is Python's choice where LANG is C
@pytest.mark.parametrize(
    "content, message",
    [(b"", "at least one text"), (b"\n \r\n", "at least one text"), (b"snow\ncaf\xe9\n", "UTF-8, got byte 0xe9")],
)
def test_bad_lines_of_texts_are_refused_in_one_line_by_the_name_of_file_or_standard_input(
    tmp_path, monkeypatch, content, message, errors
):
    (tmp_path / "texts.txt").write_bytes(content)
    assert f"expected {message}" in refusal(read_texts, tmp_path / "texts.txt", "text")
    standard_input(monkeypatch, content, errors)
    with pytest.raises(ValueError, match=f"standard input: expected {message}"):
        read_texts("-", "text")


# --- files as people have them --------------------------------------------------------------------------------------


ROWS = [("text", "label"), ("will it snow", "weather"), ("play it", "music")]
EXPECTED = (["will it snow", "play it"], ["weather", "music"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_the_header_tells_what_separates_the_columns_whatever_the_suffix(tmp_path, suffix, delimiter):
    path = tmp_path / f"rows{suffix}"
    path.write_text("".join(delimiter.join(row) + "\n" for row in ROWS))
    assert read_labelled(path, "text", "label") == EXPECTED


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_utf_8_with_or_without_a_mark_and_utf_16_are_told_apart(tmp_path, encoding, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(encoded(suffix, SENTENCES, LABELS).decode().encode(encoding))
    assert read_labelled(path, "text", "label") == (SENTENCES, LABELS)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_a_compressed_file_is_read_as_what_it_holds(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}.gz"
    path.write_bytes(gzip.compress(encoded(suffix, SENTENCES, LABELS)))
    assert read_labelled(path, "text", "label") == (SENTENCES, LABELS)
    lines = tmp_path / "lines.txt.gz"
    lines.write_bytes(gzip.compress(b"a\nb\n"))
    assert read_texts(str(lines), "text") == ["a", "b"]


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text,label\na,x\n" * 99)[:-20]], ids=["other", "cut"])
def test_a_damaged_compressed_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(content)
    assert "expected a file that gzip has compressed" in refusal(read_labelled, path, "text", "label")


@pytest.mark.parametrize("suffix", [".parquet", ".parquet.gz"])
def test_parquet_is_read_with_all_columns(tmp_path, suffix):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"id": [7, 8], "text": EXPECTED[0], "label": pyarrow.array(EXPECTED[1]).dictionary_encode()}
    path = tmp_path / f"rows{suffix}"
    parquet.write_table(pyarrow.table(columns), tmp_path / "plain")
    content = (tmp_path / "plain").read_bytes()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    assert read_labelled(path, "text", "label") == EXPECTED
    assert [row["id"] for row in read_inputs(str(path), "text")[1]] == [7, 8]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text,label\na,x\n", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_what_is_no_parquet_is_refused_in_one_line(tmp_path, content):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)
    assert "expected a Parquet file" in refusal(read_labelled, path, "text", "label")


def test_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    assert "pip install pyarrow" in refusal(read_labelled, tmp_path / "rows.parquet", "text", "label")


def test_several_files_are_read_one_after_the_other(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text;label\na;x\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"label": "y", "text": "b"}')
    assert read_labelled([tmp_path / "b.jsonl", str(tmp_path / "a.csv")], "text", "label") == (["b", "a"], ["y", "x"])


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", b"text,label\ra,x\rb,y\r"),
        ("a.tsv", b"text\tlabel\ra\tx\rb\ty"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\r{"text": "b", "label": "y"}\r'),
        ("a.json", b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'),  # lines, though not called so
        ("a.jsonl", b'[\n{"text": "a", "label": "x"},\n{"text": "b", "label": "y"}]\n'),  # a list, likewise
        ("a.csv", b"text,,label,\na,,x,\nb,,y,\n"),
        ("a.csv", b"text,note,label,note\na,1,x,2\nb,3,y,4\n"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y", "more": 1}'),
        ("a.ndjson", b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'),
        ("a.csv", b"text|label\na|x\nb|y\n"),
        ("a.csv", b"text, label\na, x\nb, y\n"),
        ("a.csv", b"id,label,text\n1,x,a\n2,y,b\n"),
        ("a.csv", b"\ntext,label\n\na,x\n\n\nb,y\n\n"),
        ("a.jsonl", b'\n{"text": "a", "label": "x"}\n\n  \n{"text": "b", "label": "y", "more": {}}\n\n'),
        ("a.json", b'[{"text": "a", "label": "x", "more": [1.5, null]}, {"text": "b", "label": "y"}]'),
    ],
)
def test_odd_files_whose_rows_are_certain_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_labelled(tmp_path / name, "text", "label") == (["a", "b"], ["x", "y"])


@pytest.mark.parametrize(
    "written, label",
    [
        *(("7", "7"), ("2.0", "2"), ("-1.0", "-1"), ("0.5", "0.5"), ("true", "true")),
        *(('"2024-05-01T00:00:00"', "2024-05-01"), ('"none"', "none")),
    ],
)
def test_any_value_is_a_label_as_a_csv_file_has_it(tmp_path, written, label):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "label": {written}}}')
    (tmp_path / "a.csv").write_text(f"text,label\na,{label}\n")
    for name in ("a.jsonl", "a.csv"):
        assert read_labelled(tmp_path / name, "text", "label") == (["a"], [label])


@pytest.mark.parametrize(
    "written, labels",
    [
        ([True, False], ["true", "false"]),
        ([1.0, -20.0], ["1", "-20"]),
        ([0.5, 1.0], ["0.5", "1"]),
        (["1.1", "1.10"], ["1.1", "1.10"]),  # texts, as versions are
        (["007.0", "TRUE"], ["007.0", "true"]),
    ],
)
def test_a_frame_has_the_same_labels_from_every_kind_of_file(tmp_path, written, labels):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"text": ["a", "b"], "label": written})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_json(tmp_path / "a.json", orient="records")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert read_labelled(path, "text", "label") == (["a", "b"], labels)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoted", ['"a', '"a" and b', '"'])
def test_a_quote_that_quotes_nothing_is_refused_by_its_line(tmp_path, quoted, suffix):
    lines = [("label", "text"), ("x", quoted), ("y", "b"), ("z", 'c"'), ("z", "d")]
    (tmp_path / f"a{suffix}").write_text("\n".join((";" if suffix == ".csv" else "\t").join(line) for line in lines))
    message = refusal(read_labelled, tmp_path / f"a{suffix}", "text", "label")
    assert "line 4: a quoted field holds what could be rows" in message or "line 2: not a row of a" in message


def test_quotes_that_quote_are_no_part_of_the_text_in_a_tsv_too(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b'text\tlabel\n"say ""a"" and\nmore"\tx\n"b\tc"\ty\n')
    assert read_labelled(tmp_path / "a.tsv", "text", "label") == (['say "a" and\nmore', "b\tc"], ["x", "y"])


def test_rows_without_a_label_are_left_out_with_their_number(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,NA\nc,nan\nd,\ne,y\n")
    assert read_labelled(tmp_path / "a.csv", "text", "label", drop_unlabelled=True) == (["a", "e"], ["x", "y"])
    assert "note: 3 of 5 rows" in capsys.readouterr().err


def test_all_bad_rows_are_named_at_once(tmp_path):
    rows = [{"text": "a", "label": "x"}, {"text": None, "label": "x"}, {"text": "b"}, {"text": "c", "label": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = refusal(read_labelled, tmp_path / "a.jsonl", "text", "label")
    assert "line 2: expected text in 'text', got NoneType; 2 more bad rows: line 3, line 4" in message
    (tmp_path / "b.csv").write_bytes(b"text,label\n" + b",x\n" * 5_000)
    message = refusal(read_labelled, tmp_path / "b.csv", "text", "label")
    assert "4999 more bad rows: line 3, line 4," in message and message.endswith("line 22, ...")


def test_rows_to_predict_keep_their_columns_and_an_empty_text(tmp_path):
    (tmp_path / "q.csv").write_bytes(b"id,text\n1,snow\n2,\n3,  \n")  # and need no label
    texts, rows = read_inputs(str(tmp_path / "q.csv"), "text")
    assert texts == ["snow", "", ""]
    assert rows == [{"id": "1", "text": "snow"}, {"id": "2", "text": ""}, {"id": "3", "text": "  "}]
    (tmp_path / "q.jsonl").write_bytes(b'{"text": null, "id": 1}\n{"text": "snow", "day": []}')
    texts, rows = read_inputs(str(tmp_path / "q.jsonl"), "text")
    assert texts == ["", "snow"]
    assert rows == [{"text": None, "id": 1}, {"text": "snow", "day": []}]


# --- every way to be wrong ------------------------------------------------------------------------------------------

NO_COLUMNS = "expected a column 'text', 'label'"
ENDS_IN = "ends in one of .csv, .tsv, .json, .jsonl, .parquet, each perhaps with .gz; convert it"
BAD = {
    "missing text column": ("a.csv", b"sentence,label\na,x\n", r"expected a column 'text', got .*sentence.*label"),
    "missing label column": ("a.tsv", b"text\tintent\na\tx\n", r"expected a column 'label', got .*text.*intent"),
    "marks in a tsv": ("a.tsv", b"text!label\na!x\n", f"{NO_COLUMNS}, got 'text!label'; name the columns"),
    "no header": ("a.csv", b"a,x\nb,y\n", f"{NO_COLUMNS}, got 'a', 'x'; .* put a header line on top"),
    "missing key": ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b"}\n', r"line 2: expected a column 'label'"),
    "missing key in a list": ("a.json", b'[{"text": "a"}]', r"entry 1: expected a column 'label'"),
    "object without fields": ("a.jsonl", b"{}\n", r"line 1: expected a column 'text', got none"),
    "empty csv": ("a.csv", b"", r"at least one row"),
    "empty tsv": ("a.tsv", b"\n\n", r"at least one row"),
    "empty json": ("a.json", b"", r"expected JSON"),
    "empty list": ("a.json", b"[]", r"at least one row"),
    "empty jsonl": ("a.jsonl", b"\n", r"at least one row"),
    "only a byte order mark": ("a.csv", b"\xef\xbb\xbf", r"at least one row"),
    "header only": ("a.csv", b"text,label\n", r"at least one row"),
    "empty text": ("a.csv", b'text,label\na,x\n"",x\n', r"line 3: expected text in 'text', got an empty field"),
    "blank text": ("a.jsonl", b'{"text": " \\t\\n", "label": "x"}', r"line 1: .*'text', got an empty field"),
    "empty label": ("a.csv", b"text,label\na,\n", r"line 2: expected text in 'label', got an empty field"),
    "too many columns": ("a.csv", b'text,label\n"a\nb",x\na, b,x\n', r"line 4: expected 2 columns.*got 3"),
    "too few columns": ("a.csv", b"text,label\na,x\nb\n", r"line 3: expected 2 columns.*got 1"),
    "open quote": ("a.csv", b'text,label\n"a,x\nb,y\n', r"line 3: not a row of a csv file.* starts in line 2"),
    "text after a quote": ("a.csv", b'text,label\n"a"b,x\n', r"line 2: not a row of a csv file"),
    "text after a quote in a tsv": ("a.tsv", b'"text"\tlabel\n"a"b\tx\n', r"line 2: not a row of a tsv file"),
    "lone quotes": ("a.csv", b'text,label\n"a,x\nb,y\nc",z\n', r"line 4: a quoted field holds what could be rows"),
    "huge field": ("a.csv", b'text,label\n"' + b"a\n" * 500_001 + b'",x\n', r"not a row.*field larger"),
    "a page of HTML": ("a.csv", b"<!DOCTYPE html>\n", r"line 1: expected a column 'text', 'label', got '<!DOCTYPE"),
    "Excel's line": ("a.csv", b"sep=;\r\ntext;label\r\na;x\r\n", r"line 1: .*got a note to Excel, sep=: remove"),
    "pandas' own JSON": ("a.json", b'{"text": {"0": "a"}, "label": {"0": "x"}}', r"got dict; with pandas, to_json"),
    "UTF-16 without a mark": ("a.csv", "text,label\n".encode("utf-16-le"), rf"{NO_COLUMNS}, got 't\\x00"),
    "Latin-1": ("a.csv", b"text,label\ncaf\xe9,x\n", r"expected UTF-8, got byte 0xe9 at 14"),
    "half of UTF-16": ("a.csv", "text,label\na,x\n".encode("utf-16")[:-1], r"expected UTF-16, got byte 0x0a at 30"),
    "Latin-1 in jsonl": ("a.jsonl", b'{"text": "caf\xe9", "label": "x"}', r"expected UTF-8"),
    "broken json": ("a.json", b'[{"text": "a", "label": "x"},', r"expected JSON"),
    "broken jsonl": ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": ', r"line 2: expected JSON"),
    "json with two values": ("a.jsonl", b'{"text": "a", "label": "x"} {"text": "b", "label": "y"}', r"line 1: .*JSON"),
    "object instead of list": ("a.json", b'{"text": "a", "label": "x"}', r"expected a list of objects, got dict"),
    "list of lists": ("a.json", b'[["a", "x"]]', r"entry 1: expected an object with named fields, got list"),
    "list of texts": ("a.jsonl", b'"a"\n', r"line 1: expected an object with named fields, got str"),
    "null": ("a.json", b'[{"text": null, "label": "x"}]', r"entry 1: expected text in 'text', got NoneType"),
    "list of words": ("a.jsonl", b'{"text": ["a"], "label": "x"}', r"line 1: expected text in 'text', got list"),
    "map as a label": ("a.jsonl", b'{"text": "a", "label": {"x": 1}}', r"line 1: expected one label per row, got"),
    "NA as a label": ("a.csv", b"text,label\na,NA\n", r"line 2: .*'label', got 'NA'; --data.drop_unlabelled true"),
    "endless number": ("a.jsonl", b'{"text": "a", "label": ' + b"1" * 10_000 + b"}", r"line 1: expected JSON"),
    "deep lists": ("a.json", b"[" * 200_000, r"expected JSON"),
    "deep objects": ("a.jsonl", b'{"a":' * 200_000, r"line 1: expected JSON"),
    "half a character": ("a.jsonl", b'{"text": "a \\ud83d", "label": "x"}', r"line 1: .*'text'"),
    "half a character in a label": ("a.json", b'[{"text": "a", "label": "\\udc00"}]', r"entry 1: .*'label'"),
    "line break in a column's name": ("a.csv", b'"te\nxt",label\na,x\n', r"expected a column 'text'"),
    "thousands of columns": ("a.csv", table([map(str, range(5_000)), ["x"] * 5_000]), r"expected a column 'text'"),
    "the same column twice": ("a.csv", b"text,label,text\na,x,b\n", r"'text'.*(twice|more than once|two columns|2)"),
    "unknown suffix": ("a.xlsx", b"text,label\na,x\n", f"expected a file that {ENDS_IN}"),
    "no suffix": ("data", b"text,label\na,x\n", f"expected a file that {ENDS_IN}"),
    "zip of unknown suffix": (
        "a.xlsx",
        b"PK\x03\x04\xff",
        r"a.xlsx: expected a text file, got a zip or Excel file",
    ),
    "zip file called a CSV file": ("a.csv", b"PK\x03\x04\xff\xfe", r"a.csv: expected a text file, got a zip or Excel"),
    "gzip file called a CSV file": ("a.csv", b"\x1f\x8b\x08\x00", r"a.csv: .* packed by gzip: call it a.csv.gz"),
    "row of several lines": ("a.csv", b'text,label\n"a\nb",\nc,x\n', r"line 2: expected text in 'label', got an empty"),
}


@pytest.mark.parametrize("name, content, message", BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    said = refusal(read_labelled, path, "text", "label")
    with pytest.raises(ValueError, match=message):
        raise ValueError(said)
    assert path.read_bytes() == content


def test_a_txt_file_has_no_labels_so_training_on_it_is_refused_without_recommending_it(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes(b"will it snow\n")
    message = refusal(read_labelled, path, "text", "label")
    assert ".csv" in message and ".txt" not in message.replace(str(path), "")


def test_a_file_that_is_not_there_or_is_a_folder_is_an_os_error_that_names_it(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("missing.csv", "folder.csv", "missing.txt"):
        with pytest.raises(OSError, match=name):
            read_texts(str(tmp_path / name), "text")
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        read_labelled(tmp_path / "missing.csv", "text", "label")


# --- any bytes at all -----------------------------------------------------------------------------------------------

pieces = st.sampled_from([
    *(b'"', b'""', b",", b"\t", b"\n", b"\r\n", b"\r", b"text", b"label", b"text,label\n", b"text\tlabel\n", b"a"),
    *(b"\x00", b"{", b"}", b"[", b"]", b":", b'"text"', b'"label"', b'{"text": "a", "label": "x"}', b"null", b"1e999"),
    *(b'{"text": "\\ud800", "label": "x"}', b"NaN", b"\xef\xbb\xbf", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\"),
    *(b"\xe2\x80\xa8", b"\xc3\xa9", b" ", b"-0", b"[" * 3_000),
])  # fmt: skip
almost_a_file = st.lists(pieces, max_size=30).map(b"".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("text"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "", "b"]), inner, max_size=4)
    ),
    max_leaves=12,
)
almost_json = st.lists(json_values.map(json.dumps), max_size=4).map("\n".join).map(str.encode)
any_bytes = st.binary(max_size=200) | almost_a_file | almost_json


def check_rows_or_one_refusal(path, read, *columns):
    try:
        found = read(str(path), *columns)
    except ValueError:
        refusal(read, path, *columns)
        return
    for texts in found if isinstance(found, tuple) else [list(filter(None, found))]:  # some to predict may be empty
        assert texts and all(isinstance(text, str) and text.strip() for text in texts)
        "".join(texts).encode()  # whatever was read can be written again


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize(
    ("suffix", "read", "columns"),
    [
        *((suffix, read_labelled, ("text", "label")) for suffix in (".csv", ".tsv", ".json", ".jsonl")),
        *((suffix, read_texts, ("text",)) for suffix in (".csv", ".jsonl", ".txt")),
    ],
)
def test_any_bytes_are_rows_or_one_refusal(tmp_path, suffix, read, columns, examples):
    path = tmp_path / f"any{suffix}"

    @profile(examples)
    @given(any_bytes)
    def holds(content):
        path.write_bytes(content)
        check_rows_or_one_refusal(path, read, *columns)

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_large_csv_file_is_read_or_refused_as_a_small_one(tmp_path, monkeypatch, examples):
    pytest.importorskip("pyarrow")
    path, read_by_columns, clean_columns = tmp_path / "any.csv", [], formats.clean_columns

    def counted(*arguments):
        read_by_columns.append(clean_columns(*arguments))
        return read_by_columns[-1]

    monkeypatch.setattr(readers, "clean_columns", counted)
    header = st.sampled_from([b"text,label", b"\xef\xbb\xbflabel,text", b"label;text", b"text, label", b"label,label"])
    cell = st.sampled_from([b"a b", b"x", b"7", b"2024-05-01T00:00:00", b"a\0b", b"\xc3\xa9", b" y\xe2\x80\xa8"])
    odd = st.sampled_from([b"a,b,x", b"a", b"", b" ", b"a,NA", b",x", b" ,x", b"a,\xff"])
    rows = st.lists(st.tuples(cell, cell).map(b",".join), min_size=1, max_size=4)
    ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r"])
    files = st.builds(lambda end, *parts: end.join([parts[0], *parts[1], *parts[2]]),
                      ends, header, rows, st.just([]) | st.lists(odd, max_size=1))  # fmt: skip

    def outcome(size):
        monkeypatch.setattr(formats, "LARGE", size)
        try:
            return read_labelled(path, "text", "label")
        except ValueError as error:
            return str(error)

    @profile(4 * examples)
    @given(files | any_bytes)
    def holds(content):
        path.write_bytes(content)
        assert outcome(0) == outcome(10**9)

    holds()
    assert sum(map(bool, read_by_columns)) > examples / 4


# --- and back again -------------------------------------------------------------------------------------------------

fields = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
special = st.sampled_from(
    ['"', '""', ",", "\n", "\r", "\r\n", "\t", "'", "\\", "\x00", "\ufeff", "\u2028", "null", "0", "{}"]
)
values = st.lists(fields | special, min_size=1, max_size=4).map("".join).filter(str.strip)
names = values.map(str.strip)  # spaces around a name in a header are none of it
is_a_label = lambda text: as_label(text) == text  # noqa: E731


@pytest.mark.parametrize("header", ["text, label ", '"text"," label "', "text, label ,label"])
def test_a_column_is_found_by_its_name_with_the_spaces_around_it(tmp_path, header):
    path = tmp_path / "spaces.csv"
    path.write_text(f"{header}\nhello,greeting{',x' * (header.count(',') - 1)}\n", encoding="utf-8")
    assert read_labelled(path, "text", " label ") == (["hello"], ["greeting"])
    assert read_labelled(path, "text", "label") == (["hello"], ["x" if header.endswith(",label") else "greeting"])


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_any_texts_and_labels_written_come_back_the_same(tmp_path, suffix, examples):
    path = tmp_path / f"any{suffix}"

    @profile(examples)
    @given(
        rows=st.lists(st.tuples(values, values.filter(is_a_label)), min_size=1, max_size=8),
        names=st.tuples(names, names).filter(lambda pair: pair[0] != pair[1]),
        mark=st.booleans(),
        ends=st.sampled_from(["\n", "\r\n"]),
    )
    def holds(rows, names, mark, ends):
        if suffix in (".csv", ".tsv") and sys.version_info < (3, 11):  # whose csv module refuses NUL
            assume("\0" not in "".join(map("".join, (*rows, names))))
        texts, labels = map(list, zip(*rows, strict=True))
        content = encoded(suffix, texts, labels, ends, *names)
        # Without a mark of its own a file that starts with U+FEFF starts with a mark.
        path.write_bytes(b"\xef\xbb\xbf" + content if mark or content.startswith(b"\xef\xbb\xbf") else content)
        assert read_labelled(path, *names) == (texts, labels)
        assert read_texts(str(path), names[0]) == texts

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_lines_written_to_a_txt_file_come_back_the_same(tmp_path, examples):
    path = tmp_path / "any.txt"
    line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1).filter(str.strip)

    @profile(examples)
    @given(st.lists(line, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
    def holds(lines, ends):
        path.write_bytes(ends.join(lines).encode("utf-8-sig"))
        assert read_texts(str(path), "text") == lines

    holds()
