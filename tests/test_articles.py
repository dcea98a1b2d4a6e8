"""docs/articles.md shows every claim of the two articles by something that exists and runs."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import from_scratch
from examples.lessons import LESSONS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/articles.md").read_text(encoding="utf-8")
ROWS = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
CLAIMS = [row for row in ROWS if row[0].isdigit()]
SLIPS = [row for row in ROWS if re.match(r"[12]: ", row[0])]
EVIDENCE = [row[-1] for row in CLAIMS + SLIPS]
KINDS = r"notebook (\d+)|lesson `(\w+)`|`(tests/[\w/]+\.py::\w+)`|`(configs/\w+\.yaml)`|`(examples/\w+\.py)`"


def named(kind):
    """What the evidence names of one kind, in the order of KINDS."""
    return {found[kind] for text in EVIDENCE for found in re.findall(KINDS, text) if found[kind]}


def test_all_90_claims_are_there_each_once_and_the_page_says_how_many():
    assert [int(row[0]) for row in CLAIMS] == list(range(1, 91))
    assert f"Together they make {len(CLAIMS)} claims" in PAGE
    assert len(SLIPS) == 10


def test_every_claim_is_shown_by_something_and_by_nothing_unknown():
    for text in EVIDENCE:
        parts = text.split(", ")
        assert all(re.fullmatch(KINDS, part) for part in parts), text


def test_every_test_that_shows_a_claim_exists():
    assert len(named(2)) > 30
    for path, _, name in (test.partition("::") for test in named(2)):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path} has no {name}"


def test_every_lesson_and_section_of_the_notebook_shows_a_claim_and_what_shows_one_exists():
    assert named(1) == set(LESSONS)
    source = (ROOT / "examples/logistic_regression.py").read_text(encoding="utf-8")
    assert named(0) == set(re.findall(r"^# ## (\d+)\. ", source, re.MULTILINE))
    assert [path for path in named(3) | named(4) if not (ROOT / path).is_file()] == []


def test_from_scratch_prints_loss_weights_and_gradients_that_are_not_zero(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["from_scratch.py"])
    from_scratch.main()
    *lines, accuracy = capsys.readouterr().out.splitlines()
    values = [re.search(r"loss ([\d.]+)  mean \|W\| ([\d.]+)  mean \|grad\| ([\d.e-]+)", line) for line in lines]
    assert len(values) == 11
    loss, weight, gradient = (list(map(float, column)) for column in zip(*(v.groups() for v in values), strict=True))
    assert loss[-1] < loss[0]
    assert weight[-1] > weight[0]
    assert 0 < gradient[-1] < gradient[0]
    assert accuracy == "training accuracy 0.970"


def run(*command):
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(name, marks=pytest.mark.nightly if n else pytest.mark.slow) for n, name in enumerate(LESSONS)],
)
def test_the_command_of_every_lesson_runs(lesson):
    assert "Expect " in run("-m", "examples.lessons", lesson)


@pytest.mark.slow
def test_from_scratch_runs_as_a_command():
    assert "training accuracy" in run("examples/from_scratch.py")


@pytest.mark.slow
@pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="CLINC150_DIR names no copy of the data")
def test_from_scratch_runs_on_clinc150():
    assert "step  590  loss " in run("examples/from_scratch.py", "--clinc150")
