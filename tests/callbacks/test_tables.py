"""Tables of reports: cells that a spreadsheet would run, numbers as they were read, names that are taken."""

import csv

import pytest

from callbacks.tables import as_written, atomic_write_csv, disambiguate

FORMULAS = ["=1+1", "+49 30 1", "-cmd", "@sum", "\t=1", "\r=1"]
OTHERS = ["-1.5", "+3", "-1e-9", -2, "a=b", "", "'quoted'"]


@pytest.mark.parametrize("cell", [*FORMULAS, *OTHERS])
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe_and_no_other(tmp_path, cell):
    atomic_write_csv(tmp_path / "a.csv", ("name", cell), [("x", cell)])
    written = f"'{cell}" if cell in FORMULAS else str(cell)
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["name", written], ["x", written]]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], ["label", "predicted_label", "row"]),
        (["row"], ["label", "predicted_label", "predicted_row"]),
        (["label"], ["predicted_label", "predicted_predicted_label", "row"]),
        (["label", "predicted_label"], ["predicted_predicted_label", "predicted_predicted_predicted_label", "row"]),
    ],
)
def test_a_name_that_is_taken_gets_the_prefix_until_it_is_free(taken, expected):
    assert disambiguate(["label", "predicted_label", "row"], taken, "predicted_") == expected


def test_numbers_have_the_digits_they_were_read_from():
    values = [4.800000190734863, 0.1, 1e300, 16777217.0, float("nan"), 3, None, "Oslo"]
    assert [as_written(value) for value in values] == ["4.8", "0.1", "1e+300", "16777217.0", "nan", "3", "None", "Oslo"]
