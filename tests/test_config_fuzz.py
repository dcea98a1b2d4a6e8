"""Any single edit of a shipped config trains or is refused in one line, soon, and harms no file."""

import os

import pytest

from tests.tools.config_fuzz import fuzz

CONFIGS = ["iris_binary", "iris_ova", "xor_mlp", "text_csv", "clinc150"]


@pytest.mark.parametrize("name", ["iris_binary", "text_csv"])
def test_a_few_edits_of_a_config_train_or_are_refused_in_one_line(name):
    pytest.importorskip(f"datamodules.{name.partition('_')[0]}")
    outcomes, wrong = fuzz(name, 3)
    assert wrong == []
    assert set(outcomes) <= {"fit", "refused"}


@pytest.mark.parametrize(
    "edits", [pytest.param(8, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("name", CONFIGS)
def test_many_edits_of_every_config_train_or_are_refused_in_one_line(name, edits):
    """The command `python -m tests.tools.config_fuzz 500 NAME` says what became of each."""
    pytest.importorskip(f"datamodules.{name.partition('_')[0]}")
    if name == "clinc150" and "CLINC150_DIR" not in os.environ:
        pytest.skip("CLINC150_DIR names no copy of the data")
    assert fuzz(name, edits)[1] == []
