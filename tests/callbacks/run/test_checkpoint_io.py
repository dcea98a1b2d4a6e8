"""Checkpoint files: whole or not at all, and loadable by construction."""

import time
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict

from callbacks.run import checkpoint_io
from callbacks.run.checkpoint_io import AtomicCheckpointIO, as_loadable


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.str_("a"), "a"),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ([np.str_("a"), "b"], ["a", "b"]),
        ((np.int8(1),), (1,)),
        ({np.str_("k"): {np.int64(1)}}, {"k": {1}}),
        (defaultdict(int, a=1), {"a": 1}),
        (AttributeDict(a=AttributeDict(b=1)), {"a": {"b": 1}}),
        (Counter(a=np.int64(2)), Counter(a=2)),
    ],
)
def test_lossless_conversions_are_made(tmp_path, value, expected):
    AtomicCheckpointIO().save_checkpoint({"value": value}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)["value"]
    assert loaded == expected
    assert type(loaded) is type(expected)


def test_every_type_that_is_let_through_loads(tmp_path):
    value = [torch.zeros(1), torch.nn.Parameter(torch.zeros(1)), torch.float16, torch.device("cpu"), torch.Size([2])]
    value += [1, 1.5, 1j, True, None, "a", b"a", {1, "b"}, (1,), OrderedDict(a=1), Counter("aa"), {(1, "a"): 2}]
    value += [[1, [2]]]
    assert {type(item) for item in value} >= checkpoint_io.LEAVES | checkpoint_io.MAPS
    assert as_loadable([*value, sparse := torch.zeros(2, 2).to_sparse()]) == [*value, sparse]
    AtomicCheckpointIO().save_checkpoint({"value": value}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["value"] == value
    weights = torch.nn.BatchNorm1d(1).state_dict()
    weights["extra"] = np.float64(1.0)
    assert as_loadable(weights)._metadata == weights._metadata  # versions of modules survive a conversion


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"WineDataModule": {"names": ["a", Path("b")]}}, r"WineDataModule.names\[1\] is a pathlib\.\S*Path"),
        ({"WineDataModule": {"mean": np.zeros(2)}}, r"WineDataModule.mean is a numpy.ndarray, .*torch.from_numpy"),
        ({"state": {"scaler": L.LightningDataModule()}}, r"state.scaler is a lightning\S*LightningDataModule"),
        ({"hyper_parameters": {"act": torch.relu}}, r"hyper_parameters.act is .*hyperparameters\(ignore=\['act'\]"),
        ({"hyper_parameters": {"net": [{"x": len}]}}, r"hyper_parameters.net\[0\].x is .*ignore=\['net'\]"),
        ({"a": {3: object()}}, r"a\[3\] is a object"),
        ({"a": {frozenset(): 1}}, "a key is a frozenset"),
        ({"a": np.datetime64("2020-01-01")}, "a is a numpy.datetime64"),
        ({"a": np.longdouble(1)}, r"a is a numpy.(longdouble|float128)"),
        ({"a": range(3)}, "a is a range"),
    ],
)
def test_what_could_not_be_read_back_is_refused_by_name_and_the_file_before_stays(tmp_path, checkpoint, message):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    assert "\n" not in str(caught.value)
    assert torch.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_large_vocabulary_costs_next_to_nothing():
    vocabulary = [str(number) for number in range(1_000_000)]
    checkpoint = {"vocabulary": vocabulary, "counts": dict.fromkeys(vocabulary, 1)}
    start = time.perf_counter()
    as_loadable(checkpoint)
    assert time.perf_counter() - start < 1  # 60 ms on an idle machine


def test_a_checkpoint_in_memory_is_handed_out_once_and_let_go(tmp_path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1, "state_dict": {}}, path)
    loaded = {str(path): {"epoch": 2}}
    plugin = AtomicCheckpointIO(loaded)
    assert plugin.load_checkpoint(path) == {"epoch": 2}
    assert loaded == {}
    assert plugin.load_checkpoint(path) == {"epoch": 1, "state_dict": {}}


def test_each_successful_save_is_announced_and_no_other(tmp_path):
    calls = []
    plugin = AtomicCheckpointIO(after_save=lambda: calls.append((tmp_path / "a.ckpt").exists()))
    with pytest.raises(ValueError, match="is a object"):
        plugin.save_checkpoint({"a": object()}, tmp_path / "a.ckpt")
    assert calls == []
    plugin.save_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    assert calls == [True]
