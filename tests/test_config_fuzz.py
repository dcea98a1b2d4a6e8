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


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_40_edits_of_every_config_train_or_are_refused_in_one_line(name):
    """The command `python -m tests.tools.config_fuzz 500 NAME` makes more, for a quarter of an hour."""
    pytest.importorskip(f"datamodules.{name.partition('_')[0]}")
    if name == "clinc150" and "CLINC150_DIR" not in os.environ:
        pytest.skip("CLINC150_DIR names no copy of the data")
    assert fuzz(name, 40)[1] == []
