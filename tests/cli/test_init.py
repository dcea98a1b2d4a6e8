"""What `python -m cli...` does before it has imported what it needs."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["cross_validate", "compare"])
def test_ctrl_c_while_a_command_imports_ends_in_one_line(command):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    process = subprocess.Popen([sys.executable, "-m", f"cli.{command}", "--help"], **options)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == ("", "stopped before anything was done\n")
    assert process.returncode != 0
