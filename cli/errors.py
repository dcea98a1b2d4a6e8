"""Bad input ends in one line."""

import re

from jsonargparse import ArgumentError
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# Caused by user input: print one line. Anything else is a bug and keeps its traceback.
USER_ERRORS = (ArgumentError, MisconfigurationException, ValueError, OSError)


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
