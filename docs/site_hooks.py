"""MkDocs hooks: the files beside docs/ that a page links to become files of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = re.compile(r"\]\(\.\./([\w./-]+)(?:#[\w-]+)?\)")


def on_files(files: Files, config: Any) -> None:
    """Add them as texts, which a browser shows."""
    pages = [page.content_string for page in files.documentation_pages()]
    for path in {path for page in pages for path in OUTSIDE.findall(page)}:
        files.append(File.generated(config, f"source/{path}.txt", abs_src_path=str(ROOT / path)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Link to these."""
    return OUTSIDE.sub(r"](source/\1.txt)", markdown)
