"""The notebook is its text source, teaches by writing and checking, runs alone, and gives the committed numbers."""

import ast
import contextlib
import inspect
import io
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("jupytext", reason='needs pip install -e ".[learn]"')
pytest.importorskip("nbclient", reason='needs pip install -e ".[learn]"')

import nbformat
import torch
import torch.nn.functional as F

from examples import lessons
from examples.article_module import ArticleModule
from tests.tools.notebook import LESSONS, NOTEBOOK, SOURCE, executed, from_source, lesson_in_markdown

RELATIVE, ABSOLUTE = 0.01, 0.005  # by how much a number may differ on another machine or with another torch
NUMBER = re.compile(r"(?<![\w.])[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
TITLES = (
    *("The points", "The sigmoid", "Likelihood, and the loss", "The module, trained", "The boundary"),
    *("The learning rate", "One-vs-all", "XOR", "The cure", "Imbalance", "Softmax", "Cross-entropy", "The gradient"),
    *("Steepest", "The six steps", "Forgetting to zero", "The penalty", "Under Lightning"),
    *("A sentence becomes a row", "The impartial judge"),
)
VARYING = ("batch_size", "predict", "forget_to_zero")  # times; a loss that rounding decides
FOLDED = re.compile(r"<details><summary>Answer</summary>\n\n```python\n(.*?)```.*</details>", re.DOTALL)


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


def sections(notebook):
    """The cells of each section by its title."""
    found = {}
    for cell in notebook.cells:
        if title := re.match(r"## \d+\. (.*)", cell.source):
            found[title[1]] = []
        if found:
            list(found.values())[-1].append(cell)
    return found


def printed(cells):
    """What code cells show as text."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(o["text"] if o.output_type == "stream" else o["data"].get("text/plain", "") for o in outputs)


def pictures(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for o in outputs for kind in o.get("data", {}) if kind.startswith("image/")]


def numbers(text):
    return [float(number.replace("−", "-").replace(",", "")) for number in NUMBER.findall(text)]


def words(text):
    return NUMBER.sub("#", text).split()


def test_the_notebook_is_its_source_and_holds_all_outputs(committed):
    source = from_source()
    assert [(c.cell_type, c.source, c.id) for c in committed.cells] == [
        (c.cell_type, c.source, c.id) for c in source.cells
    ]
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # run once, from top to bottom


def test_every_section_has_an_idea_a_prediction_code_something_to_see_and_an_exercise_with_a_check(committed):
    found = sections(committed)
    assert tuple(found) == TITLES
    for title, cells in found.items():
        idea, _, prediction = cells[0].source.partition("\n\n")[2].partition("**Predict.**")
        assert 3 <= len(re.findall(r"[.?]( |\n|$)", idea)) <= 9, title
        assert "?" in prediction, title  # asked before the code
        assert pictures(cells) or printed(cells).strip(), title
        exercise, answer = cells[-2:]
        assert "**Exercise" in cells[-3].source, title
        assert "check(" in exercise.source and FOLDED.search(answer.source), title


def test_every_number_in_an_idea_is_one_that_the_section_prints(committed):
    checked = 0
    for title, cells in sections(committed).items():
        shown = numbers(printed(cells))
        for text in re.findall(r"(?<![\d.])\d+\.\d{3,}", cells[0].source.partition("**Predict")[0]):
            assert any(abs(float(text) - number) < 6e-4 for number in shown), f"{title}: {text}"
            checked += 1
    assert checked >= 3


def test_outputs_name_no_path_of_a_machine_no_error_and_no_warning(committed):
    outputs = [output for cell in committed.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/|site-packages", printed(committed.cells))
    assert NOTEBOOK.stat().st_size < 1_200_000


def test_it_shows_the_article_module_as_it_stands():
    assert inspect.getsource(ArticleModule).strip() in [cell.source for cell in from_source().cells]


# What `check` catches


@pytest.fixture(scope="module")
def check():
    cell = next(cell.source for cell in from_source().cells if cell.source.startswith("def check("))
    names = {"torch": torch}
    exec(cell, names)
    return names["check"]


z = torch.tensor([[2.0, 1.0, -1.0], [1000.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
y = torch.tensor([0, 0, 1])
p, truth = torch.tensor([0.9, 0.2, 0.6]), torch.tensor([1, 0, 1])


def bce(p, y):
    return F.binary_cross_entropy(p, y.float())


def log_softmax(z):
    return torch.log_softmax(z, dim=1)


MISTAKES = {
    "a sum in place of a mean": (
        lambda p, y: 3 * bce(p, y),
        *(bce, [p, truth], "is 3 times what it should be (a sum, where a mean is right?)"),
    ),
    "the wrong sign": (lambda p, y: -bce(p, y), bce, [p, truth], "has the wrong sign"),
    "overflow": (
        lambda z: z.exp() / z.exp().sum(dim=1, keepdim=True),
        *(lambda z: torch.softmax(z, dim=1), [z], "is nan where 1 is right, at [1, 0]"),
    ),
    "a gradient that overflows": (
        lambda z: 1 / (1 + torch.exp(-z)),
        *(torch.sigmoid, [torch.tensor([-100.0, 0.0])], "the gradient is nan where 0 is right, at [0]"),
    ),
    "a sum over the wrong dimension": (
        lambda z: torch.log_softmax(z, dim=0),
        *(log_softmax, [z[[0, 2]]], "is -0.1269 where -0.349 is right, at [0, 0]"),
    ),
    "a lost index": (
        lambda z, y: -log_softmax(z)[:, y],
        *(lambda z, y: F.cross_entropy(z, y, reduction="none"), [z, y], "has the shape (3, 3), where (3,) is right"),
    ),
    "a kink at 0": (
        lambda z: z.clamp(min=0) + torch.log1p(torch.exp(-z.abs())),
        *(F.softplus, [torch.tensor([0.0, 2.0])], "where 0.5 is right, at [0]"),
    ),
    "a shift that does not cancel": (lambda z: log_softmax(z) + 2, log_softmax, [z[:1]], "is off by 2 everywhere"),
    "a graph that is cut": (lambda z: log_softmax(z.detach()), log_softmax, [z[:1]], "no gradient comes through"),
    "an error": (lambda z: z @ z, log_softmax, [z[:2]], "stops with RuntimeError: "),
    "nothing yet": (lambda z: None, log_softmax, [z], "nothing there yet"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check_names_a_planted_mistake(check, capsys, mistake):
    yours, theirs, inputs, message = MISTAKES[mistake]
    check(yours, theirs, *inputs)
    assert message in capsys.readouterr().out


def test_check_confirms_what_is_right_with_its_gradient(check, capsys):
    check(lessons.log_softmax, log_softmax, z)
    assert capsys.readouterr().out == "log_softmax: right, within 1e-06, and so is its gradient\n"


# Runs


def targets(statement):
    """The names that a statement defines, or the loop variables and what a loop changes."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def answered(exercise, answer):
    """The statements of an exercise that come after the learner's: helpers and checks."""
    written = ast.parse(answer).body
    names = set().union(*map(targets, written))
    own = [s for s in ast.parse(exercise).body if not (isinstance(s, ast.For) or targets(s) & names)]
    return ast.unparse([*written, *own])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_alone_in_an_empty_folder_every_exercise_asks_first_and_accepts_its_folded_answer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names, cells, solved = {"__name__": "__main__"}, from_source().cells, 0
    for number, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        folded = FOLDED.search(cells[number + 1].source) if number + 1 < len(cells) else None
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(cell.source, names)
        lines = [
            line for line in out.getvalue().splitlines() if re.match(r"[\w., -]+: (right|is|has|nothing|the v)", line)
        ]
        if folded:
            assert lines and not any(": right" in line for line in lines), cell.source
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(answered(cell.source, folded[1]), names)
            lines = out.getvalue().splitlines()
            assert lines and all(": right, " in line for line in lines), lines
            solved += 1
    assert solved == len(TITLES)
    assert names["CHECKOUT"] is None


@pytest.mark.slow
def test_alone_in_an_empty_folder_it_runs_as_a_script_within_90_seconds_of_a_core(tmp_path):
    script = shutil.copy(SOURCE, tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    assert done.stdout.count("passed over: needs a checkout") == 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 90


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own machinery
def test_a_run_from_top_to_bottom_gives_the_committed_numbers_words_and_pictures(committed):
    notebook, expected_cells = from_source(), committed.cells
    if not os.environ.get("CLINC150_DIR"):  # one cell needs the data
        kept = [number for number, cell in enumerate(notebook.cells) if "CLINC150DataModule" not in cell.source]
        notebook.cells = [notebook.cells[number] for number in kept]
        expected_cells = [committed.cells[number] for number in kept]
    executed(notebook)
    for cell, expected in zip(notebook.cells, expected_cells, strict=True):
        assert words(printed([cell])) == words(printed([expected])), cell.source
        assert numbers(printed([cell])) == pytest.approx(numbers(printed([expected])), RELATIVE, ABSOLUTE, nan_ok=True)
        assert pictures([cell]) == pictures([expected]), cell.source


# The page of the lessons


def test_the_page_of_the_lessons_has_each_in_order_with_its_expectation():
    page = LESSONS.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(lessons.LESSONS)
    for lesson in lessons.LESSONS.values():
        assert inspect.cleandoc(lesson.__doc__) in page


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in lessons.LESSONS if name not in VARYING])
def test_the_page_shows_what_a_lesson_prints(name):
    page = LESSONS.read_text(encoding="utf-8")
    now = lesson_in_markdown(name)
    then = re.search(rf"^## {name}$.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[0]
    assert words(now) == words(then)
    assert numbers(now) == pytest.approx(numbers(then), RELATIVE, ABSOLUTE, nan_ok=True)
