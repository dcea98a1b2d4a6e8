"""Every name in a header is there once, and the user's are the user's."""

import pytest

from callbacks.column_names import disambiguate


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ([], ["label", "predicted_label", "row"]),
        (["text"], ["label", "predicted_label", "row"]),
        (["row"], ["label", "predicted_label", "predicted_row"]),
        (["label"], ["predicted_label", "predicted_predicted_label", "row"]),
        (["label", "predicted_label"], ["predicted_predicted_label", "predicted_predicted_predicted_label", "row"]),
    ],
)
def test_a_name_that_is_taken_gets_the_prefix_until_it_is_free(theirs, expected):
    assert disambiguate(["label", "predicted_label", "row"], theirs, "predicted_") == expected
