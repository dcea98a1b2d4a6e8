"""Any single edit of a shipped config trains or is refused in one line, soon, and harms no file."""

import os
import subprocess
import sys

import pytest

from tests.tools.config_fuzz import ROOT

CONFIGS = ["iris_binary", "iris_ova", "xor_mlp", "text_csv", "clinc150"]


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("iris_binary", 3),
        *(pytest.param(name, 8, marks=pytest.mark.slow) for name in CONFIGS),
        *(pytest.param(name, 500, marks=pytest.mark.nightly) for name in CONFIGS),
    ],
)
def test_any_edit_of_a_config_trains_or_is_refused_in_one_line(name, edits):
    """The edits fork a process of their own: this one has threads, and addresses of all the tests before."""
    if name == "clinc150" and "CLINC150_DIR" not in os.environ:
        pytest.skip("CLINC150_DIR names no copy of the data")
    command = [sys.executable, "-m", "tests.tools.config_fuzz", str(edits), name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
