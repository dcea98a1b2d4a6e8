"""Downloads with a limit in size and time."""

import http.client
import threading
import urllib.request
from concurrent.futures import Future

TIMEOUT = 30  # seconds without an answer
LIMIT = 300  # seconds for a whole download, however busy the server seems


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
