"""The rule of docs: logreg, datamodules and callbacks never import each other, so that each can be copied out."""

import ast
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("logreg", "datamodules", "callbacks")
OTHERS = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))} - {"checkpoint_file"}


def imported(source):
    """The first names of all modules that a source file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names |= {a.value.partition(".")[0] for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other_room_nor_what_stands_above_it(room):
    sources = sorted((ROOT / room).rglob("*.py"))
    assert len(sources) > 1
    forbidden = (set(ROOMS) | OTHERS) - {room}
    found = {str(path.relative_to(ROOT)): imported(path) & forbidden for path in sources}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_formulas_need_nothing_but_torch():
    assert imported(ROOT / "logreg/functional.py") - {"math", "collections"} == {"torch"}


def test_nothing_is_installed_under_a_name_that_other_projects_use_too():
    try:
        installed = distribution("lightning-logistic-regression").read_text("top_level.txt")
    except PackageNotFoundError:
        pytest.skip("not installed; everything runs from the checkout")
    assert installed.split() == []
