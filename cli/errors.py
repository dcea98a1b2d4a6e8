"""Errors: one line for bad input, and the place of a bug in a file of the user's own."""

import dis
import errno
import os
import re
import sysconfig
import threading
import traceback
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)
# Where Lightning and torch check the options of Trainer, callbacks, strategies, optimizers and schedulers. They raise
# RuntimeError, TypeError or AssertionError as well.
OPTION_CHECKS = re.compile(
    r"(lightning/(pytorch/(callbacks|trainer|strategies|accelerators|plugins|tuner|utilities|core/optimizer)|fabric)|torch/optim)\W"
)
OPTION_OF = {"optim/lr_scheduler": "model.lr_scheduler: ", "torch/optim": "model.optimizer: "}  # where torch names none
ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = re.compile(rf"<|.*\W(site|dist)-packages\W|{re.escape(sysconfig.get_path('stdlib'))}\W")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, a file's largest size
LONGEST = 1000  # characters of a message


def is_user_error(error: BaseException) -> bool:
    """Whether one line is enough for an error; what only a programmer can mend keeps its traceback."""
    error = _itself(error)
    if "Traceback (most recent call last)" in str(error):  # of a worker process, and the only one there is
        return False
    if isinstance(error, USER_ERRORS):
        return True
    checked = OPTION_CHECKS.search(_raised_in(error))
    return (
        isinstance(error, Exception)
        and checked is not None
        and (checked[0].startswith("torch") or not _own_frames(error))
    )


def place_of_bug(error: BaseException) -> str:
    """Where in the user's own code an error arose that may be a bug there; empty for one that input alone explains.

    That is an error which passes through a file of the user's own, or which something else than a `raise` in this
    project caused: a shape that torch refuses, a tuple that cannot be unpacked.
    """
    error = _itself(error)
    frames = _own_frames(error)
    shown = [frame for frame in frames if _is_the_users(frame[0])]
    if not shown and type(error) is ValueError and not _is_raised_on_purpose(error):
        shown = frames
    if not shown or (isinstance(error, OSError) and error.errno in FULL):
        return ""
    file, line, function = shown[-1]
    place = os.path.relpath(file) if file.is_relative_to(Path.cwd()) else file
    return f'; in {function}, File "{place}", line {line}; LOGREG_DEBUG=1 shows the whole traceback'


def _itself(error: BaseException) -> BaseException:
    """The error of a link from data to model, which jsonargparse wraps into another one."""
    return error.__cause__ if error.__cause__ and "_link_arguments" in _raised_in(error) else error


def _own_frames(error: BaseException | None) -> list[tuple[Path, int, str]]:
    """File, line and function of what an error and its causes passed through: neither library nor command line."""
    if error is None:
        return []
    passed = [(f.f_code.co_filename, n, f.f_code.co_name) for f, n in traceback.walk_tb(error.__traceback__)]
    own = [(Path(file).resolve(), line, function) for file, line, function in passed if not LIBRARIES.match(file)]
    # Of what is compiled, the file is not there.
    own = [frame for frame in own if frame[0].is_file() and not frame[0].is_relative_to(ROOT / "cli")]
    return own + _own_frames(error.__cause__)


def _is_the_users(file: Path) -> bool:
    """Whether a file did not come with this project: no package exports it, and no other file imports it."""
    if not file.is_relative_to(ROOT):
        return True
    package, *names = file.relative_to(ROOT).with_suffix("").parts
    imported, exported = re.escape(".".join([package, *names])), re.escape(".".join(names) or package)
    mention = re.compile(rf'\b{imported} import|"{exported}"')
    files = (other for folder in (package, "cli") for other in (ROOT / folder).rglob("*.py"))
    return not any(mention.search(other.read_text(encoding="utf-8")) for other in files)


def _is_raised_on_purpose(error: BaseException) -> bool:
    """Whether a `raise` of this project, or a check of options, is where an error comes from."""
    while error.__cause__ and "jsonargparse" in _raised_in(error):  # which says more, and hides where
        error = error.__cause__
    if LIBRARIES.match(_raised_in(error)):
        return OPTION_CHECKS.search(_raised_in(error)) is not None
    at: Any = error.__traceback__
    while at.tb_next:
        at = at.tb_next
    return dis.opname[at.tb_frame.f_code.co_code[at.tb_lasti]] == "RAISE_VARARGS"


def hide_user_errors_of_threads(failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of a full disk from TensorBoard's writer, which raises it once more in the main thread."""
    if failed.exc_value is None or not is_user_error(failed.exc_value):
        threading.__excepthook__(failed)


def _raised_in(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename.replace("\\", "/") if frames else ""


def one_line(error: BaseException) -> str:
    """The message of an error in one line; of jsonargparse's list of all that was tried, only what a user can use."""
    text = next((name for place, name in OPTION_OF.items() if place in _raised_in(error)), "")
    text += str(error) or type(error).__name__
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", text, flags=re.DOTALL)
    text = text.removeprefix("Problems parsing config: ")
    text = text.replace("Does not validate against any of the Union subtypes", "")
    text = re.sub(r"(?s)(?<=\S)\s+(- )?Not a valid subclass of .*|Subclass types expect one of:.*", "", text)
    useless = r"\s*(Subtypes: .*|Errors:|Given value type: .*|- Expected a <class 'NoneType'>|Given value: \w+\(.*|)"
    lines = [line.strip() for line in text.splitlines() if not re.fullmatch(useless, line)]
    lines = [re.sub(r"^Given value: (.*)", r"got \1", re.sub("^(- )+", "", line)) for line in lines]
    text = re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(dict.fromkeys(lines)))
    text = re.sub(r" Got value: Namespace\(.*", "", text)
    text = re.sub(r"module '([\w.]+)' has no attribute '(\w+)'", r"\1 has no \2", text)
    text = re.sub(r"You requested to check (\S+) of the `(\w+)_dataloader` but \S+ \* (\d+) < 1\..*", _no_batch, text)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if isinstance(error, OSError) and error.errno in FULL:
        text += "; make room, then let a fit go on with --ckpt_path last"
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)  # no terminal escapes


def _no_batch(asked: re.Match[str]) -> str:
    """What can be done about a share of the batches that holds none, in place of Lightning's words."""
    share, kind, batches = asked.groups()
    smaller = ", or lower data.batch_size" if kind == "train" else ": evaluation takes thousands of rows at once"
    return (
        f"trainer.limit_{kind}_batches: expected a share that holds a batch, got {share} of {batches}; "
        f"leave it out, or give a number of batches, at most {batches}{smaller}"
    )
