"""Which samples make up which batch: a function of seed and epoch, whatever the number of processes or a resume."""

import itertools
from functools import partial

import lightning as L
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.sampler import BatchIndices, ResumableBatchSampler, StatefulDataLoader, generator
from logreg.net_classifier import NetClassifier


class Numbers(BatchedDataModule):
    """Sample i holds the one feature i; enough to see which samples a batch has."""

    class_names = ("even", "odd")

    def __init__(self, num_samples=10, batch_size=4, seed=0, stratified_batches=False):
        super().__init__(batch_size, seed, stratified_batches)
        self.num_samples = num_samples

    def dataset(self, split):
        x = torch.arange(self.num_samples, dtype=torch.float32).unsqueeze(1)
        return BatchedDataset(lambda batch: x[batch.indices], torch.arange(self.num_samples) % 2)


class Recorder(L.LightningModule):
    """A model that learns nothing but records the samples of each training batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch.indices.tolist()))
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return [batch.indices.tolist() for batch in sampler]


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def trainer(epochs, **options):
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    return L.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, **quiet, **options)


def fit(data, model, epochs, ckpt_path=None, **options):
    fitting = trainer(epochs, **options)
    fitting.fit(model, data.train_dataloader(), ckpt_path=ckpt_path, weights_only=True)
    return fitting


def shares(world_size, *arguments, **options):
    """The samplers of several processes."""
    return [
        ResumableBatchSampler(*arguments, rank=rank, world_size=world_size, **options) for rank in range(world_size)
    ]


sizes = {"num_samples": st.integers(1, 40), "batch_size": st.integers(1, 12), "seed": st.integers(0, 2**31)}


@given(**sizes, number=st.integers(0, 10_000), target=st.lists(st.integers(0, 4), min_size=40, max_size=40))
@pytest.mark.parametrize("is_stratified", [False, True])
def test_an_epoch_has_every_sample_once_in_an_order_by_seed_and_epoch(
    is_stratified, num_samples, batch_size, seed, number, target
):
    strata = torch.tensor(target[:num_samples]) if is_stratified else None
    first, second = (
        ResumableBatchSampler(num_samples, batch_size, shuffle=True, seed=seed, strata=strata) for _ in range(2)
    )
    epoch(first, number + 1)
    torch.manual_seed(number)  # whatever the global generator does
    batches = epoch(first, number)
    assert batches == epoch(second, number)
    assert sorted(flat(batches)) == list(range(num_samples))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert len(batches) == len(first)


@pytest.mark.parametrize("strata", [None, torch.arange(50) % 5])
def test_order_changes_with_the_epoch_and_with_the_seed(strata):
    samplers = [ResumableBatchSampler(50, 8, shuffle=True, seed=seed, strata=strata) for seed in range(4)]
    assert len({tuple(flat(epoch(sampler, number))) for sampler in samplers for number in range(4)}) == 16


@given(**sizes, world_size=st.sampled_from([1, 2, 4]))
def test_processes_together_see_the_batches_of_one(num_samples, batch_size, seed, world_size):
    alone = epoch(ResumableBatchSampler(num_samples, batch_size, shuffle=True, seed=seed), 3)
    of_ranks = [epoch(share, 3) for share in shares(world_size, num_samples, batch_size, shuffle=True, seed=seed)]
    for number, batch in enumerate(alone):
        parts = [batches[number] for batches in of_ranks]
        assert sorted(flat(parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert {len(batches) for batches in of_ranks} == {len(alone)}  # else one process would wait for the others forever


def test_a_process_may_have_no_sample_of_the_last_batch():
    assert [epoch(share) for share in shares(2, 5, 4)] == [[[0, 2], [4]], [[1, 3], []]]


def test_without_shuffling_samples_keep_their_order_in_every_epoch():
    sampler = ResumableBatchSampler(5, 2)
    assert epoch(sampler, 0) == epoch(sampler, 7) == [[0, 1], [2, 3], [4]]
    assert [batch.epoch for batch in sampler] == [7, 7, 7]


def test_random_numbers_depend_on_seed_epoch_and_stream_and_stay_what_they_were():
    """A changed generator would silently give resumed runs another order; these numbers are from the first version."""
    assert torch.randperm(8, generator=generator(42, 3)).tolist() == [3, 1, 5, 7, 4, 0, 2, 6]
    assert generator(42, 3, stream=1).initial_seed() == 42 * 1_000_003 + 3 + 500_000
    seeds = {generator(s, e, stream).initial_seed() for s in range(3) for e in range(3) for stream in range(2)}
    assert len(seeds) == 18


@given(**sizes, world_size=st.sampled_from([1, 3]), first=st.integers(0, 3))
def test_indices_are_announced_before_they_are_asked_for(num_samples, batch_size, seed, world_size, first):
    for sampler in shares(world_size, num_samples, batch_size, shuffle=True, seed=seed):
        sampler.start_batch = min(first, len(sampler))
        announced = []
        for batch in sampler:
            announced = batch.prefetch.tolist() if batch.prefetch is not None else announced
            asked, announced = announced[: len(batch.indices)], announced[len(batch.indices) :]
            assert asked == batch.indices.tolist()
        assert announced == []


def test_weights_draw_samples_with_replacement_by_their_probability():
    weights = torch.tensor([0.0] * 50 + [1.0] * 40 + [9.0] * 10)
    sampler = ResumableBatchSampler(100, 10, shuffle=True, weights=weights)
    rows = torch.tensor(flat(flat([epoch(sampler, number)]) for number in range(50)))
    counts = torch.bincount(rows.flatten(), minlength=100)
    assert counts.sum() == 50 * 100
    assert counts[:50].sum() == 0
    share = counts[90:].sum() / counts.sum()
    assert float(share) == pytest.approx(90 / 130, abs=0.03)
    assert epoch(sampler, 1) != epoch(sampler, 2)


# Stratified batches

classes = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)


@given(target=classes, seed=st.integers(0, 2**31))
def test_after_any_number_of_samples_each_class_has_been_seen_in_proportion(target, seed):
    order = ResumableBatchSampler(len(target), 8, shuffle=True, seed=seed, strata=target).order()
    seen = torch.nn.functional.one_hot(target[order]).cumsum(0)  # (N, K)
    share = target.bincount() / len(target)
    expected = torch.arange(1, len(target) + 1).unsqueeze(1) * share
    # All classes at the same point in [0, 1] of theirs are at most one row each ahead or behind of it.
    assert bool(((seen - expected).abs() <= 1 + len(share) * share + 1e-4).all())


def test_stratified_batches_miss_hardly_a_class():
    target = torch.arange(3_000) % 100

    def missing(strata):
        batches = ResumableBatchSampler(3_000, 200, shuffle=True, strata=strata)
        return sum(100 - len(target[batch.indices].unique()) for batch in batches) / len(batches)

    assert missing(None) > 10
    assert missing(target) < 1


# Batches


def test_a_batch_holds_features_targets_and_indices_of_the_same_samples():
    for batch in Numbers().train_dataloader():
        assert batch.x.squeeze(1).tolist() == batch.indices.tolist()
        assert batch.target.tolist() == [index % 2 for index in batch.indices.tolist()]
    one = Numbers().dataset("train")[3]
    assert tuple(tensor.tolist() for tensor in one) == ([[3.0]], [1], [3])


@pytest.mark.parametrize("size", [BatchedDataModule.eval_batch_size, 5])
def test_only_training_samples_are_shuffled_and_stratified_and_the_others_are_in_large_batches(size):
    class Sized(Numbers):
        eval_batch_size = size  # which a subclass may lower

    data = Sized(num_samples=size + 3, stratified_batches=True)
    train = flat(batch.indices.tolist() for batch in data.train_dataloader())
    assert train != sorted(train)
    assert data.train_dataloader().sampler.strata.tolist() == [number % 2 for number in range(size + 3)]
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert loader.sampler.strata is None
        assert [batch.indices.tolist() for batch in loader] == [[*range(size)], [*range(size, size + 3)]]


# Resume


def test_state_of_a_loader_skips_the_batches_that_were_done_and_only_once():
    loader, resumed = Numbers().train_dataloader(), Numbers().train_dataloader()
    whole = [batch.indices.tolist() for batch in loader]
    assert len(whole) == 3
    assert loader.state_dict() == {"batches_yielded": 0}  # at the end of an epoch there is nothing to skip
    next(iter(loader))
    state = loader.state_dict()
    assert state == {"batches_yielded": 1}
    resumed.load_state_dict(state)
    found = [(batch.indices.tolist(), resumed.state_dict()["batches_yielded"]) for batch in resumed]
    assert found == [(whole[1], 2), (whole[2], 0)]
    assert [batch.indices.tolist() for batch in resumed] == whole  # the next epoch is whole again


def test_trainer_takes_every_sample_once_an_epoch_in_the_order_of_that_epoch():
    model = Recorder()
    fit(Numbers(seed=3), model, 3, enable_checkpointing=False)
    sampler = ResumableBatchSampler(10, 4, shuffle=True, seed=3)
    assert model.seen == [(number, rows) for number in range(3) for rows in epoch(sampler, number)]


@pytest.mark.parametrize("after", [2, 3, 4])  # batches; an epoch has 3
def test_a_run_stopped_after_any_batch_resumes_with_the_batches_it_would_have_seen(tmp_path, after):
    straight, before, resumed = Recorder(), Recorder(), Recorder()
    fit(Numbers(), straight, 3, enable_checkpointing=False)

    saved = {"dirpath": tmp_path, "filename": "at", "every_n_train_steps": after, "save_top_k": -1}
    stopped = fit(Numbers(), before, 3, max_steps=after, callbacks=[ModelCheckpoint(**saved)])
    assert stopped.global_step == after
    resumed_run = {"ckpt_path": tmp_path / "at.ckpt", "callbacks": [ModelCheckpoint(**saved)]}
    assert fit(Numbers(), resumed, 3, **resumed_run).global_step == 9
    assert before.seen + resumed.seen == straight.seen


def test_worker_processes_gather_the_same_batches():
    loader = Numbers().train_dataloader()
    assert isinstance(loader, StatefulDataLoader)
    with_worker = StatefulDataLoader(loader.dataset, sampler=loader.sampler, num_workers=1)
    assert [batch.indices.tolist() for batch in with_worker] == [batch.indices.tolist() for batch in loader]


def test_a_dataset_is_asked_for_a_whole_batch_at_once():
    asked = []
    x = torch.arange(6.0).unsqueeze(1)

    def gather(batch):
        asked.append(batch)
        return x[batch.indices]

    loader = StatefulDataLoader(BatchedDataset(gather, torch.zeros(6)), sampler=ResumableBatchSampler(6, 3))
    assert len(list(loader)) == 2
    assert [type(batch) for batch in asked] == [BatchIndices, BatchIndices]
    assert [batch.indices.tolist() for batch in asked] == [[0, 1, 2], [3, 4, 5]]


# Trainer(overfit_batches=...)


@pytest.mark.parametrize(("overfit", "batches"), [(1, 1), (2, 2), (1.0, 3)])
def test_overfit_batches_takes_the_first_real_batches_in_every_epoch(overfit, batches):
    class Validating(Recorder):
        def validation_step(self, batch, batch_idx):
            self.validated = batch.indices.tolist()

    model = Validating()
    trainer(2, overfit_batches=overfit, enable_checkpointing=False).fit(model, Numbers(seed=3))
    first = epoch(ResumableBatchSampler(10, 4, shuffle=True, seed=3))[:batches]
    assert model.seen == [(number, batch) for number in range(2) for batch in first]
    assert model.validated == list(range(10))


# What a subclass must offer: as BatchedDataModule's docstring says, and nothing else


class Minimal(BatchedDataModule):
    """Two clouds of points."""

    class_names = ("left", "right")

    def dataset(self, split):
        random = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2, "predict": 3}[split])
        target = torch.arange(60) % 2
        x = torch.randn(60, 2, generator=random) + 6 * target.unsqueeze(1) - 3
        return BatchedDataset(lambda batch: x[batch.indices], target)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_number_that_no_class_has_is_refused_when_a_loader_is_made(split):
    data = Minimal()
    data.class_names = ("left",)
    with pytest.raises(ValueError, match=f"^{split}: expected targets 0 to 0, got 0 to 1$"):
        getattr(data, f"{split}_dataloader")()
    assert len(data.predict_dataloader()) == 1


def test_a_datamodule_that_offers_only_a_dataset_and_class_names_fits_tests_and_predicts(tmp_path):
    data = Minimal()
    net = torch.nn.Linear(data.num_features, data.num_classes)
    model = NetClassifier(net, data.num_classes, optimizer=partial(torch.optim.SGD, lr=1.0))
    fitted = trainer(20, default_root_dir=tmp_path, log_every_n_steps=1)
    fitted.fit(model, datamodule=data)
    [path] = tmp_path.rglob("*.ckpt")
    for options in ({"model": model}, {"model": model, "ckpt_path": path, "weights_only": True}):
        [metrics] = fitted.test(**options, datamodule=Minimal(), verbose=False)
        assert metrics["test/accuracy"] > 0.95
        proba = torch.cat(fitted.predict(**options, datamodule=Minimal()))
        assert proba.shape == (60, 2)
    assert (data.num_features, data.num_classes) == (2, 2)
    assert data.describe([4, 5], "test") == [{"row": 4}, {"row": 5}]


def test_the_contract_names_every_method_that_a_subclass_may_replace():
    own = {name for name in vars(BatchedDataModule) if not name.startswith("_")}
    hooks = {*(f"{split}_dataloader" for split in ("train", "val", "test", "predict")), "transfer_batch_to_device"}
    for name in own - hooks - {"load_from_checkpoint", "from_checkpoint"}:
        assert name in BatchedDataModule.__doc__


# Seed and state


def test_without_a_seed_the_run_s_own_is_taken_or_else_42(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert Minimal().seed == 42
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert Minimal().seed == 7
    assert Minimal(seed=0).seed == 0


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_size", 0, "must be at least 1, got 0"),
        ("seed", -1, "must be at least 0 and at most 4294967295, got -1"),
        ("seed", 2**32, "must be at least 0 and at most 4294967295, got 4294967296"),
    ],
)
def test_an_option_out_of_its_range_is_refused(option, value, message):
    with pytest.raises(ValueError, match=f"^{option} {message}$"):
        Minimal(**{option: value})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"an earlier version of this project \(format None, this one reads 1\): train again"),
        ({"format_version": 0}, r"an earlier version of this project \(format 0, "),
        ({"format_version": 2}, r"a later version of this project \(format 2, this one reads 1\): train again"),
        ({"format_version": "1"}, "an earlier version"),
    ],
)
def test_state_of_another_format_is_refused_in_one_line(state, message):
    with pytest.raises(ValueError, match=message) as caught:
        Minimal().load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert Minimal().load_state_dict(Minimal().state_dict()) is None


# Of very many samples


@pytest.mark.parametrize("number", [1, 7, 100_003])
def test_the_order_is_kept_in_4_bytes_a_sample_and_is_torchs_order_in_8(number):
    for seed in range(3):
        order = ResumableBatchSampler(number, 8, shuffle=True, seed=seed).order()
        assert order.dtype == torch.int32
        assert torch.equal(order.long(), torch.randperm(number, generator=generator(seed, 0)))
    assert ResumableBatchSampler(number, 8).order().tolist() == list(range(number))


def test_a_stratified_and_a_weighted_order_are_those_in_8_bytes_a_sample():
    strata, random = torch.arange(1_000) % 7, generator(3, 0)
    order = torch.randperm(1_000, generator=random)
    order = order[strata[order].argsort(stable=True)]
    sizes = strata.bincount()
    k = torch.arange(1_000) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    point = (k + torch.rand(1_000, generator=random)) / sizes.repeat_interleave(sizes)
    expected = order[point.argsort(stable=True)]
    for labels in (strata, strata.int()):
        found = ResumableBatchSampler(1_000, 8, shuffle=True, seed=3, strata=labels).order()
        assert found.dtype == torch.int32 and torch.equal(found.long(), expected)
    weights = torch.rand(1_000)
    drawn = torch.multinomial(weights, 1_000, replacement=True, generator=generator(3, 0))
    found = ResumableBatchSampler(1_000, 8, shuffle=True, seed=3, weights=weights).order()
    assert found.dtype == torch.int32 and torch.equal(found.long(), drawn)


def test_targets_in_4_bytes_give_the_batches_of_those_in_8():
    target = torch.tensor([0, 2, 1, -1])
    small, large = (BatchedDataset(lambda batch: batch.indices, t)[2] for t in (target.int(), target))
    assert small.target.dtype == small.indices.dtype == torch.int64
    assert torch.equal(small.target, large.target)


def test_more_rows_than_torch_can_draw_from_are_refused_with_weights_and_taken_without():
    number = 2**24 + 1
    message = "weighted sampling: expected at most 16,777,216 training rows, got 16,777,217; leave weights of rows out"
    with pytest.raises(ValueError, match=message):
        ResumableBatchSampler(number, 8, shuffle=True, weights=torch.ones(()).expand(number))
    assert len(ResumableBatchSampler(number, 8, shuffle=True)) == 2**21 + 1
