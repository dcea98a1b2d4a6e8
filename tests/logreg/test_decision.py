"""The out-of-scope answer: the best threshold by trying all, the figures by numpy and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from logreg.decision import OutOfScopeMetrics, RejectBelowThreshold, best_threshold, max_in_scope_proba

EXAMPLES = [100, pytest.param(2_000, marks=pytest.mark.nightly)]  # hypothesis examples per property
OOS, CLASSES = 2, 4

below_one = float(np.nextafter(np.float32(1), np.float32(0)))
ties_and_neighbours = st.sampled_from([0.0, 0.25, 0.5, below_one, 1.0])
scores = st.floats(0, 1, width=32) | ties_and_neighbours
rows = st.lists(st.tuples(scores, st.sampled_from([0, 1, 3]), st.integers(0, CLASSES - 1)), min_size=1, max_size=12)


def profile(examples):
    """The short run is the same every time."""
    return settings(max_examples=examples, derandomize=examples < 1_000, deadline=None, database=None)


def probabilities(score, label):
    """(N, K) with the given largest in-scope probability at the given class; what is left is out of scope."""
    proba = torch.zeros(len(score), CLASSES)
    proba[torch.arange(len(label)), torch.tensor(label)] = torch.tensor(score)
    proba[:, OOS] = 1 - torch.tensor(score)
    return proba


def by_trying_all(score, label, target, at_one):
    """The documented rule, row by row: the middle of all thresholds within one standard error of the best.

    Args:
        at_one: whether a threshold of exactly 1 is tried where scores reach 1; it drops what the one before drops.
    """
    edges = [0.0, *sorted(set(score)), 1.0]
    thresholds = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    if not at_one and len(thresholds) > 1 and thresholds[-1] == 1:
        thresholds.pop()
    accuracy = []
    for threshold in thresholds:
        answers = [OOS if s < threshold else said for s, said in zip(score, label, strict=True)]
        accuracy.append(np.mean(np.array(answers) == target))
    enough = max(accuracy) - np.sqrt(max(accuracy) * (1 - max(accuracy)) / len(score))
    near = [threshold for threshold, a in zip(thresholds, accuracy, strict=True) if a >= enough]
    return (min(near) + max(near)) / 2


# --- the threshold --------------------------------------------------------------------------------------------------


def test_where_a_threshold_separates_all_it_lies_in_the_middle_of_the_gap():
    score, label = torch.tensor([0.9, 0.2, 0.6, 0.3]), torch.tensor([1, 0, 3, 3])
    assert best_threshold(score, label, torch.tensor([1, OOS, 3, OOS]), OOS) == pytest.approx((0.3 + 0.6) / 2)


def test_thresholds_that_are_about_as_good_count_as_best_and_the_middle_is_taken():
    """Out of scope below 0.5, in scope above, but for one row of each on the wrong side.

    The best threshold, between 0.495 and 0.5, gets 200 of 202 right. One standard error is √(200 · 2 / 202) = 1.4 rows,
    so a threshold may lose one: those between 0.49 and 0.495 and between 0.5 and 0.505 are as good.
    """
    score = [i / 200 for i in range(200)] + [0.2025, 0.7025]
    label = [0] * 202
    target = [OOS] * 100 + [0] * 100 + [0, OOS]
    found = best_threshold(torch.tensor(score), torch.tensor(label), torch.tensor(target), OOS)
    assert found == pytest.approx((0.4925 + 0.5025) / 2, abs=1e-6)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_the_threshold_is_the_one_found_by_trying_all(examples):
    @profile(examples)
    @given(rows)
    def holds(drawn):
        score, label, target = map(list, zip(*drawn, strict=True))
        found = best_threshold(torch.tensor(score), torch.tensor(label), torch.tensor(target), OOS)
        assert 0 <= found <= 1
        expected = [by_trying_all(score, label, target, at_one) for at_one in (True, False)]
        assert min(abs(found - e) for e in expected) < 1e-9, f"{found} is none of {expected}"

    holds()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_the_order_of_the_rows_changes_nothing(examples):
    @profile(examples)
    @given(rows, st.randoms())
    def holds(drawn, random):
        shuffled = random.sample(drawn, len(drawn))
        thresholds = []
        for score, label, target in (zip(*drawn, strict=True), zip(*shuffled, strict=True)):
            thresholds.append(best_threshold(torch.tensor(score), torch.tensor(label), torch.tensor(target), OOS))
        assert thresholds[0] == thresholds[1]

    holds()


def test_rows_that_are_sure_to_the_last_bit_cannot_be_dropped_by_any_threshold():
    """Probabilities of float32 do reach 1; a threshold is at most 1, and an answer at the threshold is kept.

    So of 60 out-of-scope rows at 1 none can be told, and the best threshold leaves 40 right answers at 0.5 alone.
    """
    score, label = torch.tensor([1.0] * 60 + [0.5] * 40), torch.zeros(100, dtype=torch.long)
    target = torch.tensor([OOS] * 60 + [0] * 40)
    threshold = best_threshold(score, label, target, OOS)
    answer = RejectBelowThreshold(OOS, threshold)(probabilities(score.tolist(), label.tolist()))
    assert int((answer == target).sum()) == 40


def test_without_out_of_scope_rows_nothing_right_is_given_up():
    proba = probabilities([0.1, 0.5, 0.9], [0, 1, 3])
    threshold = best_threshold(*max_in_scope_proba(proba, OOS), torch.tensor([0, 1, 3]), OOS)
    assert RejectBelowThreshold(OOS, threshold)(proba).tolist() == [0, 1, 3]


# --- the answer -----------------------------------------------------------------------------------------------------


def test_the_best_in_scope_class_is_found_beside_a_more_probable_out_of_scope_class():
    proba = torch.tensor([[0.1, 0.2, 0.6, 0.1], [0.4, 0.3, 0.0, 0.3]])
    score, label = max_in_scope_proba(proba, OOS)
    assert label.tolist() == [1, 0]
    torch.testing.assert_close(score, torch.tensor([0.2, 0.4]))
    assert proba[0, OOS] == pytest.approx(0.6)  # looked at, not changed


def test_an_answer_at_the_threshold_is_kept_and_one_below_is_out_of_scope():
    proba = probabilities([0.5, 0.25, 0.75], [0, 1, 3])
    assert RejectBelowThreshold(OOS, 0.5)(proba).tolist() == [0, OOS, 3]
    assert RejectBelowThreshold(OOS, 0.0)(proba).tolist() == [0, 1, 3]


# --- the figures ----------------------------------------------------------------------------------------------------


def sklearn_figures(answer, target):
    inside = target != OOS
    figures = {"in_scope_accuracy": accuracy_score(target[inside], answer[inside])} if inside.any() else {}
    if not inside.all():
        figures["oos_recall"] = recall_score(target == OOS, answer == OOS)
        figures["oos_precision"] = precision_score(target == OOS, answer == OOS, zero_division=0)
    return figures


def random_rows(seed, number=200):
    generator = np.random.default_rng(seed)
    return generator.dirichlet([0.3] * CLASSES, number).astype(np.float32), generator.integers(0, CLASSES, number)


def collected(proba, target, sizes):
    metrics = OutOfScopeMetrics(OOS)
    for part, truth in zip(torch.from_numpy(proba).split(sizes), torch.from_numpy(target).split(sizes), strict=True):
        metrics.update(part, truth)
    return metrics


@pytest.mark.parametrize("sizes", [[200], [1, 99, 100], [64, 64, 64, 8]])
@pytest.mark.parametrize("seed", range(5))
def test_figures_and_the_chosen_threshold_are_those_of_all_rows_whatever_the_batches(seed, sizes):
    proba, target = random_rows(seed)
    metrics = collected(proba, target, sizes)
    assert sum(column.nbytes for column in metrics.rows()) == 6 * 200
    in_scope = np.where(np.arange(CLASSES) == OOS, -1, proba)
    score, label = in_scope.max(axis=1), in_scope.argmax(axis=1)
    assert metrics.best_threshold() == best_threshold(*map(torch.from_numpy, (score, label, target)), OOS)
    expected = sklearn_figures(proba.argmax(axis=1), target)
    expected["oos_auroc"] = roc_auc_score(target == OOS, 1 - score)
    assert {n: float(v) for n, v in metrics.compute().items()} == pytest.approx(expected, abs=1e-6)
    for threshold in (0.0, 0.3, float(score[0]), 0.7, 1.0):
        answer = np.where(score < threshold, OOS, label)
        found = {name: float(value) for name, value in metrics.compute_at(threshold).items()}
        assert found == pytest.approx(sklearn_figures(answer, target), abs=1e-6)


@pytest.mark.parametrize(
    ("only", "names"), [([OOS], {"oos_recall", "oos_precision"}), ([0, 1, 3], {"in_scope_accuracy"})]
)
def test_a_figure_of_rows_that_are_not_there_is_left_out_and_there_is_nothing_to_rank(only, names):
    proba, _ = random_rows(1)
    target = np.random.default_rng(1).choice(only, len(proba))
    found = {name: float(value) for name, value in collected(proba, target, [200]).compute().items()}
    expected = sklearn_figures(proba.argmax(axis=1), target)
    assert found == pytest.approx({name: expected[name] for name in names}, abs=1e-6)
