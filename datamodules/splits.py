"""Holding out samples for validation, test and cross-validation, and telling whether they are still the same ones."""

import hashlib
import math
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

Labelled = tuple[list[Any], list[str]]  # samples and their labels


def stratified_split(labels: Sequence[Any], held_out: int | float, seed: int, name: str) -> tuple[list[int], list[int]]:
    """Choose samples to hold out at random, with every class in its proportion in both the rest and the held-out ones.

    Where there are fewer samples to hold out than classes, some classes go without; the last sample of a class always
    stays.

    Args:
        labels: N labels, of any kind that can be sorted.
        held_out: how many samples (int), or which share of them (float in (0, 1), rounded up).
        seed: of the choice.
        name: "val" or "test", for the error message.

    Returns:
        Positions of the samples to keep, and of those to hold out, both in random order.

    Raises:
        ValueError: too few samples.
    """
    from sklearn.model_selection import train_test_split  # slow to import, so not at the top

    counts = Counter(labels)
    number = held_out if isinstance(held_out, int) else math.ceil(held_out * len(labels))
    if min(counts.values()) < 2 or not len(counts) <= number <= len(labels) - len(counts):
        kept, held = _split_of_few(labels, number, seed)
        if not held:
            raise ValueError(f"cannot hold out {held_out:g} of {len(labels)} rows for {name}: raise {name}_fraction")
        return kept, held
    number_of = {label: n for n, label in enumerate(sorted(counts))}
    classes = np.array([number_of[label] for label in labels])  # of which scikit-learn sorts a million in no time
    parts = train_test_split(np.arange(len(labels)), test_size=held_out, stratify=classes, random_state=seed)
    return tuple(part.tolist() for part in parts)


def hold_out(
    splits: dict[str, Labelled], fractions: dict[str, float], seed: int, drop_single: bool = False
) -> dict[str, Labelled]:
    """Hold out from the training samples what there is no file for.

    Args:
        splits: samples and labels of "train", and of "val" and "test" where they are given.
        fractions: share of the remaining training samples to hold out as "test" and "val", in this order.
        seed: of the choice.
        drop_single: leave out the rows of labels that have no other, of which there is nothing to hold out, with a line
            that tells how many.

    Returns:
        All three.

    Raises:
        ValueError: too few samples, or a label with a single one.
    """
    drawn = [split for split in fractions if split not in splits]
    if drop_single and drawn:
        splits = splits | {"train": _without_single_rows(*splits["train"])}
    for split in drawn:
        samples, labels = splits["train"]
        try:
            if split == drawn[0]:
                require_two_rows(labels, fractions[split], split)
            parts = stratified_split(labels, fractions[split], seed, split)
        except ValueError as error:
            files = " and a ".join(f"{name}_file" for name in drawn)
            remedy = f", leave it out with --data.drop_unlabelled true, or give a {files}"
            raise ValueError(
                str(error) + (remedy if "a single row" in str(error) else f", or give a {files}")
            ) from error
        kept, held = (([samples[i] for i in part], [labels[i] for i in part]) for part in parts)
        splits = splits | {"train": kept, split: held}
    return splits


def _without_single_rows(samples: list[Any], labels: list[str]) -> Labelled:
    count = Counter(labels)
    kept = [n for n, label in enumerate(labels) if count[label] > 1]
    if len(kept) < len(labels):
        single = listed(sorted(label for label in count if count[label] == 1))
        note = (
            f"note: {len(labels) - len(kept)} of {len(labels)} rows left out, each the only one of its label: {single}"
        )
        rank_zero_only(print)(note, file=sys.stderr)
    return [samples[n] for n in kept], [labels[n] for n in kept]


def stratified_folds(labels: Sequence[str], folds: int, seed: int) -> list[tuple[Any, Any]]:
    """Positions to learn from and to judge by, for each fold; fewer folds where no label has as many samples.

    The only sample of a label is learned from in each fold and judged in none. Few samples are said on standard error;
    a ValueError refuses fewer than 2 folds, and labels of which none has two samples.
    """
    from sklearn.model_selection import StratifiedKFold  # slow to import, so not at the top

    counts = Counter(labels)
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if (most := max(counts.values())) < 2:
        raise ValueError("expected two rows of a label, one to learn from and one to judge by; got one of each")
    if most < folds:
        print(f"warning: no label has more than {most} rows: {most} folds instead of {folds}", file=sys.stderr)
    folds = min(folds, most)
    if few := sorted(name for name, count in counts.items() if 1 < count < folds):
        print(f"warning: fewer rows than folds, so not in every fold: {listed(few)}", file=sys.stderr)
    if single := sorted(name for name, count in counts.items() if count == 1):
        print(f"warning: a single row, so learned from and never judged: {listed(single)}", file=sys.stderr)
    names = np.array(labels)
    alone = np.isin(names, single)
    rows, always = np.flatnonzero(~alone), np.flatnonzero(alone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # scikit-learn's on few rows, without the names
        divided = StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, names[rows])
        return [(np.concatenate([rows[seen], always]), rows[judged]) for seen, judged in divided]


def join_validation(splits: dict[str, Any]) -> dict[str, Any]:
    """Splits of lists or of tensors, with the validation samples behind the training samples, and none left."""
    pairs = list(zip(splits["train"], splits["val"], strict=True))
    joined = tuple(torch.cat(pair) if isinstance(pair[0], Tensor) else [*pair[0], *pair[1]] for pair in pairs)
    return {**splits, "train": joined, "val": tuple(held[:0] for _, held in pairs)}


def require_two_rows(labels: Sequence[Any], held_out: int | float, name: str) -> None:
    """Refuse classes of which there is nothing to hold out: a ValueError names those with a single sample."""
    if single := sorted(label for label, count in Counter(labels).items() if count == 1):
        raise ValueError(
            f"cannot hold out {held_out:g} of {len(labels)} rows for {name}: a single row has the label "
            f"{listed(single)}; add rows with that label, or remove it"
        )


def listed(names: Sequence[str], number: int = 10) -> str:
    """The first few names, for a message.

    >>> listed(["a", "b", "c"], 2)
    "'a', 'b', ..."
    """
    return ", ".join(map(repr, names[:number])) + (", ..." if len(names) > number else "")


def fingerprint(number: int, *contents: bytes) -> str:
    """Number of rows and a hash of what they hold."""
    return f"{number} rows, SHA-256 {hashlib.sha256(b''.join(contents)).hexdigest()[:16]}"


def require_same_rows(trained_on: str | None, found: str) -> None:
    """Refuse, with a ValueError, training rows other than those of the checkpoint: the held-out ones would be others.

    Both are fingerprints, the first None without a checkpoint.
    """
    if trained_on not in (None, found):
        raise ValueError(
            f"the checkpoint was trained on other rows ({trained_on:.100}) than the options give now ({found}), so "
            "rows that are held out now may be among them: to resume, give the run's own files, seed and fractions; to "
            "train on new rows, start a new run; to test on new rows, give them in a file of their own"
        )


def _split_of_few(labels: Sequence[Any], number: int, seed: int) -> tuple[list[int], list[int]]:
    """Hold out of each class its share, by largest remainders with ties at random, but never its last sample."""
    random = np.random.default_rng(seed)
    _, of_class, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    quota = counts * number / len(labels)
    held_per_class = np.minimum(quota.astype(int), counts - 1)
    for k in np.lexsort((random.random(len(counts)), held_per_class - quota)):
        held_per_class[k] += held_per_class.sum() < number and held_per_class[k] < counts[k] - 1
    order = random.permutation(len(labels))
    order = order[of_class[order].argsort(kind="stable")]  # class by class, at random within each
    position = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    is_held = position < held_per_class[of_class[order]]
    return random.permutation(order[~is_held]).tolist(), random.permutation(order[is_held]).tolist()
