"""What a fit and a prediction may hold in memory."""

import os
import shutil
from pathlib import Path

import pytest

from tests.tools.runs import finish, records

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
sys.argv += ["--trainer.accelerator", "cpu"]
main()
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="CLINC150_DIR names no copy of the data")
def test_fit_on_clinc150_needs_little_more_than_the_libraries_w_its_gradient_and_the_sparse_rows(tmp_path):
    output = finish("-c", MEASURE, tmp_path / "run")
    assert float(output.split()[-1]) <= 150  # MB; rows as a dense matrix would take 604


PREDICT = """
import resource, sys
from cli.main import main

def peak_after(lines):  # MB
    command = ["predict", "--config", "configs/text_csv.yaml", "--ckpt_path", sys.argv[1] + "/checkpoints/best.ckpt"]
    where = ["--data.predict_file", f"{sys.argv[1]}/{lines}", "--trainer.default_root_dir", f"{sys.argv[1]}/of_{lines}"]
    arguments, sys.argv[1:] = sys.argv[1:], [*command, *where]
    main()
    sys.argv[1:] = arguments
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

few, many = peak_after("few.txt"), peak_after(sys.argv[2])
print(many - few)
"""


@pytest.mark.parametrize(
    "name", [pytest.param("many.txt", marks=pytest.mark.nightly), pytest.param("many.csv", marks=pytest.mark.slow)]
)
def test_predicting_200_000_sentences_needs_little_more_than_predicting_six(short_fit, tmp_path, name):
    run = Path(shutil.copytree(short_fit("text_csv"), tmp_path / "run"))
    sentences = [f"will it snow in town {number % 977} on day {number}, or what?" for number in range(200_000)]
    (run / "few.txt").write_text("\n".join(sentences[:6]))
    lines = sentences if name == "many.txt" else ["id,text", *(f'{n},"{text}"' for n, text in enumerate(sentences))]
    (run / name).write_text("\n".join(lines))
    output = finish("-c", PREDICT, run, name)
    assert float(output.split()[-1]) <= 120  # MB, so that a million need no more than 600
    assert [record["text"] for record in records(run / f"of_{name}")[::999]] == sentences[::999]
