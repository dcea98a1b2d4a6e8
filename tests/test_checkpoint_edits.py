"""A checkpoint is input: one changed value is harmless, or refused in one line by its key, and no file is harmed.

`python tests/tools/edit_checkpoints.py --edits 2000 text_csv iris_binary iris_ova xor_mlp` tries as many as you like.
"""

import logging
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "tools"))

from edit_checkpoints import RUNS, Edit, Judge, contents, put

from logreg.binary import BinaryLogit

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning and torch say of odd values before they are refused


@pytest.fixture(scope="module")
def judge(cli, tmp_path_factory):
    """`judge(config)` has one finished run of that config."""
    judges = {}

    def make(config):
        if config not in judges:
            judges[config] = Judge(config, tmp_path_factory.mktemp(config), cli)
        return judges[config]

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    yield make
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)


@pytest.mark.parametrize(
    ("config", "examples"),
    [
        *(("text_csv", 3), ("iris_ova", 3)),
        *(pytest.param(config, 15, marks=pytest.mark.slow, id=f"{config}-some") for config in RUNS),
        *(pytest.param(config, 2_000, marks=pytest.mark.nightly, id=f"{config}-many") for config in RUNS),
    ],
)
def test_any_single_edit_is_harmless_or_refused_in_one_line(judge, config, examples):
    right = judge(config)

    @settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data):
        part = data.draw(st.sampled_from(sorted(right.checkpoint)))  # else most would be of the loops' counts
        edit = data.draw(st.sampled_from([edit for edit in right.edits if edit.path[0] == part]))
        became, why = right.judge(edit, data.draw(st.sampled_from(right.commands_for(edit))))
        assert why == "", f"{edit.place}: {edit.what}: {became}"

    holds()


def nested(depth):
    return [nested(depth - 1)] if depth else 0


BATCHES = ("loops", "fit_loop", "epoch_loop.batch_progress")
OURS = ("callbacks", "RelocatableModelCheckpoint")
WORDS = ("TextDataModule", "vectorizers", "words")
TERABYTE = torch.zeros(1).expand(10**6, 10**6)
REFUSED = [
    ("predict", ("pytorch-lightning_version",), None, "pytorch-lightning_version: expected a value of type str"),
    ("predict", ("pytorch-lightning_version",), "0.1", "pytorch-lightning_version: expected 2.0 or later, got '0.1'"),
    ("predict", ("x",), TERABYTE, "x: expected a tensor with all of its numbers in the file"),
    ("predict", ("x",), nested(60), "expected values nested at most 50 deep"),
    ("predict", ("state_dict", "b"), torch.empty(4, device="meta"), "state_dict.b: expected a tensor with all of its"),
    ("predict", ("state_dict", "W.weight"), torch.zeros(3, 4), "state_dict.W.weight: expected torch.float32 ("),
    ("predict", ("state_dict", "b"), b"b", "state_dict.b: expected torch.float32 (4,), got bytes"),
    ("test", ("state_dict", "b"), torch.full((4,), torch.inf), "holds b with numbers that are not finite"),
    ("test", ("state_dict", "b"), torch.tensor([1e300] * 4, dtype=torch.float64), "finite numbers of torch.float32"),
    ("test", ("state_dict", "W._extra_state"), torch.tensor(-1.0), "the scale of W must be a number above 0"),
    ("test", ("state_dict", "W._extra_state"), torch.tensor(1e300, dtype=torch.float64), "and at most 1"),
    ("test", ("state_dict", "decision._extra_state"), torch.tensor(2.0), "the threshold must lie in [0, 1]"),
    ("test", ("state_dict", "decision._extra_state"), torch.tensor(torch.nan), "the threshold must lie in [0, 1]"),
    (
        "test",
        ("state_dict", "calibration._extra_state"),
        torch.tensor(1e300, dtype=torch.float64),
        "temperature must be a number",
    ),
    ("test", ("format_version",), True, "format version True"),
    (
        "predict",
        ("TextDataModule", "class_names"),
        ["a", "a", "b", "other"],
        "class_names: expected a list of different",
    ),
    ("predict", ("TextDataModule", "class_counts"), [1, 2, 3], "class_counts: expected a number of rows of each class"),
    ("predict", ("TextDataModule", "class_counts", 0), 7, "hyper_parameters.class_counts: expected [7,"),
    ("predict", ("TextDataModule", "oos_label"), "music", "oos_label: expected None or the last of class_names"),
    ("predict", ("TextDataModule", "oos_label"), None, "hyper_parameters.oos_class: expected None"),
    ("predict", (*WORDS, "options", "token_pattern"), r"(a|a)*b", "words.options.token_pattern: expected one that"),
    ("predict", (*WORDS, "options", "token_pattern"), r"\w*\w*\w*!", "words.options.token_pattern: expected one that"),
    ("predict", (*WORDS, "options", "min_df"), float("nan"), "min_df: expected a count from 1, or a sha"),
    ("predict", (*WORDS, "options", "max_df"), float("inf"), "max_df: expected a count from 1, or a sha"),
    ("fit", ("loops",), None, "loops: expected a value of type dict"),
    ("fit", ("optimizer_states",), [], "optimizer_states: expected the state of one optimizer"),
    ("fit", ("lr_schedulers", 0, "last_epoch"), 10**30, "lr_schedulers[0].last_epoch: expected at most as many"),
    ("fit", ("lr_schedulers", 0, "last_epoch"), 4, "lr_schedulers[0].last_epoch: expected one less than _step_count"),
    ("fit", ("global_step",), 6, "global_step: expected 5, as in loops"),
    ("fit", (*BATCHES, "current", "completed"), -1, "epoch_loop.batch_progress.current.completed: expected a value of"),
    ("fit", (*BATCHES, "current", "completed"), 1, "epoch_loop.batch_progress: expected the same work begun"),
    ("fit", (*BATCHES, "is_last_batch"), True, "combined_loader: expected batches_yielded 0, as in loops"),
    ("fit", (*BATCHES, "current", "reset"), 1, "epoch_loop.batch_progress.current.reset: expected no such key"),
    ("fit", (*OURS, "kept"), {"../../notes.ckpt": torch.tensor(9.0).double()}, "RelocatableModelCheckpoint.kept: exp"),
    ("fit", OURS, {}, "RelocatableModelCheckpoint: expected a map of monitor, mode, best, best_state, kept, got {}"),
    (
        "fit",
        OURS[:1],
        {},
        "RelocatableModelCheckpoint: expected a map of monitor, mode, best, best_state, kept, got Non",
    ),
    (
        "fit",
        (*OURS, "monitor"),
        "val/l",
        "best.ckpt of this run was chosen by monitor val/l (min), the options say val",
    ),
    ("fit", (*OURS, "monitor"), "val/loss" * 100_000, "chosen by monitor val/lossval/loss"),  # the start of it
    ("fit", (*OURS, "best"), torch.tensor(torch.inf).double(), "RelocatableModelCheckpoint.best: expected what fit h"),
    ("fit", (*OURS, "best"), torch.tensor(1e300, dtype=torch.float64), "RelocatableModelCheckpoint.best: expected wh"),
    ("fit", (*OURS, "best_state"), "\x1b[31m", "RelocatableModelCheckpoint.best_state: expected what fit has written"),
]


@pytest.mark.parametrize(
    ("command", "path", "value", "said"), REFUSED, ids=lambda v: ".".join(map(str, v)) if isinstance(v, tuple) else None
)
def test_a_miss_is_refused_by_its_key(judge, capsys, command, path, value, said):
    right = judge("text_csv")
    before = right.put(Edit(path, "", False, put(value)))
    with pytest.raises(SystemExit) as exit:
        right.answer(command, right.folder / "edited/run")
    assert said in exit.value.code
    assert str(exit.value.code).startswith("error: ") and "\n" not in exit.value.code
    assert len(exit.value.code) < 1_000
    after = {name: content for name, content in contents(right.folder).items() if name in before}
    assert after == before


def test_flowers_that_are_not_as_trained_are_refused_by_their_key(judge):
    right = judge("iris_ova")
    for key, value, said in (
        ("mean", torch.zeros(2).double(), "mean: expected finite numbers in float32"),
        ("mean", torch.zeros(3), "trained on 3 columns, the configuration makes 2"),
        ("scale", torch.tensor([1.0, 0.0]), "scale: expected 2 finite numbers above 0"),
        ("scale", torch.ones(3), "scale: expected 2 finite numbers above 0"),
        ("class_counts", [30, -1, 30], "class_counts: expected a number of rows of each class"),
    ):
        right.put(Edit(("IrisDataModule", key), "", False, put(value)))
        with pytest.raises(SystemExit) as exit:
            right.answer("predict", right.folder / "edited/run")
        assert said in exit.value.code


@pytest.mark.parametrize("name", ["step", "exp_avg_sq"])
def test_a_negative_count_or_square_of_an_optimizer_is_refused_by_its_key(judge, name):
    right = judge("xor_mlp")
    path = ("optimizer_states", 0, "state", 1, name)
    learned = right.checkpoint["optimizer_states"][0]["state"][1][name]
    before = right.put(Edit(path, "", False, put(-learned - 1)))
    with pytest.raises(SystemExit) as exit:
        right.answer("fit", right.folder / "edited/run")
    assert f"optimizer_states[0].state.1.{name}: expected numbers of at least 0" in exit.value.code
    after = {name: content for name, content in contents(right.folder).items() if name in before}
    assert after == before


def test_every_value_of_a_state_dict_is_a_tensor_that_can_be_moved(judge):
    for config in ("text_csv", "iris_ova"):
        state = judge(config).checkpoint["state_dict"]
        assert {name: value.cpu() for name, value in state.items()}.keys() == state.keys()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hyper_parameters", "num_features"), 10**12, "expected numbers that fit the 20 bytes of weights"),
        (("hyper_parameters", "num_features"), "2", "expected numbers that fit the 20 bytes of weights"),
        (("hyper_parameters", "l2"), "strong", "hyper_parameters: expected the options of BinaryLogit"),
        (("state_dict", "model.linear.weight"), torch.zeros(1, 3), r"state_dict.model.linear.weight: expected torch"),
        (("state_dict", "model.linear.weight"), TERABYTE, r"state_dict.model.linear.weight: expected torch.float32"),
        (("state_dict", "model.linear.bias"), torch.tensor([torch.nan]), "model.linear.bias: expected finite numbers"),
        (("state_dict", "y"), torch.zeros(1), "state_dict.y: expected no such weight, got one"),
    ],
    ids=str,
)
def test_load_from_checkpoint_refuses_a_miss_by_its_key(judge, path, value, said):
    right = judge("iris_binary")
    right.put(Edit(path, "", False, put(value)))
    with pytest.raises(ValueError, match=said) as caught:
        BinaryLogit.load_from_checkpoint(right.folder / "edited/run/checkpoints/last.ckpt")
    assert "\n" not in str(caught.value)


def test_load_from_checkpoint_needs_not_the_optimizer_that_trained(judge):
    right = judge("iris_binary")
    right.put(Edit(("optimizer_states",), "", False, put([{"state": {0: {"exp_avg": 1}}}])))
    model = BinaryLogit.load_from_checkpoint(right.folder / "edited/run/checkpoints/last.ckpt")
    assert torch.equal(model.model.linear.weight, right.checkpoint["state_dict"]["model.linear.weight"])
