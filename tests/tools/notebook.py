"""Makes examples/logistic_regression.ipynb from its text source, and docs/lessons.md from the lessons.

python -m tests.tools.notebook

Both hold the outputs of a run. The notebook's last cell on text needs CLINC150 (`CLINC150_DIR`, or a download).
"""

import inspect
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

from examples import lessons

SOURCE = Path(__file__).parents[2] / "examples/logistic_regression.py"
NOTEBOOK = SOURCE.with_suffix(".ipynb")
LESSONS = Path(__file__).parents[2] / "docs/lessons.md"
OPENING = """# The lessons, and what they print

`python -m examples.lessons NAME` runs one in seconds, without a network; the code is in
[examples/lessons.py](../examples/lessons.py). Each is something broken or taken apart on purpose: the expectation, then
the result. `python -m tests.tools.notebook` makes this page anew. Times are those of one machine.
"""


def from_source() -> Any:
    """The notebook as its source has it, without outputs; nothing in it depends on the machine or the time."""
    notebook = jupytext.read(SOURCE)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def executed(notebook: Any) -> Any:
    """The notebook with the outputs of a run, in a kernel of its own."""
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(SOURCE.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}  # when it ran
    notebook.metadata.pop("language_info", None)  # which Python it was
    return notebook


def lesson_in_markdown(name: str) -> str:
    """A lesson's expectation, and the table that its command prints."""
    text, rows = inspect.cleandoc(lessons.LESSONS[name].__doc__ or ""), lessons.LESSONS[name]()
    columns = {title: lessons.texts([row[title] for row in rows]) for title in rows[0]}
    if list(columns) == ["node"]:  # an outline
        return f"## {name}\n\n{text}\n\n```\n" + "\n".join(columns["node"]) + "\n```\n"
    rule = ["---" if isinstance(rows[0][title], str) else "---:" for title in columns]
    table = [list(columns), rule, *zip(*columns.values(), strict=True)]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in table]
    return f"## {name}\n\n{text}\n\n" + "\n".join(lines) + "\n"


def lessons_page() -> str:
    """docs/lessons.md."""
    return "\n".join([OPENING, *map(lesson_in_markdown, lessons.LESSONS)])


def main() -> None:
    """Run and write both."""
    LESSONS.write_text(lessons_page(), encoding="utf-8")
    nbformat.write(executed(from_source()), NOTEBOOK)


if __name__ == "__main__":
    main()
