"""Rows that callbacks keep: all of them, or beyond a number a random sample that their indices decide."""

import pytest
import torch

from callbacks.rows import SampledRows


def kept(number, batch_size=100, ranks=1, rank=0):
    rows = SampledRows("test")
    for batch in torch.arange(number).split(batch_size):
        indices = batch[rank::ranks]
        rows.add(indices, 2 * indices)
    return rows.gather()


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    monkeypatch.setattr("callbacks.rows.SAMPLE", 1_000)


def test_up_to_its_size_a_sample_is_all_rows():
    indices, column = kept(1_000)
    assert indices.tolist() == list(range(1_000))
    assert torch.equal(column, 2 * indices)


@pytest.mark.parametrize("number", [1_001, 5_000])
def test_of_more_rows_it_keeps_half_its_size_or_more_whatever_the_batches(number):
    indices, column = kept(number)
    assert 450 < len(indices) <= 1_000
    assert torch.equal(column, 2 * indices)
    assert set(kept(number, batch_size=7)[0].tolist()) == set(indices.tolist())


@pytest.mark.parametrize("period", [2, 3, 4, 10, 64])
def test_no_period_of_the_rows_is_left_out_or_preferred(period):
    indices, _ = kept(60_000)
    counts = (indices % period).bincount(minlength=period)
    expected = len(indices) / period
    assert ((counts - expected).square() / expected).sum() < period + 5 * (2 * period) ** 0.5  # chi-squared
    assert abs(float(indices.float().mean()) - 30_000) < 3_000
