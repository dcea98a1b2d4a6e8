"""Bad input ends in one line."""

import re
import traceback

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)
# Where Lightning and torch check the options of Trainer, callbacks, strategies, optimizers and schedulers. They raise
# RuntimeError, TypeError or AssertionError as well.
OPTION_CHECKS = re.compile(
    r"(lightning/(pytorch/(callbacks|trainer|strategies|accelerators|plugins|tuner|utilities|core/optimizer)|fabric)|torch/optim)\W"
)


def is_user_error(error: BaseException) -> bool:
    """Whether bad input caused an error, which then ends in one line; a bug keeps its traceback."""
    if isinstance(error, USER_ERRORS):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = frames[-1].filename.replace("\\", "/") if frames else ""
    return isinstance(error, Exception) and OPTION_CHECKS.search(raised_in) is not None


def one_line(error: BaseException) -> str:
    """The message of an error in one line; of jsonargparse's list of all that was tried, only what a user can use."""
    text = re.sub(r"^Call to compute_fn of link .*? failed: ", "", str(error), flags=re.DOTALL)
    text = text.removeprefix("Problems parsing config: ")
    text = text.replace("Does not validate against any of the Union subtypes", "")
    useless = r"\s*(Subtypes: .*|Errors:|Given value type: .*|- Expected a <class 'NoneType'>|Given value: \w+\(.*|)"
    lines = [line.strip() for line in text.splitlines() if not re.fullmatch(useless, line)]
    lines = [re.sub(r"^Given value: (.*)", r"got \1", line).removeprefix("- ") for line in lines]
    text = re.sub(r"<class '([\w.]+)'>", r"\1", " ".join(dict.fromkeys(lines)))
    text = re.sub(r" Got value: Namespace\(.*", "", text)
    text = re.sub(r"module '([\w.]+)' has no attribute '(\w+)'", r"\1 has no \2", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)  # no terminal escapes
