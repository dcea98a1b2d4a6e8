"""Temperature scaling against scipy's search, scikit-learn's log loss and a calibration error by hand."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from logreg.binary import BinaryLogit
from logreg.calibration import CalibrationMetrics, TemperatureScaling, best_temperature
from logreg.net_classifier import MLP, NetClassifier
from logreg.one_vs_all import OneVsAll
from tests.logreg.helpers import calibration_error


def rows(seed, number=500, classes=5, sharpness=1.0):
    """Log-probabilities that are exaggerated by `sharpness`, and targets drawn from the honest ones."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.standard_normal((number, classes))
    target = np.array([generator.choice(classes, p=p) for p in softmax(logits, axis=1)])
    return log_softmax(sharpness * logits, axis=1), target


def by_search(log_proba, target):
    """T by scipy, of the documented sum over β = 1/T."""

    def objective(log_beta):
        scaled = log_softmax(np.exp(log_beta) * log_proba, axis=1)
        return -scaled[np.arange(len(target)), target].sum() + np.exp(log_beta) - log_beta

    return float(np.exp(-minimize_scalar(objective, bounds=(-8, 8), method="bounded", options={"xatol": 1e-9}).x))


def tensors(*arrays):
    return tuple(torch.from_numpy(array) for array in arrays)


@pytest.mark.parametrize("sharpness", [0.05, 0.5, 1.0, 4.0, 100.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_temperature_is_the_one_that_scipy_finds(seed, sharpness):
    log_proba, target = rows(seed, sharpness=sharpness)
    assert best_temperature(*tensors(log_proba, target)) == pytest.approx(by_search(log_proba, target), rel=1e-4)


@pytest.mark.parametrize("sharpness", [0.25, 4.0])
def test_an_exaggeration_is_found_and_undone(sharpness):
    log_proba, target = rows(0, number=20_000, sharpness=sharpness)
    assert best_temperature(*tensors(log_proba, target)) == pytest.approx(sharpness, rel=0.05)


@pytest.mark.parametrize("number", [1, 30])
def test_rows_that_are_all_right_or_all_wrong_leave_the_temperature_finite(number):
    log_proba = log_softmax(np.tile([5.0, 0.0, -1.0], (number, 1)), axis=1)
    for label in (0, 2):
        target = np.full(number, label)
        found = best_temperature(*tensors(log_proba, target))
        assert found == pytest.approx(by_search(log_proba, target), rel=1e-4)
        assert (found < 1) == (label == 0)


def test_without_a_difference_between_the_classes_without_rows_or_numbers_it_is_one():
    flat = torch.full((4, 2), 0.5).log()
    assert best_temperature(flat, torch.tensor([0, 1, 1, 0])) == 1
    assert best_temperature(flat[:0], torch.tensor([], dtype=torch.long)) == 1
    assert best_temperature(torch.full((4, 2), torch.nan), torch.tensor([0, 1, 1, 0])) == 1


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_all_models_divide_their_logits_by_it_or_raise_their_probabilities_to_a_power(temperature):
    torch.manual_seed(0)
    x = torch.randn(50, 4)
    binary, trio, net = BinaryLogit(4), OneVsAll(4, 3), NetClassifier(MLP(4, 3), 3)
    as_trained = trio.predict_proba(x).detach()
    for model in (binary, trio, net):
        model.calibration.temperature = temperature
    with torch.no_grad():
        positive = torch.sigmoid(binary(x) / temperature)
        torch.testing.assert_close(binary.predict_proba(x), torch.stack([1 - positive, positive], dim=1))
        torch.testing.assert_close(net.predict_proba(x), (net(x) / temperature).softmax(dim=1))
        powers = as_trained ** (1 / temperature)
        torch.testing.assert_close(trio.predict_proba(x), powers / powers.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("temperature", [0.2, 5.0])
def test_no_label_changes(temperature):
    log_proba, _ = tensors(*rows(3, number=5_000, classes=20))
    scaling = TemperatureScaling(calibrate=True)
    before = scaling(log_proba).argmax(dim=1)
    scaling.temperature = temperature
    assert torch.equal(scaling(log_proba).argmax(dim=1), before)


@pytest.mark.parametrize("sizes", [[500], [1, 99, 400]])
def test_metrics_are_scikit_learns_and_those_by_hand_whatever_the_batches(sizes):
    log_proba, target = rows(1, sharpness=3.0)
    metrics = CalibrationMetrics(oos_class=4)
    for piece, truth in zip(*(column.split(sizes) for column in tensors(log_proba, target)), strict=True):
        metrics.update(piece, truth)
    inside = target != 4
    for found, proba in (
        (metrics.compute(), np.exp(log_proba)),
        (metrics.compute_at(3), softmax(log_proba / 3, axis=1)),
    ):
        assert {name: float(value) for name, value in found.items()} == pytest.approx(
            {
                "nll": log_loss(target, proba, labels=range(5)),
                "ece": calibration_error(proba, target),
                "in_scope_nll": log_loss(target[inside], proba[inside], labels=range(5)),
                "in_scope_ece": calibration_error(proba[inside], target[inside]),
            },
            abs=1e-5,
        )
    assert best_temperature(*metrics.gather()) == pytest.approx(by_search(log_proba, target), rel=1e-3)


def test_a_temperature_can_be_given():
    log_proba = log_softmax(np.array([[2.0, 0.0, -1.0]]), axis=1)
    given = TemperatureScaling(1.6)
    np.testing.assert_allclose(given(*tensors(log_proba)).numpy(), softmax(log_proba / 1.6, axis=1))
    assert float(given.get_extra_state()) == 1.6
    for wrong in (0.0, -1.0, float("inf"), 1e300):
        message = re.escape(f"calibrate must be true, false or a temperature above 0, got {wrong}")
        with pytest.raises(ValueError, match=message):
            TemperatureScaling(wrong)


# Of more rows than a sample holds


@pytest.fixture
def small_sample(monkeypatch):
    monkeypatch.setattr("logreg.evaluation.SAMPLE", 400)


def collected(columns, sizes, temperature=1.0, metrics=None):
    metrics = CalibrationMetrics(oos_class=4) if metrics is None else metrics
    for piece, truth in zip(*(column.split(sizes) for column in columns), strict=True):
        metrics.update(piece, truth, temperature)
    return metrics


@pytest.mark.parametrize("sizes", [[1_000], [8] * 125, [390, 20, 590]])
def test_metrics_of_many_rows_are_those_of_all_of_them_and_few_are_kept(small_sample, monkeypatch, sizes):
    columns = tensors(*rows(2, number=1_000, sharpness=3.0))
    many = collected(columns, sizes, temperature=2.5)
    kept = many.gather()[1]
    assert 100 < len(kept) <= 400
    monkeypatch.setattr("logreg.evaluation.SAMPLE", 10_000)
    whole = collected(columns, sizes)
    assert len(whole.gather()[1]) == 1_000
    for found, expected in ((many.compute(), whole.compute()), (many.compute_at(2.5), whole.compute_at(2.5))):
        assert len(expected) == 4
        assert {n: float(v) for n, v in found.items()} == pytest.approx(
            {n: float(v) for n, v in expected.items()}, abs=1e-6
        )


def test_up_to_its_size_a_sample_is_all_rows_in_their_order(small_sample):
    log_proba, target = tensors(*rows(2, number=400))
    found = collected((log_proba, target), [100] * 4).gather()
    assert torch.equal(found[0], log_proba.float()) and torch.equal(found[1], target)


def test_a_sample_is_the_same_after_each_reset_and_takes_rows_wherever_they_stand(small_sample):
    log_proba, row = torch.zeros(4_000, 5), torch.arange(4_000)
    numbers = row % 2 + 2 * (row // 2_000)
    metrics = collected((log_proba, numbers), [100] * 40)
    first = metrics.gather()[1]
    metrics.reset()
    assert torch.equal(collected((log_proba, numbers), [100] * 40, metrics=metrics).gather()[1], first)
    assert all(30 < count < 140 for count in first.bincount().tolist())  # odd and even, early and late
    metrics.reset()
    assert len(collected((log_proba[:7], numbers[:7]), [7], metrics=metrics).gather()[1]) == 7


def test_a_temperature_of_many_rows_is_near_that_of_all(small_sample):
    log_proba, target = rows(0, number=5_000, sharpness=3.0)
    scaling = TemperatureScaling(calibrate=True)
    scaling.fit({"calibration": collected(tensors(log_proba, target), [1_000] * 5)})
    assert scaling.temperature == pytest.approx(by_search(log_proba, target), rel=0.2)
    assert scaling.temperature != pytest.approx(by_search(log_proba, target), rel=1e-6)


TWO_PROCESSES = """
import json, os, sys
import torch
import torch.distributed as dist
import logreg.evaluation
from logreg.calibration import CalibrationMetrics, TemperatureScaling

def measured(rank, world_size):
    metrics = CalibrationMetrics(4)
    for start in range(0, 3001, 100):  # one row is left for the last batch
        part = slice(start + rank, min(start + 100, 3001), world_size)
        if len(target[part]):
            metrics.update(log_proba[part], target[part], 2.0)
    scaling = TemperatureScaling(True)
    scaling.fit({"calibration": metrics})
    values = [float(value) for found in (metrics.compute(), metrics.compute_at(2.0)) for value in found.values()]
    return [*values, scaling.temperature, len(metrics.gather()[1]), len(metrics.rows()[1])]

random = torch.Generator().manual_seed(0)
log_proba = (3 * torch.randn(3001, 5, generator=random)).log_softmax(1)
target = torch.multinomial((log_proba / 2).softmax(1), 1, generator=random)[:, 0]
logreg.evaluation.SAMPLE, rank = 400, int(sys.argv[1])
if rank < 0:
    print(json.dumps(measured(0, 1)))
else:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    print(json.dumps(measured(rank, 2)))
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_does_and_share_the_sample():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"cwd": Path(__file__).parents[2], "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(rank), str(port)], stdout=subprocess.PIPE, **options)
        for rank in (-1, 0, 1)
    ]
    alone, first, second = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert first[:-1] == second[:-1]  # all but the rows of its own
    assert first[:8] == pytest.approx(alone[:8], abs=1e-6)
    assert first[8] == pytest.approx(alone[8], rel=0.2)
    assert first[9] <= 400 and max(first[10], second[10]) <= 200
