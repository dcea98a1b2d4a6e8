"""Makes examples/logistic_regression.ipynb from its text source, with the outputs of a run from top to bottom.

python -m tests.tools.notebook
"""

from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

SOURCE = Path(__file__).parents[2] / "examples/logistic_regression.py"
NOTEBOOK = SOURCE.with_suffix(".ipynb")


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


def main() -> None:
    """Run it and write it."""
    nbformat.write(executed(from_source()), NOTEBOOK)


if __name__ == "__main__":
    main()
