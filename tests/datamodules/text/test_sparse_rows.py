"""Rows gathered from CSR arrays: the same as scipy's, the same logits as dense rows, never a dense matrix."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.batches import BatchedDataset
from datamodules.sampler import BatchIndices, ResumableBatchSampler, StatefulDataLoader
from datamodules.text.sparse_rows import SparseRows
from logreg.softmax import SoftmaxRegression

EXAMPLES = [50, pytest.param(2_000, marks=pytest.mark.nightly)]  # hypothesis examples per property


def profile(examples):
    """The short run is the same every time."""
    return settings(max_examples=examples, derandomize=examples < 1_000, deadline=None, database=None)


def csr(rows, num_features):
    """A CSR matrix from a list of {column: value}; columns stay in the order given, sorted or not."""
    lengths = [len(row) for row in rows]
    values = np.array([value for row in rows for value in row.values()], dtype=np.float32)
    columns = np.array([column for row in rows for column in row], dtype=np.int32)
    return sp.csr_matrix((values, columns, np.cumsum([0, *lengths], dtype=np.int32)), shape=(len(rows), num_features))


@st.composite
def matrix_and_rows(draw):
    """Any small CSR matrix, empty rows and explicit zeros included, and any of its rows, none or repeated ones."""
    num_features = draw(st.integers(1, 12))
    value = st.floats(-8, 8, width=32)
    row = st.dictionaries(st.integers(0, num_features - 1), value, max_size=num_features)
    matrix = csr(draw(st.lists(row, min_size=1, max_size=8)), num_features)
    return matrix, draw(st.lists(st.integers(0, matrix.shape[0] - 1), max_size=12))


def gather(matrix, rows, epoch=0, **options):
    return SparseRows(matrix, **options).gather(BatchIndices(torch.tensor(rows, dtype=torch.long), epoch))


def entries(batch):
    """Rows of (column, value) pairs, in their stored order."""
    ends, columns, values = batch.crow_indices().tolist(), batch.col_indices().tolist(), batch.values().tolist()
    return [list(zip(columns[a:b], values[a:b], strict=True)) for a, b in itertools.pairwise(ends)]


@pytest.fixture
def big():
    """2,000 rows of 0 to 40 non-zeros over 500 columns."""
    generator = np.random.default_rng(0)
    rows = [{int(c): 1.0 + c / 500 for c in generator.permutation(500)[: n % 41]} for n in range(2_000)]
    return csr(rows, 500)


# --- without dropout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", EXAMPLES)
def test_rows_are_those_of_scipy_for_any_matrix_and_indices(examples):
    @profile(examples)
    @given(matrix_and_rows())
    def holds(drawn):
        matrix, rows = drawn
        batch, expected = gather(matrix, rows), matrix[rows]
        assert batch.layout == torch.sparse_csr and batch.shape == expected.shape
        assert batch.crow_indices().tolist() == expected.indptr.tolist()
        assert batch.col_indices().tolist() == expected.indices.tolist()
        assert batch.values().tolist() == expected.data.tolist()

    holds()


def test_rows_of_float64_values_are_float32_like_the_weights():
    assert gather(csr([{0: 0.1}], 2).astype(np.float64), [0]).dtype == torch.float32


def test_gathering_leaves_the_matrix_as_it_was():
    matrix = csr([{0: 1.0, 2: 3.0}, {}, {1: 2.0}], 3)
    before = matrix.copy()
    batch = gather(matrix, [2, 0], dropout=0.5)
    batch.values().mul_(0)
    gather(matrix, [0, 0, 1]).values().mul_(0)
    assert (matrix != before).nnz == 0


def test_five_million_columns_cost_no_more_than_their_non_zeros():
    """A dense batch would be 300 rows times 5,000,000 columns: 6 GB."""
    num_features = 5_000_000
    rows = [{(n * 7_919) % num_features: 1.0, num_features - 1 - n: 2.0} for n in range(300)]
    sparse = SparseRows(csr(rows, num_features), dropout=0.0)
    batch = sparse.gather(BatchIndices(torch.arange(299, -1, -1), 0))
    assert batch.shape == (300, num_features)
    assert entries(batch) == [list(row.items()) for row in rows[::-1]]
    assert sum(map(len, (sparse.matrix.indptr, sparse.matrix.indices, sparse.matrix.data))) == 301 + 600 + 600
    assert not any(isinstance(held, torch.Tensor | np.ndarray) for held in vars(sparse).values())
    model = SoftmaxRegression(num_features, 2)
    with torch.no_grad():
        expected = [sum(v * model.W.weight[c] for c, v in row.items()) for row in rows[::-1]]
        torch.testing.assert_close(model(batch), torch.stack(expected))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_prefetching_changes_nothing_even_if_other_indices_follow(examples):
    @profile(examples)
    @given(matrix_and_rows(), st.data(), st.sampled_from([0.0, 0.4]))
    def holds(drawn, data, share):
        matrix, rows = drawn
        rows = torch.tensor(rows, dtype=torch.long)
        sparse = SparseRows(matrix, dropout=share)
        for first in data.draw(st.lists(st.integers(0, len(rows)), min_size=1, max_size=6)):
            asked = rows[first : first + 3]
            prefetch = torch.cat([asked, rows]) if data.draw(st.booleans()) else None
            epoch = data.draw(st.integers(0, 1))
            announced = sparse.gather(BatchIndices(asked, epoch, prefetch))
            assert entries(announced) == entries(gather(matrix, asked.tolist(), epoch=epoch, dropout=share))

    holds()


def test_prefetched_rows_are_gathered_once(monkeypatch):
    sparse = SparseRows(csr([{0: float(n + 1)} for n in range(6)], 1))
    batches = list(ResumableBatchSampler(6, 2, shuffle=True))
    first = entries(sparse.gather(batches[0]))
    monkeypatch.setattr(sparse, "matrix", None)  # it is not needed again
    gathered = [first, *(entries(sparse.gather(batch)) for batch in batches[1:])]
    assert gathered == [[[(0, float(row + 1))] for row in batch.indices] for batch in batches]


# --- dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_dropout_leaves_out_about_its_share_and_scales_up_what_stays(big, share):
    whole, dropped = entries(gather(big, range(2_000))), entries(gather(big, range(2_000), dropout=share))
    left = sum(map(len, dropped)) / sum(map(len, whole))
    assert left == pytest.approx(1 - share, abs=4 * np.sqrt(share * (1 - share) / big.nnz))  # four sigma
    for row, rest in zip(whole, dropped, strict=True):
        values = dict(row)
        assert [column for column, _ in row if column in dict(rest)] == [column for column, _ in rest]
        assert all(value == pytest.approx(values[column] / (1 - share), rel=1e-6) for column, value in rest)


def test_dropout_is_a_function_of_seed_and_epoch(big):
    def drawn(seed, epoch):
        return entries(gather(big, range(200), epoch=epoch, dropout=0.5, seed=seed))

    assert drawn(1, 3) == drawn(1, 3)
    different = [drawn(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_dropout_of_an_epoch_is_the_same_after_another_epoch(big):
    """Going back to an epoch, as a resumed run does, gives that epoch's rows again."""
    sparse = SparseRows(big, dropout=0.5, seed=7)
    rows = torch.arange(100)
    first, second, again = (entries(sparse.gather(BatchIndices(rows, epoch))) for epoch in (0, 1, 0))
    assert first == again != second


def test_dropout_draws_neither_from_the_global_generator_nor_changes_it(big):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = entries(gather(big, range(50), dropout=0.5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert entries(gather(big, range(50), dropout=0.5)) == first


@pytest.mark.parametrize("examples", EXAMPLES)
def test_dropout_of_a_row_is_the_same_in_every_batch(examples):
    @profile(examples)
    @given(matrix_and_rows(), st.floats(0.05, 0.95), st.integers(0, 2**32 - 1), st.integers(0, 1_000))
    def holds(drawn, share, seed, epoch):
        matrix, rows = drawn
        options = {"epoch": epoch, "dropout": share, "seed": seed}
        everything = entries(gather(matrix, range(matrix.shape[0]), **options))
        assert entries(gather(matrix, rows, **options)) == [everything[row] for row in rows]

    holds()


def loaded(matrix, *, num_workers=0, rank=0, world_size=1, batch_size=64):
    """Row number -> its entries, of one epoch of a loader."""
    rows = SparseRows(matrix, dropout=0.5, seed=3)
    dataset = BatchedDataset(rows.gather, torch.zeros(matrix.shape[0], dtype=torch.long))
    sampler = ResumableBatchSampler(len(dataset), batch_size, shuffle=True, seed=3, rank=rank, world_size=world_size)
    sampler.set_epoch(2)
    batches = list(StatefulDataLoader(dataset, sampler=sampler, num_workers=num_workers))
    pairs = (zip(batch.indices.tolist(), entries(batch.x), strict=True) for batch in batches)
    return dict(itertools.chain.from_iterable(pairs))


def test_dropout_of_a_row_is_the_same_in_every_process(big):
    matrix = big[:300]
    alone = loaded(matrix)
    assert len(alone) == 300
    assert loaded(matrix, num_workers=2) == alone
    assert loaded(matrix, batch_size=300) == alone
    assert loaded(matrix, rank=0, world_size=2) | loaded(matrix, rank=1, world_size=2) == alone
