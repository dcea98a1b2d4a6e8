"""Answers of a web server that never falls silent and never ends."""

import threading
from typing import BinaryIO

SLOW = {  # what comes first, and what comes every 0.05 seconds for ever
    "a byte now and then": (b"HTTP/1.1 200 OK\r\nContent-Length: 2500000\r\n\r\n", b"{"),
    "headers without end": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a status line without end": (b"HTTP/1.1 200 O", b"K"),
    "continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


def answer_slowly(name: str, stream: BinaryIO, over: threading.Event) -> None:
    """Write the answer of that name, until the test is over or the client has hung up."""
    beginning, piece = SLOW[name]
    stream.write(beginning)
    while not over.wait(0.05):
        stream.write(piece)
