"""Likely mistakes in labels, as one-line warnings; callbacks/reports/data.py finds rows that repeat or contradict."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

FEW_ROWS = 100  # rows, below which the standard error of an accuracy of 50 % is above 5 points
DOMINANT_SHARE = 0.95  # share of the rows above which one label leaves little to tell apart


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
    if count > DOMINANT_SHARE * len(labels):
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


def few_to_choose_by(number: int) -> list[str]:
    """Validation rows so few that a choice between epochs, thresholds or options is chance."""
    if number >= FEW_ROWS:
        return []
    error = 100 * math.sqrt(0.25 / max(number, 1))
    return [
        f"{number} validation rows are few to choose anything by: an accuracy measured on them has a standard error of "
        f"up to {error:.0f} points; --refit folds chooses by cross-validation, and trains on all rows in the end"
    ]


def folded(text: str) -> str:
    """A text without what is no difference to a reader: capitals, and how much space there is."""
    return " ".join(text.split()).casefold()
