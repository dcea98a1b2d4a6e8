"""Held-out rows: also of classes with few rows; and how it is noticed that they are others."""

from collections import Counter

import numpy as np
import pytest
import torch

from datamodules.splits import (
    fingerprint,
    join_validation,
    require_same_rows,
    require_two_rows,
    stratified_folds,
    stratified_split,
)


@pytest.mark.parametrize("classes, rows", [(10, 2), (300, 5), (3, 1), (7, 3)])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_classes_of_few_rows_are_held_out_in_their_share_and_never_whole(classes, rows, share):
    labels = [f"label {n % classes}" for n in range(classes * rows)]
    if rows == 1:
        with pytest.raises(ValueError, match=r"cannot hold out .* raise test_fraction"):
            stratified_split(labels, share, 0, "test")
        return
    kept, held = stratified_split(labels, share, 0, "test")
    assert sorted(kept + held) == list(range(len(labels)))
    assert len(held) == pytest.approx(share * len(labels), abs=1)
    per_class = Counter(labels[i] for i in held)
    counts = [per_class[label] for label in set(labels)]
    assert max(counts) - min(counts) <= 1
    assert {labels[i] for i in kept} == set(labels)


def test_which_classes_go_without_is_drawn_by_the_seed():
    labels = list("aabbccddeeff")
    draws = {tuple(sorted(labels[i] for i in stratified_split(labels, 2, seed, "val")[1])) for seed in range(20)}
    assert len(draws) > 3
    assert stratified_split(labels, 2, 1, "val") == stratified_split(labels, 2, 1, "val")


def test_classes_of_a_single_row_are_named():
    require_two_rows(["a", "a", "b", "b"], 0.1, "test")
    with pytest.raises(ValueError, match="a single row has the label 'b', 'c'; add rows with that label, or remove it"):
        require_two_rows(["a", "a", "b", "c"], 0.1, "test")


def test_a_fingerprint_tells_rows_apart_and_says_how_many():
    assert fingerprint(3, b"abc").startswith("3 rows, SHA-256 ")
    assert len({fingerprint(3, b"abc"), fingerprint(3, b"abd"), fingerprint(3, b"ab", b"c")}) == 2
    require_same_rows(None, "anything")
    require_same_rows("the same", "the same")
    with pytest.raises(ValueError, match=r"other rows \(1\) than the options give now \(2\).*start a new run"):
        require_same_rows("1", "2")


@pytest.mark.parametrize("make", [list, torch.tensor])
def test_validation_samples_go_behind_the_training_samples_and_none_is_left(make):
    test = (make([6]), make([1]))
    splits = {"train": (make([1, 2]), make([0, 1])), "val": (make([3]), make([0])), "test": test}
    joined = join_validation(splits)
    assert {split: [list(part) for part in parts] for split, parts in joined.items()} == {
        "train": [[1, 2, 3], [0, 1, 0]],
        "val": [[], []],
        "test": [[6], [1]],
    }


def test_few_rows_lower_the_number_of_folds_and_are_said(capsys):
    assert len(stratified_folds(["rain"] * 3 + ["jazz"] * 3, 5, seed=0)) == 3
    assert "no label has more than 3 rows: 3 folds instead of 5" in capsys.readouterr().err
    assert len(stratified_folds(["rain"] * 6 + ["jazz"] * 3, 5, seed=0)) == 5
    assert "fewer rows than folds, so not in every fold: 'jazz'" in capsys.readouterr().err


def test_the_only_row_of_a_label_is_learned_from_and_never_judged(capsys):
    divided = stratified_folds(["rain"] * 4 + ["jazz"] + ["rain"] * 2, 5, seed=0)
    assert all(4 in seen for seen, _ in divided)
    assert sorted(np.concatenate([judged for _, judged in divided])) == [0, 1, 2, 3, 5, 6]
    assert all(set(seen) | set(judged) == set(range(7)) and not set(seen) & set(judged) for seen, judged in divided)
    assert "a single row, so learned from and never judged: 'jazz'" in capsys.readouterr().err


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        stratified_folds(["rain"] * 5 + ["jazz"] * 5, 1, seed=0)
    with pytest.raises(ValueError, match=r"expected two rows of a label, .* got one of each"):
        stratified_folds(["rain", "jazz"], 2, seed=0)
