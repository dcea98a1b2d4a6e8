"""Any single edit of a shipped config trains or is refused in one line, soon, and harms no file."""

import os

import pytest

from tests.tools.runs import finish

CONFIGS = ["iris_binary", "iris_ova", "xor_mlp", "text_csv", "clinc150"]


@pytest.mark.parametrize(
    "edits", [pytest.param(8, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.nightly)]
)
def test_any_edit_of_a_config_trains_or_is_refused_in_one_line(edits):
    """The edits fork a process of their own: this one has threads, and addresses of all the tests before."""
    names = [name for name in CONFIGS if name != "clinc150" or "CLINC150_DIR" in os.environ]
    finish("-m", "tests.tools.config_fuzz", edits, *names, seconds=7200)
