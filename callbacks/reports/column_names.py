"""Columns of a report that stand beside those of a user, who may have given one of theirs the same name."""

from collections.abc import Collection


def beside(theirs: Collection[str], ours: Collection[str], prefix: str) -> list[str]:
    """Names for our columns: each its own, with the prefix, as often as it takes, where the user has one of that name.

    >>> beside(["text", "label"], ["label", "probability"], "predicted_")
    ['predicted_label', 'probability']
    """
    names: list[str] = []
    for name in ours:
        while name in theirs or name in names:
            name = prefix + name
        names.append(name)
    return names
