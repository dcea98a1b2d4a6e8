"""Any single edit of a shipped config trains or is refused in one line, soon, and harms no file."""

import os
import subprocess
import sys

import pytest

from tests.tools.config_fuzz import ROOT

CONFIGS = ["iris_binary", "iris_ova", "xor_mlp", "text_csv", "clinc150"]


@pytest.mark.parametrize(
    "edits", [pytest.param(8, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.nightly)]
)
def test_any_edit_of_a_config_trains_or_is_refused_in_one_line(edits):
    """The edits fork a process of their own: this one has threads, and addresses of all the tests before."""
    names = [name for name in CONFIGS if name != "clinc150" or "CLINC150_DIR" in os.environ]
    command = [sys.executable, "-m", "tests.tools.config_fuzz", str(edits), *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
