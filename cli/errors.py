"""Errors: one line for bad input, and the place of a bug in a file of the user's own."""

import errno
import os
import re
import sysconfig
import threading
import traceback
from pathlib import Path

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)
# Where Lightning checks the options of Trainer, callbacks and strategies: it raises RuntimeError, TypeError or
# AssertionError as well.
OPTION_CHECKS = re.compile(r"\Wlightning\W(fabric|pytorch\W(?!loops|core\Wmodule))")
ROOT = Path(__file__).resolve().parents[1]
OF_THIS_PROJECT = [
    "callbacks",
    "checkpoint_file.py",
    "cli",
    "datamodules",
    "deploy",
    "logreg",
    "selection",
    "train.py",
]
LIBRARIES = re.compile(rf"<|.*\W(site|dist)-packages\W|{re.escape(sysconfig.get_path('stdlib'))}\W")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, a file's largest size
LONGEST = 1000  # characters of a message
# All but the option, the reasons and the value in a message of jsonargparse.
BESIDE = re.compile(
    r"Problems parsing config:|Parser key \S+|Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|"
    r"Given value.*|\.? ?Got value: .*|Problem with given class_path \S+|Type typing.* callable class:|"
    r"Expected a path but .*|Expected a <class 'NoneType'>|- Not a valid subclass of (.|\n)*"
)
REPHRASED = {  # words of libraries that need the code to be understood
    r"<class '([\w.]+)'>": r"\1",
    r"module '([\w.]+)' has no attribute '(\w+)'": r"\1 has no \2",
}


def is_user_error(error: BaseException) -> bool:
    """Whether one line is enough for an error; what only a programmer can mend keeps its traceback."""
    if "Traceback (most recent call last)" in str(error):  # of a worker process, and the only one there is
        return False
    if isinstance(error, USER_ERRORS):
        return True
    return isinstance(error, Exception) and bool(OPTION_CHECKS.search(_raised_in(error))) and not _own_frames(error)


def place_of_bug(error: BaseException) -> str:
    """Where in the user's own code an error arose that may be a bug there; empty for one that input alone explains.

    That is an error which passes through a file beside those of this project, or which something else than a `raise` in
    it caused: a shape that torch refuses, a tuple that cannot be unpacked.
    """
    error = _original(error)
    own = _own_frames(error)
    shown = [frame for frame in own if os.path.relpath(frame.filename, ROOT).split(os.sep)[0] not in OF_THIS_PROJECT]
    if not shown and own and type(error) is ValueError and not error.__cause__:
        shown = [] if str(own[-1].line).startswith("raise ") else own
    if not shown or (isinstance(error, OSError) and error.errno in FULL):
        return ""
    file, line, function, _ = shown[-1]
    place = os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
    return f'; in {function}, File "{place}", line {line}; LOGREG_DEBUG=1 shows the whole traceback'


def one_line(error: BaseException) -> str:
    """The message of an error in one line."""
    original = _original(error)
    of_parser = isinstance(error, ArgumentError) or "jsonargparse" in _raised_in(original)
    lines = (_reasons(str(error)) if of_parser else str(original)).splitlines()
    text = " ".join(filter(None, map(str.strip, lines))) or type(error).__name__
    for pattern, words in REPHRASED.items():
        text = re.sub(pattern, words, text)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if isinstance(error, OSError) and error.errno in FULL:
        text += "; make room, then let a fit go on with --ckpt_path last"
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)  # no terminal escapes


def _reasons(text: str) -> str:
    """The option, the reasons and the value in a message of jsonargparse, which lists all that it has tried."""
    options = re.findall(r'Parser key "(\S+)"', text)
    reasons = [line.strip(" -.") for line in BESIDE.sub("", text).splitlines()]
    values = re.findall(r"(?:Given|Got) value: (?!\w+\()(.*?)(?:\. Got value.*)?$", text, re.MULTILINE)
    got = f", got {values[-1]}" if values else ""
    return ": ".join(dict.fromkeys([*options, " or ".join(dict.fromkeys(filter(None, reasons))) + got]))


def _original(error: BaseException) -> BaseException:
    """The error that jsonargparse has wrapped into others of its own, if it has."""
    while error.__cause__ and "jsonargparse" in _raised_in(error):
        error = error.__cause__
    return error


def _raised_in(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else ""


def _own_frames(error: BaseException | None) -> list[traceback.FrameSummary]:
    """What an error and its causes passed through that is neither library nor command line."""
    frames: list[traceback.FrameSummary] = []
    while error is not None:
        frames += [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]
        error = error.__cause__
    return frames


def _is_own(file: str) -> bool:
    # Of what is compiled, the file is not there.
    return not LIBRARIES.match(file) and Path(file).is_file() and not Path(file).is_relative_to(ROOT / "cli")


def hide_user_errors_of_threads(failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of a full disk from TensorBoard's writer, which raises it once more in the main thread."""
    if failed.exc_value is None or not is_user_error(failed.exc_value):
        threading.__excepthook__(failed)
