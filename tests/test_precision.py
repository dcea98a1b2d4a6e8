"""Precisions and accelerators, by flags alone; the tests marked gpu need one."""

from functools import cache

import pytest
import torch

from tests.conftest import refused
from tests.tools.runs import NO_BAR, assert_close_weights, finish, metrics, records, weights

QUIET = (*NO_BAR, "--trainer.logger", "false")
QUICK = (*QUIET, "--trainer.callbacks", "null", "--trainer.max_epochs", "2")
GPU = ("--trainer.accelerator", "gpu", "--trainer.devices", "1")
CONFIGS = ("iris_binary", "iris_ova", "text_csv")  # one of each model
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA; torch sees none here")
SOME_SLOW = [*(pytest.param(config, marks=pytest.mark.slow) for config in CONFIGS[:2]), CONFIGS[2]]


def use(cli, config, run, *options, fit=QUICK):
    """Fit, test and predict; returns weights, test figures and predictions."""
    label = ("--data.oos_label", "other") if config == "text_csv" else ()
    common = ("--config", f"configs/{config}.yaml", *label, "--trainer.default_root_dir", run, *options)
    cli("fit", *common, *fit)
    for command in ("test", "predict"):
        cli(command, *common, *QUIET, "--ckpt_path", run / "checkpoints/last.ckpt")
    return weights(run), metrics(run), records(run)


@pytest.fixture(scope="module")
def expected(cli, tmp_path_factory):
    """What 32-true on the CPU comes to, by config."""
    cpu = ("--trainer.accelerator", "cpu")
    return cache(lambda config: use(cli, config, tmp_path_factory.mktemp("single") / config, *cpu))


# Precision


@pytest.mark.parametrize("config", SOME_SLOW)
def test_with_64_true_everything_is_double_and_comes_out_as_with_single_precision(cli, expected, tmp_path, config):
    found, figures, predictions = use(cli, config, tmp_path / "run", "--trainer.precision", "64-true")
    before, before_figures, before_predictions = expected(config)
    for name, value in found.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value.float(), before[name].float(), atol=1e-4, rtol=0)
    assert figures == pytest.approx(before_figures, abs=1e-4)
    assert [row["label"] for row in predictions] == [row["label"] for row in before_predictions]


# The model summary, which wants to know how many bytes a weight has, says that it cannot tell.
@pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*")
@pytest.mark.parametrize("config", SOME_SLOW)
def test_with_bf16_mixed_weights_stay_single_and_what_is_learnt_is_nearly_the_same(cli, expected, tmp_path, config):
    found, figures, predictions = use(cli, config, tmp_path / "run", "--trainer.precision", "bf16-mixed")
    before, before_figures, before_predictions = expected(config)
    assert found.keys() == before.keys()
    for name, value in found.items():
        assert value.dtype == before[name].dtype
        # bfloat16 keeps 8 bits: each of a few dozen steps is off by up to a half per cent of itself
        assert (value - before[name]).abs().max() < 0.05 * before[name].abs().max().clamp(min=1)
    assert figures.keys() == before_figures.keys()
    assert figures["test/loss"] == pytest.approx(before_figures["test/loss"], rel=0.05)
    same = [row["label"] == other["label"] for row, other in zip(predictions, before_predictions, strict=True)]
    assert sum(same) >= 0.9 * len(same)


def test_weights_of_one_precision_can_be_used_in_another(cli, expected, tmp_path):
    run = tmp_path / "run"
    common = ("--config", "configs/text_csv.yaml", "--data.oos_label", "other", "--trainer.default_root_dir", run)
    cli("fit", *common, *QUICK)
    cli("predict", *common, *QUIET, "--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.precision", "64-true")
    _, _, before = expected("text_csv")
    after = records(run)
    assert [row["label"] for row in after] == [row["label"] for row in before]
    assert [row["probability"] for row in after] == pytest.approx([row["probability"] for row in before], abs=1e-5)


# Accelerators


def test_a_gpu_that_is_not_there_is_named_in_one_line(cli, tmp_path):
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is one")
    place = ("--config", "configs/iris_binary.yaml", "--trainer.default_root_dir", tmp_path / "run")
    refused(cli, "fit", *QUICK, *place, "--trainer.accelerator", "gpu")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def gpu():
    if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        pytest.skip("needs a GPU that CUDA or MPS can use; torch sees none here")


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("config", CONFIGS)
def test_on_a_gpu_everything_comes_out_as_on_the_cpu(cli, expected, tmp_path, config):
    """With the config's own callbacks, so that pictures are drawn of a model on another device."""
    fit = (*QUIET, "--trainer.max_epochs", "2")
    run = tmp_path / "run"
    found, figures, predictions = use(cli, config, run, *GPU, fit=fit)
    before, before_figures, before_predictions = expected(config)
    for name, value in found.items():
        torch.testing.assert_close(value, before[name], atol=1e-4, rtol=1e-4)
    assert figures.keys() == before_figures.keys()
    assert figures == pytest.approx(before_figures, abs=1e-3)
    assert len(predictions) == len(before_predictions)
    if config != "text_csv":
        assert list((run / "figures").glob("*.png"))


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
@pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*")
@pytest.mark.parametrize("config", CONFIGS)
def test_on_a_gpu_bf16_mixed_runs(cli, expected, tmp_path, config):
    _, figures, _ = use(cli, config, tmp_path / "run", *GPU, "--trainer.precision", "bf16-mixed")
    assert figures["test/loss"] == pytest.approx(expected(config)[1]["test/loss"], rel=0.05)


@pytest.mark.gpu
@pytest.mark.usefixtures("gpu")
def test_a_run_on_a_gpu_goes_on_on_the_cpu(cli, tmp_path):
    common = ("--config", "configs/text_csv.yaml", "--trainer.default_root_dir", tmp_path / "run", *QUIET)
    cli("fit", *common, *GPU, "--trainer.max_epochs", 2)
    last = tmp_path / "run/checkpoints/last.ckpt"
    cli("fit", *common, "--trainer.accelerator", "cpu", "--trainer.max_epochs", 3, "--ckpt_path", last)
    cli("predict", *common, "--trainer.accelerator", "cpu", "--ckpt_path", last)
    assert (tmp_path / "run/predictions.jsonl").is_file()


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_two_runs_agree_up_to_the_order_in_which_sparse_rows_are_added_up(cli, tmp_path):
    for name in ("one", "two"):
        use(cli, "text_csv", tmp_path / name, *GPU, "--trainer.precision", "64-true")
    assert_close_weights(tmp_path / "one", tmp_path / "two", atol=1e-9)


DETERMINISTIC = (*GPU, "--trainer.deterministic", "true")


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_two_deterministic_runs_are_equal_to_the_bit(cli, tmp_path):
    one, two = (use(cli, "text_csv", tmp_path / name, *DETERMINISTIC) for name in ("one", "two"))
    assert all(torch.equal(value, two[0][name]) for name, value in one[0].items())
    assert one[1:] == two[1:]


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_a_deterministic_run_that_is_killed_and_resumed_ends_as_if_nothing_had_happened():
    options = ("--kills", 2, "--save-every", 2, "--", "--config", "configs/text_csv.yaml", *QUICK, *DETERMINISTIC)
    without_cuda = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # which leaves it to the forked processes
    assert "2 of 2 bit-identical" in finish("tests/tools/kill_and_resume.py", *options, **without_cuda)
