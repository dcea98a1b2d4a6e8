"""docs/articles.md shows every claim of the two articles by something to look at, and every link leads there."""

import os
import re
import sys
from pathlib import Path

import pytest

from examples import from_scratch
from examples.lessons import LESSONS
from tests.tools.runs import ROOT, finish

PAGE = (ROOT / "docs/articles.md").read_text(encoding="utf-8")
ROWS = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
CLAIMS = [row for row in ROWS if row[0].isdigit()]
SLIPS = [row for row in ROWS if len(row) == 3 and re.match(r"[12]: ", row[0])]
BLOCKS = [row for row in ROWS if len(row) == 4 and re.match(r"[12]: ", row[0])]
SEEN = [row[3] for row in CLAIMS] + [row[2] for row in SLIPS]
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def links(texts):
    return [link for text in texts for link in LINK.findall(text)]


def test_all_96_claims_are_there_each_once_and_the_page_says_how_many():
    assert [int(row[0]) for row in CLAIMS] == list(range(1, 97))
    assert f"their {len(CLAIMS)} claims" in PAGE
    assert len(SLIPS) == 15


def test_every_claim_is_shown_by_something_to_look_at_and_by_no_test_alone():
    for text in SEEN:
        assert text and LINK.sub("", text).replace(", ", "") == "", text  # links and nothing else
    for name, target in links(SEEN):
        assert (ROOT / "docs" / target.partition("#")[0]).is_file(), target
        assert not target.startswith("../tests/")
        expected = {"notebook": "../examples/logistic_regression.ipynb", "lesson": f"lessons.md#{name.split()[-1]}"}
        assert target == expected.get(name.split()[0], target), name


def test_every_lesson_and_section_of_the_notebook_shows_a_claim_and_what_shows_one_exists():
    named = [name for name, _ in links(SEEN)]
    assert {name.split()[1] for name in named if name.startswith("lesson ")} == set(LESSONS)
    source = (ROOT / "examples/logistic_regression.py").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^# ## (\d+)\. ", source, re.MULTILINE))
    assert {name.split()[1] for name in named if name.startswith("notebook ")} == numbers


def test_every_test_that_is_named_exists():
    named = links(row[4] for row in CLAIMS)
    assert len(named) > 30
    files = {target: (ROOT / "docs" / target).resolve().read_text(encoding="utf-8") for _, target in named}
    assert [(name, target) for name, target in named if f"\ndef {name}(" not in files[target]] == []


def test_every_block_of_the_articles_leads_to_its_line():
    files = {"config", "init", "forward", "softmax_intuition", "cross_entropy", "l2_penalty", "train_loop", "predict"}
    assert {row[0].removeprefix("2: ").removesuffix(".py") for row in BLOCKS[2:]} == files | {"toy_training"}
    for cell in (cell for row in BLOCKS for cell in row[1:3]):
        name, path, number, code = re.fullmatch(r"\[(.+)\]\(\.\./(.+)#L(\d+)\) `(.+)`", cell).groups()
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        found = [n for n, line in enumerate(lines, 1) if code in line]
        assert name == f"{Path(path).name}:{number}"
        assert int(number) in found, f"docs/articles.md: `{code}` of {path} is now in line {found}"


def shown(page, heading):
    """What a page shows below a heading."""
    return re.search(rf"^## {heading}$.*?(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("claim", "lesson", "number"),
    [
        *((24, "xor", "3.8"), (30, "resampling", "0.9"), (44, "last_batch", "128"), (66, "l2", "0.878")),
        *((67, "l2", "499"), (68, "bias", "0.45"), (93, "shapes", "0.6"), (94, "batch_size", "0.958")),
        *((94, "batch_size", "0.846"), (96, "sorted_rows", "1.44"), (96, "sorted_rows", "0.36")),
    ],
)
def test_a_number_in_a_claim_is_one_that_its_lesson_prints(claim, lesson, number):
    row = next(row for row in CLAIMS if int(row[0]) == claim)
    assert f"[lesson {lesson}]" in row[3] and number in row[2]
    below = shown((ROOT / "docs/lessons.md").read_text(encoding="utf-8"), lesson)
    decimals = len(number.partition(".")[2])
    assert float(number) in {round(float(text), decimals) for text in re.findall(r"(?<= )\d+(?:\.\d+)?(?= )", below)}


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


def test_each_step_of_from_scratch_keeps_the_w_that_it_had():
    first, *_, end = from_scratch.train([from_scratch.toy_points()] * 5, 3, 3, lr=0.1, l2=0.0, seed=0)
    assert (first.W - end.W).abs().max() > 0.05


@pytest.mark.slow
def test_lessons_and_from_scratch_run_as_commands():
    assert "Expect " in finish("-m", "examples.lessons", next(iter(LESSONS)))
    assert "training accuracy" in finish("examples/from_scratch.py")
    if "CLINC150_DIR" in os.environ:
        assert "step  590  loss " in finish("examples/from_scratch.py", "--clinc150")
