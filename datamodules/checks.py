"""What in a data set is likely to be a mistake, in one line each."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence, Set
from decimal import Decimal, InvalidOperation

FEW = 100  # rows, below which the standard error of an accuracy of 50 % is above 5 points
MOST = 0.95  # share of the rows above which one label leaves little to tell apart


def label_oddities(labels: Sequence[str]) -> list[str]:
    """Labels that are one label, or one number, in two spellings, and a label that nearly all rows have."""
    counts, lines = Counter(labels), []
    spellings: dict[Decimal | str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        spellings[_number_or_folded(label)].append(label)
    twice = [group for group in spellings.values() if len(group) > 1]
    if twice:
        group = ", ".join(f"{label!r} ({counts[label]} rows)" for label in twice[0])
        more = f" ({len(twice) - 1} more such groups)" if len(twice) > 1 else ""
        is_number = isinstance(_number_or_folded(twice[0][0]), Decimal)
        alike = "are one number" if is_number else "differ only by spaces or capitals"
        lines.append(f"the labels {group} {alike}{more}: make them one")
    label, count = counts.most_common(1)[0]
    if count > MOST * len(labels):
        lines.append(
            f"{count} of {len(labels)} rows ({count / len(labels):.1%}) have the label {label!r}: accuracy says "
            "little, look at macro_f1, and try --model.class_weight balanced"
        )
    return lines


def _number_or_folded(label: str) -> Decimal | str:
    """What different spellings of a label share; exact, as a label may be an id longer than a float's digits."""
    try:
        number = Decimal(label)
    except InvalidOperation:
        return folded(label)
    return number if number.is_finite() else folded(label)


def text_oddities(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Texts with several labels."""
    labels_of, keys = defaultdict(set), list(map(folded, texts))
    for key, label in zip(keys, labels, strict=True):
        labels_of[key].add(label)
    several = {key for key, found in labels_of.items() if len(found) > 1}
    if not several:
        return []
    rows = [row for row, key in enumerate(keys) if key in several]
    text, names = texts[rows[0]], ", ".join(map(repr, sorted(labels_of[keys[rows[0]]])))
    return [f"{len(several)} texts in {len(rows)} rows have several labels, as {text[:60]!r} has {names}: correct them"]


def leaked_texts(known: Set[str], held_out: Sequence[str], split: str) -> list[str]:
    """Texts of the validation or test rows that are training texts as well.

    Args:
        known: the training texts, `folded`.
        held_out: the texts of the split.
        split: its name, for the message.
    """
    count = sum(folded(text) in known for text in held_out)
    if not count:
        return []
    share = f"{count} of {len(held_out)} {split} texts ({count / len(held_out):.0%})"
    return [f"{share} are in the training rows too, where the model has learned their labels"]


def few_to_choose_by(number: int) -> list[str]:
    """Validation rows so few that a choice between epochs, thresholds or options is chance."""
    if number >= FEW:
        return []
    error = 100 * math.sqrt(0.25 / max(number, 1))
    return [
        f"{number} validation rows are few to choose anything by: an accuracy measured on them has a standard error of "
        f"up to {error:.0f} points; --refit folds chooses by cross-validation, and trains on all rows in the end"
    ]


def folded(text: str) -> str:
    """A text without what is no difference to a reader: capitals, and how much space there is."""
    return " ".join(text.split()).casefold()
