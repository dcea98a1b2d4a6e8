"""What a fit may hold in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MEASURE = """
import resource, sys
import sklearn.feature_extraction.text, sklearn.model_selection, tensorboard, torch, torch.utils.tensorboard
from cli.main import main

def peak():  # MB so far
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

W, gradient, rows = torch.ones(10_000, 151), torch.ones(10_000, 151), torch.ones(15_100 * 15 * 2)
before = peak()
del W, gradient, rows
sys.argv = ["train.py", "fit", "--config", "configs/clinc150.yaml", "--trainer.default_root_dir", sys.argv[1]]
main()
print(peak() - before, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="CLINC150_DIR names no copy of the data")
def test_fit_on_clinc150_needs_little_more_than_the_libraries_w_its_gradient_and_the_sparse_rows(tmp_path):
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.split()[-1]) <= 150  # MB; rows as a dense matrix would take 604
