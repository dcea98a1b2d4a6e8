"""What `python -m cli...` does before it has imported what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argument", "error", "said"),
    [
        ("-m", "KeyboardInterrupt", "stopped before anything was done\n"),
        ("-m", "RuntimeError('other errors')", "RuntimeError: other errors\n"),
        ("pytest", "KeyboardInterrupt", "KeyboardInterrupt\n"),
    ],
)
def test_ctrl_c_while_a_command_imports_ends_in_one_line(argument, error, said):
    # While Python imports the package of `python -m cli.audit`, "-m" is all there is of its arguments.
    code = f"import sys; sys.argv = [{argument!r}]; import cli; raise {error}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr.endswith(said)
    assert done.stderr.startswith("stopped") == (said == "stopped before anything was done\n")
