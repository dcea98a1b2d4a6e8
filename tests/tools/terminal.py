"""A terminal of a fixed width: runs a command in a pseudo-terminal and gives the text that stays on its screen."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\r\n]|[^\x1b\r\n]")


def run_in_terminal(command: list[str], columns: int, folder: Path, **environment: str) -> tuple[int, str]:
    """Run a command as on a terminal of 50 lines.

    Returns:
        Exit status and raw output, standard output and error together, as a terminal gets them.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    settings = inherited | {"TERM": "xterm-256color"} | environment
    process = subprocess.Popen(command, cwd=folder, env=settings, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    pieces = []
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal as an error
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(master)
    return process.wait(), b"".join(pieces).decode()


def screen(output: str, columns: int) -> list[str]:
    """The lines that stay on a terminal, those that have scrolled away included.

    Knows what Rich and Lightning write: colours, erasing, the cursor up and left, and the wrap at the last column.
    """
    lines: list[list[str]] = [[]]
    row = column = 0
    for match in SEQUENCE.finditer(output):
        numbers, kind = match[1], match[2]
        if kind == "A":
            row = max(0, row - int(numbers or 1))
        elif kind == "K":
            lines[row] = [] if numbers == "2" else lines[row][:column]
        elif kind is not None or match[0].startswith("\x1b"):
            pass  # colours, and whether the cursor is shown
        elif match[0] == "\r":
            column = 0
        elif match[0] == "\n":
            row, column = row + 1, 0
        else:
            if column == columns:
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = match[0]
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]
