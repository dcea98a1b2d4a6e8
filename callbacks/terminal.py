"""Text for a terminal: numbers of four digits, relative paths, harmless characters, plain tables."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's control, formatting and line-breaking characters


def four_digits(value: float) -> str:
    """A number with four digits after the point, a very small or large one with four significant digits.

    >>> [four_digits(value) for value in (0.949999988079071, 1, -0.0, 0.00001234, 12345.678)]
    ['0.9500', '1.0000', '0.0000', '1.234e-05', '1.235e+04']
    """
    return f"{value + 0.0:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def relative(path: str | Path) -> Path:
    """A path from the current folder on, where it is below it."""
    path, here = Path(path).absolute(), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def visible(text: str) -> str:
    """Control, formatting and line-breaking characters as escapes: one such as \\x1b could rewrite the terminal.

    >>> print(visible("a\\x1b[31mb"))
    a\\x1b[31mb
    """
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c for c in text)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, cut: Collection[int] = ()
) -> None:
    """Print a table; of its columns the first `words` hold text, folded where the terminal is too narrow, or `cut`."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text  # takes a cell as it is, while a plain string could hold markup

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, name in enumerate(columns):
        is_word = number < words
        justify: Literal["left", "right"] = "left" if is_word else "right"
        table.add_column(Text(visible(name)), justify=justify, no_wrap=not is_word, overflow="fold")
    for row in rows:
        cells = [Text(visible(cell)) for cell in row]
        for number in cut:
            cells[number].no_wrap, cells[number].overflow = True, "ellipsis"
        table.add_row(*cells)
    Console().print(table)
