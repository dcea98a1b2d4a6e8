"""Bad input ends in one line."""

import errno
import re
import threading
import traceback

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)
# Where Lightning and torch check the options of Trainer, callbacks, strategies, optimizers and schedulers. They raise
# RuntimeError, TypeError or AssertionError as well.
OPTION_CHECKS = re.compile(
    r"(lightning/(pytorch/(callbacks|trainer|strategies|accelerators|plugins|tuner|utilities|core/optimizer)|fabric)|torch/optim)\W"
)
OPTION_OF = {"optim/lr_scheduler": "model.lr_scheduler: ", "torch/optim": "model.optimizer: "}  # where torch names none
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, a file's largest size
LONGEST = 1000  # characters of a message


def is_user_error(error: BaseException) -> bool:
    """Whether bad input caused an error, which then ends in one line; a bug keeps its traceback."""
    if isinstance(error, USER_ERRORS):
        return True
    return isinstance(error, Exception) and OPTION_CHECKS.search(_raised_in(error)) is not None


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
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    if isinstance(error, OSError) and error.errno in FULL:
        text += "; make room, then let a fit go on with --ckpt_path last"
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)  # no terminal escapes
