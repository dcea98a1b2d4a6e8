"""Which rows make up which batch: a function of seed and epoch, whatever the number of processes or a resume."""

import itertools

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.batches import EVAL_BATCH_SIZE, Draw, EpochBatches, EpochLoader, Rows, RowsDataModule


class Numbers(RowsDataModule):
    """Row i holds the one feature i; enough to see which rows a batch has."""

    def __init__(self, num_rows=10, batch_size=4, seed=0, num_workers=0):
        super().__init__(batch_size, seed, num_workers)
        self.num_rows = num_rows

    def rows(self, split):
        x = torch.arange(self.num_rows, dtype=torch.float32).unsqueeze(1)
        return Rows(lambda draw: x[draw.rows], torch.arange(self.num_rows) % 2)


class Recorder(L.LightningModule):
    """A model that learns nothing but notes the rows of each training batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.rows.tolist()))
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return [draw.rows.tolist() for draw in sampler]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def fit(data, model, epochs, ckpt_path=None, **options):
    plain = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, **plain, **options)
    trainer.fit(model, data.train_dataloader(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


sizes = {"num_rows": st.integers(1, 40), "batch_size": st.integers(1, 12), "seed": st.integers(0, 2**31)}


@given(**sizes, number=st.integers(0, 10_000))
def test_order_is_a_function_of_seed_and_epoch(num_rows, batch_size, seed, number):
    first, second = (EpochBatches(num_rows, batch_size, shuffle=True, seed=seed) for _ in range(2))
    epoch(first, number + 1)
    torch.manual_seed(number)  # whatever the global generator does
    assert epoch(first, number) == epoch(second, number)


def test_order_changes_with_the_epoch_and_with_the_seed():
    orders = [flat(epoch(EpochBatches(50, 8, shuffle=True, seed=s), e)) for s in range(4) for e in range(4)]
    assert len(set(map(tuple, orders))) == 16


@given(**sizes)
def test_every_row_comes_once_an_epoch_in_batches_of_the_size_asked_for(num_rows, batch_size, seed):
    sampler = EpochBatches(num_rows, batch_size, shuffle=True, seed=seed)
    batches = epoch(sampler)
    assert sorted(flat(batches)) == list(range(num_rows))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == len(sampler)


@given(**sizes, world_size=st.sampled_from([1, 2, 4]))
def test_processes_together_see_the_batches_of_one(num_rows, batch_size, seed, world_size):
    alone = epoch(EpochBatches(num_rows, batch_size, shuffle=True, seed=seed), 3)
    shares = [
        epoch(EpochBatches(num_rows, batch_size, shuffle=True, seed=seed, rank=rank, world_size=world_size), 3)
        for rank in range(world_size)
    ]
    for number, batch in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sorted(flat(parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert {len(share) for share in shares} == {len(alone)}  # nobody waits for a batch that another does not have


def test_a_process_may_be_left_without_a_row_of_the_last_batch():
    shares = [epoch(EpochBatches(5, 4, rank=rank, world_size=2)) for rank in range(2)]
    assert shares == [[[0, 2], [4]], [[1, 3], []]]


def test_without_shuffling_rows_keep_their_order_in_every_epoch():
    sampler = EpochBatches(5, 2)
    assert epoch(sampler, 0) == epoch(sampler, 7) == [[0, 1], [2, 3], [4]]


def test_a_draw_tells_the_epoch():
    sampler = EpochBatches(4, 2, shuffle=True)
    sampler.set_epoch(5)
    assert [draw.epoch for draw in sampler] == [5, 5]


@given(**sizes, world_size=st.sampled_from([1, 3]), first=st.integers(0, 3))
def test_rows_are_announced_before_they_are_asked_for(num_rows, batch_size, seed, world_size, first):
    for rank in range(world_size):
        sampler = EpochBatches(num_rows, batch_size, shuffle=True, seed=seed, rank=rank, world_size=world_size)
        sampler.first_batch = min(first, len(sampler))
        announced = []
        for draw in sampler:
            announced = draw.upcoming.tolist() if draw.upcoming is not None else announced
            asked, announced = announced[: len(draw.rows)], announced[len(draw.rows) :]
            assert asked == draw.rows.tolist()
        assert announced == []


def test_weights_draw_rows_with_replacement_by_their_probability():
    weights = torch.tensor([0.0] * 50 + [1.0] * 40 + [9.0] * 10)
    sampler = EpochBatches(100, 10, shuffle=True, weights=weights)
    rows = torch.tensor(flat(flat([epoch(sampler, number)]) for number in range(50)))
    counts = torch.bincount(rows.flatten(), minlength=100)
    assert counts.sum() == 50 * 100
    assert counts[:50].sum() == 0
    share = counts[90:].sum() / counts.sum()
    assert float(share) == pytest.approx(90 / 130, abs=0.03)
    assert epoch(sampler, 1) != epoch(sampler, 2)


# Stratified batches

classes = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)


@given(target=classes, batch_size=st.integers(1, 20), seed=st.integers(0, 2**31), number=st.integers(0, 99))
def test_stratified_batches_hold_every_row_once_and_are_a_function_of_seed_and_epoch(target, batch_size, seed, number):
    first, second = (EpochBatches(len(target), batch_size, shuffle=True, seed=seed, strata=target) for _ in range(2))
    rows = epoch(first, number)
    assert sorted(flat(rows)) == list(range(len(target)))
    torch.manual_seed(number)
    assert epoch(second, number) == rows


@given(target=classes, seed=st.integers(0, 2**31))
def test_after_any_number_of_rows_each_class_has_come_in_proportion(target, seed):
    order = EpochBatches(len(target), 8, shuffle=True, seed=seed, strata=target).order()
    seen = torch.nn.functional.one_hot(target[order]).cumsum(0)  # (N, K)
    share = target.bincount() / len(target)
    expected = torch.arange(1, len(target) + 1).unsqueeze(1) * share
    # All classes at the same point in [0, 1] of theirs are at most one row each ahead or behind of it.
    assert bool(((seen - expected).abs() <= 1 + len(share) * share + 1e-4).all())


def test_stratified_batches_lack_hardly_a_class():
    target = torch.arange(3_000) % 100

    def lacking(strata):
        batches = EpochBatches(3_000, 200, shuffle=True, strata=strata)
        return sum(100 - len(target[draw.rows].unique()) for draw in batches) / len(batches)

    assert lacking(None) > 10
    assert lacking(target) < 1


def test_stratified_batches_differ_from_epoch_to_epoch():
    sampler = EpochBatches(50, 8, shuffle=True, strata=torch.arange(50) % 5)
    assert len({tuple(flat(epoch(sampler, number))) for number in range(5)}) == 5


def test_only_training_batches_are_stratified():
    data = Numbers(num_rows=12)
    data.stratified_batches = True
    assert data.train_dataloader().batches.strata.tolist() == [0, 1] * 6
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert loader.batches.strata is None
        assert flat(batch.rows.tolist() for batch in loader) == list(range(12))


# Batches


def test_a_batch_holds_features_targets_and_row_numbers_of_the_same_rows():
    for batch in Numbers().train_dataloader():
        assert batch.x.squeeze(1).tolist() == batch.rows.tolist()
        assert batch.target.tolist() == [row % 2 for row in batch.rows.tolist()]


def test_rows_asked_for_one_by_one_are_batches_of_one():
    batch = Numbers().rows("train")[3]
    assert (batch.x.tolist(), batch.target.tolist(), batch.rows.tolist()) == ([[3.0]], [1], [3])


def test_only_training_rows_are_shuffled_and_the_others_come_in_large_batches():
    data = Numbers(num_rows=EVAL_BATCH_SIZE + 10)
    train = flat(batch.rows.tolist() for batch in data.train_dataloader())
    assert train != sorted(train)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert [batch.rows.tolist() for batch in loader] == [
            list(range(EVAL_BATCH_SIZE)),
            list(range(EVAL_BATCH_SIZE, EVAL_BATCH_SIZE + 10)),
        ]


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_size_below_one_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        Numbers(batch_size=batch_size)


# Resume


def test_state_of_a_loader_skips_the_batches_that_were_done_and_only_once():
    loader, resumed = Numbers().train_dataloader(), Numbers().train_dataloader()
    whole = [batch.rows.tolist() for batch in loader]
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    assert state == {"batches_done": 1}
    resumed.load_state_dict(state)
    assert [batch.rows.tolist() for batch in resumed] == whole[1:]
    assert [batch.rows.tolist() for batch in resumed] == whole  # the next epoch is whole again


def test_state_at_the_end_of_an_epoch_skips_nothing():
    loader = Numbers().train_dataloader()
    assert len(list(loader)) == 3
    assert loader.state_dict() == {"batches_done": 0}


def test_state_counts_the_skipped_batches_too():
    loader = Numbers().train_dataloader()
    loader.load_state_dict({"batches_done": 1})
    next(iter(loader))
    assert loader.state_dict() == {"batches_done": 2}


def test_trainer_shows_every_row_once_an_epoch_in_the_order_of_that_epoch():
    model = Recorder()
    fit(Numbers(seed=3), model, 3, enable_checkpointing=False)
    sampler = EpochBatches(10, 4, shuffle=True, seed=3)
    assert model.seen == [(number, rows) for number in range(3) for rows in epoch(sampler, number)]


@pytest.mark.parametrize("after", [2, 3, 4])  # batches; an epoch has 3
def test_a_run_stopped_after_any_batch_goes_on_with_the_batches_it_would_have_seen(tmp_path, after):
    straight, before, resumed = Recorder(), Recorder(), Recorder()
    fit(Numbers(), straight, 3, enable_checkpointing=False)

    saved = {"dirpath": tmp_path, "filename": "at", "every_n_train_steps": after, "save_top_k": -1}
    stopped = fit(Numbers(), before, 3, max_steps=after, callbacks=[ModelCheckpoint(**saved)])
    assert stopped.global_step == after
    going_on = {"ckpt_path": tmp_path / "at.ckpt", "callbacks": [ModelCheckpoint(**saved)]}
    assert fit(Numbers(), resumed, 3, **going_on).global_step == 9
    assert before.seen + resumed.seen == straight.seen


def test_worker_processes_cut_the_same_batches():
    assert isinstance(Numbers().train_dataloader(), EpochLoader)
    data = Numbers(num_workers=1)
    with_worker = [batch.rows.tolist() for batch in data.train_dataloader()]
    assert with_worker == [batch.rows.tolist() for batch in Numbers().train_dataloader()]


def test_a_dataset_is_asked_for_a_whole_draw_at_once():
    asked = []
    x = torch.arange(6.0).unsqueeze(1)

    def cut(draw):
        asked.append(draw)
        return x[draw.rows]

    loader = EpochLoader(Rows(cut, torch.zeros(6)), sampler=EpochBatches(6, 3))
    assert len(list(loader)) == 2
    assert [type(draw) for draw in asked] == [Draw, Draw]
    assert [draw.rows.tolist() for draw in asked] == [[0, 1, 2], [3, 4, 5]]
