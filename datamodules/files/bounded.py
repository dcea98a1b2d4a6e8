"""Reading from what may have no end: a pipe, a device, a file with a hole of 100 GB, a server."""

import http.client
import re
import threading
import urllib.request
from concurrent.futures import Future
from typing import BinaryIO

LARGEST_FILE = 500_000_000  # bytes: millions of sentences
LONGEST_TEXT = 1_000_000  # bytes: a novel
TIMEOUT = 30  # seconds without an answer
LIMIT = 300  # seconds for a whole download, however busy the server seems


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
            line = len(re.split(rb"\r\n|\r|\n", content[: -len(piece)]))
            raise ValueError(
                f"{source}: expected lines of at most {LONGEST_TEXT:,} bytes, got a longer one: shorten line {line}"
            )
        open_line = len(others[-1]) if others else open_line + len(first)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"{source}: expected at most {LARGEST_FILE:,} bytes, got more; split it")
    return content


def fetch(url: str, most: int) -> bytes:
    """What a web server answers, within LIMIT seconds.

    A socket's timeout starts anew with every byte, so a server that sends one now and then would hold a fit for ever.
    The thread is left to itself after the limit; as a daemon it does not keep the process alive, unlike an executor's.

    Args:
        url: http or https.
        most: bytes to take; of a longer answer the rest is left.

    Raises:
        OSError: no such address, no network, an error as answer, or none in time; the message is the bare reason.
    """
    answer: Future[bytes] = Future()
    thread = threading.Thread(target=_fetch, args=(url, most, answer), daemon=True)
    thread.start()
    thread.join(LIMIT)
    if thread.is_alive():
        raise TimeoutError(f"not complete after {LIMIT} seconds")
    try:
        return answer.result()
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: of an address or a header
        raise OSError(" ".join(str(error).split())) from error
    finally:
        del answer  # an error's traceback would hold what holds the error, and so keep the connection open


def _fetch(url: str, most: int, answer: Future[bytes]) -> None:
    from rich.progress import wrap_file

    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            total, name = int(response.headers.get("Content-Length") or 0), url.rpartition("/")[2]
            with wrap_file(response, total=total, description=f"Downloading {name}") as source:
                answer.set_result(source.read(most))
    except BaseException as error:
        answer.set_exception(error)
    finally:
        del answer
