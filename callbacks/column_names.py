"""Names of a report's columns beside those of the user, who may have given one of theirs the same name."""

from collections.abc import Collection


def disambiguate(names: Collection[str], taken: Collection[str], prefix: str) -> list[str]:
    """The names, with the prefix, as often as it takes, before each that is taken.

    >>> disambiguate(["label", "probability"], ["text", "label"], "predicted_")
    ['predicted_label', 'probability']
    """
    unique: list[str] = []
    for name in names:
        while name in taken or name in unique:
            name = prefix + name
        unique.append(name)
    return unique
