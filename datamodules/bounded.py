"""Reading from what may have no end: a pipe, a device, a file with a hole of 100 GB."""

import re
from typing import BinaryIO

LARGEST_FILE = 500_000_000  # bytes: millions of sentences
LONGEST_TEXT = 1_000_000  # bytes: a novel


def read_bounded(source: object, stream: BinaryIO, by_line: bool) -> bytearray:
    """All of a stream, in pieces, so that one without an end is refused long before the memory is full.

    Args:
        source: its name, for the message.
        stream: open for reading, at its start.
        by_line: whether line breaks separate its texts, so that none may be longer than LONGEST_TEXT.

    Raises:
        ValueError: more than LARGEST_FILE bytes, or a line that is too long for a text.
    """
    content, open_line = bytearray(), 0  # bytes since the last line break
    while piece := stream.read(LONGEST_TEXT):
        content += piece
        first, *others = re.split(rb"[\r\n]", piece)
        if by_line and open_line + len(first) > LONGEST_TEXT:
            raise ValueError(f"{source}: expected lines of at most {LONGEST_TEXT:,} bytes, got a longer one")
        open_line = len(others[-1]) if others else open_line + len(first)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"{source}: expected at most {LARGEST_FILE:,} bytes, got more; split it")
    return content
