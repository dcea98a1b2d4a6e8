"""A table of one's own: what a subclass has to write, what it inherits, and what a checkpoint keeps."""

import math
import pickle

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from sklearn.datasets import load_wine

from datamodules.splits import stratified_split
from datamodules.table.tabular import Table, TabularDataModule
from tests.tools.ready import ready

SPLITS = ("train", "val", "test")


class WineDataModule(TabularDataModule):
    """178 wines of 3 cultivars, 13 measurements."""

    def load_table(self):
        wine = load_wine()
        return Table(wine.data, wine.target, wine.feature_names, wine.target_names)  # the last are numpy.str_


class Unreadable(WineDataModule):
    """The same, on a machine without the data."""

    def load_table(self):
        raise OSError("no data here")


X = ((0.0, 1.0),) * 10 + ((2.0, 3.0),) * 10


def small(x=X, target=(0,) * 10 + (1,) * 10, features="ab", classes="cd", **options):
    """A datamodule of a table that is given."""

    class Small(TabularDataModule):
        def load_table(self):
            return Table(x, target, features, classes)

    return ready(Small(**options))


def restored(kind, state, path, **options):
    torch.save(state, path)
    data = kind(**options)
    data.load_state_dict(torch.load(path, weights_only=True))
    return data


# What a subclass writes and inherits


def test_names_and_sizes_are_those_of_the_table_as_plain_strings():
    data, wine = ready(WineDataModule()), load_wine()
    assert (data.feature_names, data.class_names) == (wine.feature_names, list(wine.target_names))
    assert {type(name) for name in data.feature_names + data.class_names} == {str}
    assert (data.num_features, data.num_classes) == (13, 3)
    assert sum(data.class_counts) == 178 - 2 * 36
    assert data.class_counts == data.points("train")[1].bincount().tolist()


@pytest.mark.parametrize(
    ("returned", "got"), [(None, "NoneType"), ((torch.zeros(4, 2), [0, 1, 0, 1]), "2 values")], ids=str
)
def test_what_load_table_returns_is_named_where_it_is_no_table(returned, got):
    class Wrong(TabularDataModule):
        def load_table(self):
            return returned

    expected = f"load_table: expected a Table of x, target, feature_names, class_names, got {got}"
    with pytest.raises(ValueError, match=expected):
        _ = ready(Wrong()).class_names


def test_splits_are_stratified_disjoint_and_leave_no_row_out():
    data, wine = ready(WineDataModule(val_fraction=0.1, test_fraction=0.3)), load_wine()
    assert [len(data.points(split)[0]) for split in SPLITS] == [107, 18, 53]
    for split in SPLITS:
        target = data.points(split)[1]
        expected = torch.from_numpy(wine.target).bincount() / 178 * len(target)
        assert float((target.bincount() - expected).abs().max()) <= 1
    rows = [(*x, y) for split in SPLITS for x, y in zip(*(t.tolist() for t in data.points(split)), strict=True)]
    expected = zip(wine.data.astype(np.float32).tolist(), wine.target, strict=True)
    assert sorted(rows) == sorted((*x, y) for x, y in expected)


def test_the_table_is_read_once():
    calls = []

    class Counted(WineDataModule):
        def load_table(self):
            calls.append(self)
            return super().load_table()

    data = ready(Counted())
    _ = data.num_features, data.class_counts, data.state_dict(), data.dataset("test"), data.dataset("predict")
    assert len(calls) == 1


def test_wine_fits_tests_and_predicts(tmp_path, monkeypatch):
    softmax = pytest.importorskip("logreg.softmax", reason="deleted with its tasks")
    data = ready(WineDataModule(batch_size=32))
    model = softmax.SoftmaxRegression(data.num_features, data.num_classes, lr=0.5)
    plain = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=30, default_root_dir=tmp_path, log_every_n_steps=1, **plain)
    trainer.fit(model, datamodule=data)
    [path] = tmp_path.rglob("*.ckpt")
    [found] = trainer.test(model, ready(WineDataModule()), path, verbose=False, weights_only=True)
    assert found["test/accuracy"] > 0.9
    monkeypatch.setattr(WineDataModule, "load_table", Unreadable.load_table)
    inputs = WineDataModule(predict_inputs=load_wine().data[:5].tolist())
    [proba] = trainer.predict(model, inputs, ckpt_path=path, weights_only=True)
    assert proba.argmax(dim=1).tolist() == [0] * 5


def test_the_command_line_offers_the_inherited_options():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(WineDataModule, "data")
    help = parser.format_help()
    for option in ("val_fraction", "test_fraction", "batch_size", "seed", "stratified_batches", "predict_inputs"):
        assert f"--data.{option}" in help
    given = parser.parse_args(["--data.val_fraction=0.3", "--data.predict_inputs=[[1, 2.5]]"])
    assert (given.data.val_fraction, given.data.predict_inputs) == (0.3, [[1.0, 2.5]])


def test_derived_columns_count_as_features():
    class Squares(WineDataModule):
        def add_features(self, x):
            return torch.cat([x, x.square()], dim=1)

    data = ready(Squares())
    assert (data.num_features, data.dataset("train")[0].x.shape) == (26, (1, 26))
    assert data.points("train")[0].shape == (107 - 1, 13)


@pytest.mark.parametrize("as_x", [torch.tensor, np.array, list], ids=["tensor", "array", "lists"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_a_table_may_be_of_arrays_tensors_or_lists(as_x, dtype):
    x = [[float(n), 0.5] for n in range(20)]
    data = small(as_x(x), np.array([0] * 10 + [1] * 10, dtype=dtype))
    assert sorted(row for split in SPLITS for row in data.points(split)[0].tolist()) == x
    assert {tensor.dtype for split in SPLITS for tensor in data.points(split)} == {torch.float32, torch.int64}


# What is refused


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"features": "abc"}, r"expected rows of 3 numbers \(a, b, c\), got \(0.0, 1.0\) in row 0"),
        ({"target": [0, 1]}, r"load_table: expected a class number for each of 20 rows, got \(2,\)"),
        ({"target": [[0], [1]] * 10}, r"a class number for each of 20 rows, got \(20, 1\)"),
        ({"x": [1.0] * 20}, r"expected rows of 2 numbers \(a, b\), got \[1.0, 1.0"),
        ({"target": [0, 2] * 10}, r"whole class numbers from 0 to 1 .* got 0, 2"),
        ({"target": [-1, 1] * 10}, r"got -1, 1"),
        ({"target": [0.5, 1] * 10}, r"got 0.5, 1.0"),
        ({"target": ["c", "d"] * 10}, r"got c, d"),
        ({"x": [[math.nan, 1.0]] * 20}, r"expected finite numbers, got \[nan, 1.0\] in row 0"),
        ({"x": [*X[1:], [0.0, -math.inf]]}, r"expected finite numbers, got \[0.0, -inf\] in row 19"),
        ({"x": [["red", 1.0]] * 20}, r"expected rows of 2 numbers \(a, b\), got \[\['red', 1.0\]"),
        ({"x": X[:3], "target": [0, 0, 1]}, r"cannot hold out 1 of 3 rows for test: .* the label 'd'; add rows"),
    ],
    ids=str,
)
def test_a_table_that_does_not_fit_together_is_refused_in_one_line(table, message):
    with pytest.raises(ValueError, match=message) as caught:
        small(**table).points("train")
    assert "\n" not in str(caught.value)


# Checkpoints


def test_predicting_given_rows_needs_a_checkpoint_and_no_data(tmp_path):
    fitted, rows = ready(WineDataModule()), load_wine().data[:2].tolist()
    data = restored(Unreadable, fitted.state_dict(), tmp_path / "state", predict_inputs=rows)
    dataset = data.dataset("predict")
    assert torch.equal(dataset[1].x, fitted.transform(torch.tensor(rows[1:])))
    for name in ("feature_names", "class_names", "class_counts", "num_features", "num_classes"):
        assert getattr(data, name) == getattr(fitted, name)
    assert data.describe([1], "predict")[0]["alcohol"] == rows[1][0]
    assert data.state_dict()["class_counts"] == fitted.class_counts  # and so it can be saved again
    with pytest.raises(OSError, match="no data here"):
        data.setup("test")


def test_a_row_of_the_wrong_width_is_refused_without_the_data(tmp_path):
    inputs = {"predict_inputs": [[1.0] * 13, [1.0, 2.0]]}
    data = restored(Unreadable, ready(WineDataModule()).state_dict(), tmp_path / "state", **inputs)
    with pytest.raises(ValueError, match=r"expected rows of 13 numbers \(alcohol, .* got \[1.0, 2.0\] in row 1"):
        data.dataset("predict")


def test_a_read_only_array_is_encoded_without_a_warning():
    data, rows = small(), np.ones((3, 2), dtype=np.float32)
    expected = data.encode(rows.copy())
    rows.setflags(write=False)
    torch.set_warn_always(True)
    try:
        assert torch.equal(data.encode(rows), expected)
    finally:
        torch.set_warn_always(False)


def test_state_may_be_restored_twice_as_the_command_line_and_lightning_do(tmp_path):
    state = ready(WineDataModule()).state_dict()
    data = restored(Unreadable, state, tmp_path / "state")
    data.load_state_dict(state)
    assert torch.equal(data.mean, state["mean"])


def test_data_of_other_names_than_the_checkpoint_s_is_refused(tmp_path):
    state = ready(small()).state_dict()
    data = type(small(classes="ef"))()
    data.load_state_dict(state)
    with pytest.raises(ValueError, match=r"trained on class_names \['c', 'd'\], the data has \['e', 'f'\]"):
        data.setup("test")


# stratified_split


def test_a_split_takes_a_number_or_a_share_and_labels_of_any_kind():
    labels = ["a"] * 8 + ["b"] * 4
    for held_out in (3, 0.25):
        kept, held = stratified_split(labels, held_out, 0, "val")
        assert sorted(kept + held) == list(range(12))
        assert sorted(labels[i] for i in held) == ["a", "a", "b"]
    assert stratified_split([int(label == "b") for label in labels], 3, 0, "val") == (kept, held)


def test_rows_can_be_handed_to_a_worker_process_that_is_spawned():
    """macOS and Python 3.14 start workers so: what they get is pickled."""
    dataset = ready(WineDataModule()).dataset("val")
    received = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(received[3].x, dataset[3].x)
