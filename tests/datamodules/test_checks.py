"""What the log says of data that is likely to be mistaken."""

import pytest

from datamodules.checks import few_to_choose_by, label_oddities


def test_labels_that_only_spaces_or_capitals_tell_apart_are_named_with_their_rows():
    differ = "differ only by spaces, capitals, a .0 or what cannot be seen"
    [line] = label_oddities(["a", "weather", "weather ", "weather", "Rain  fall", "rain fall"])
    assert f"'Rain  fall' (1 rows), 'rain fall' (1 rows) {differ} (1 more such groups)" in line
    [line] = label_oddities(["weather", "weather ", "weather", "a"])
    assert f"'weather' (2 rows), 'weather ' (1 rows) {differ}: make them one" in line


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9\u200b", "\ufeffcaf\u00e9", "caf\u00e9\u00a0"])
def test_labels_that_look_the_same_are_named(other):
    [line] = label_oddities(["caf\u00e9", other, "tea"])
    assert "differ only by" in line


def test_labels_that_are_one_whole_number_are_named():
    [line] = label_oddities(["1", "1.0", "0", "0.0", "nan", "Infinity"])
    differ = "differ only by spaces, capitals, a .0 or what cannot be seen"
    assert f"the labels '0' (1 rows), '0.0' (1 rows) {differ} (1 more such groups)" in line
    assert label_oddities(["12345678901234567", "12345678901234568", "1e999999"]) == []  # one float, but two ids


def test_a_label_of_nearly_all_rows_is_named_with_its_share():
    [line] = label_oddities(["usual"] * 199 + ["rare"])
    assert "199 of 200 rows (99.5%) have the label 'usual'" in line


def test_a_choice_on_few_validation_rows_is_said_to_be_uncertain():
    assert few_to_choose_by(100) == []
    [line] = few_to_choose_by(25)
    assert line.startswith("25 validation rows are few to choose anything by")
    assert "standard error of up to 10 points" in line and "see --refit in" in line
