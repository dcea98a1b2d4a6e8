"""Without a GPU: nothing of the CPU meets the device, the device changes no bit, and no step waits for it."""

import json
from collections import Counter

import pytest

pytest.importorskip("torch", minversion="2.10")  # a device in Python

from tests.tools.mock_device import start_server
from tests.tools.runs import QUIET, assert_close_weights, assert_same_state, finish, records

SERVER = start_server()
CONFIGS = ["iris_binary", "iris_imbalanced", "iris_ova", "xor_mlp", "table_csv"]


def run_jobs(folder, *jobs):
    """Runs of `train.py`, each on a device, one after another; the output of the first that failed."""
    for device, arguments in jobs:
        SERVER.send((device, arguments, folder / "log"))
        assert SERVER.poll(600), f"no end of {arguments}"
        if failure := SERVER.recv():
            return failure
    return ""


def job(device, command, config, run, *options):
    place = ["--config", f"configs/{config}.yaml", "--trainer.default_root_dir", run]
    return device, [*map(str, [command, *place, *QUIET, *options])]


def all_commands(device, config, run, *options):
    """Jobs that leave a run after fit, resume, test and predict, and one after --refit, which XOR has not."""
    best, last = ("--ckpt_path", run / "checkpoints/best.ckpt"), ("--ckpt_path", run / "checkpoints/last.ckpt")
    two = ("--trainer.max_epochs", 2, *options)
    jobs = [
        job(device, "fit", config, run, *two),
        job(device, "fit", config, run, "--trainer.max_epochs", 3, *last, *options),
        job(device, "test", config, run, *best, *options),
        job(device, "predict", config, run, *best, *options),
    ]
    refit = job(device, "fit", config, run.with_name(f"{run.name}_refit"), "--refit", "true", *two)
    return jobs if config == "xor_mlp" else [*jobs, refit]


@pytest.mark.slow
@pytest.mark.parametrize("config", [*CONFIGS, "text_csv"])
def test_on_another_device_every_command_leaves_what_it_leaves_on_the_cpu(config, tmp_path):
    jobs = [each for device in ("cpu", "gpu") for each in all_commands(device, config, tmp_path / device)]
    assert run_jobs(tmp_path, *jobs) == ""
    checkpoints = [path.relative_to(tmp_path) for path in sorted(tmp_path.glob("cpu*/**/*.ckpt"))]
    assert len(checkpoints) in (2, 6)  # best and last: of the run, of the run with --refit, and of the refit
    for path in checkpoints:
        run = tmp_path / path.parents[1]
        assert_same_state(tmp_path / str(path.parents[1]).replace("cpu", "gpu", 1), run, path.stem)
    for name in ("predictions.jsonl", "test_metrics.json", "metrics.csv", "per_class.csv", "errors.csv"):
        assert (tmp_path / "cpu" / name).read_text() == (tmp_path / "gpu" / name).read_text(), name
    on_cpu, on_gpu = ({path.name for path in (tmp_path / run / "figures").glob("*.png")} for run in ("cpu", "gpu"))
    assert on_cpu == on_gpu >= {"loss.png"} and len(on_cpu) >= 5  # those of the fit and of the test


def test_a_fit_and_its_predictions_on_another_device_are_those_of_the_cpu(cli, short_fit, tmp_path):
    expected, found = short_fit("text_csv"), tmp_path / "gpu"
    cli(*job("cpu", "predict", "text_csv", expected, "--ckpt_path", expected / "checkpoints/best.ckpt")[1])
    short = ("--trainer.max_epochs", 3, "--trainer.callbacks", "null", "--figures.enabled", "false")
    fit = job("gpu", "fit", "text_csv", found, *short)
    predict = job("gpu", "predict", "text_csv", found, "--ckpt_path", found / "checkpoints/best.ckpt")
    assert run_jobs(tmp_path, fit, predict) == ""
    assert_same_state(found, expected)
    assert (expected / "predictions.jsonl").read_text() == (found / "predictions.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["iris_ova", "text_csv"])
def test_an_apple_gpu_without_csr_and_float64_does_what_the_cpu_does(config, tmp_path):
    """Batches are small, for the mock takes no larger ones: those of an evaluation must come in parts."""
    small = ("--data.batch_size", 10)
    jobs = [each for device in ("cpu", "mps") for each in all_commands(device, config, tmp_path / device, *small)]
    assert run_jobs(tmp_path, *jobs) == ""
    assert_close_weights(tmp_path / "mps", tmp_path / "cpu", atol=1e-4, rtol=1e-4)
    for one, other in zip(*(records(tmp_path / device) for device in ("cpu", "mps")), strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
        assert one.get("words_for", [])[:1] == other.get("words_for", [])[:1]


@pytest.mark.slow
@pytest.mark.parametrize("config", [*CONFIGS, "text_csv"])
def test_a_step_waits_for_nothing(config, tmp_path):
    """Two fits within an epoch that differ by four steps: they differ by no wait, not even for a batch."""
    jobs = []
    for steps in (3, 7):
        ends = ("--trainer.max_steps", steps, "--trainer.max_epochs", -1, "--trainer.limit_val_batches", 0)
        seldom = ("--trainer.log_every_n_steps", 1000, "--data.batch_size", 5, "--trainer.callbacks", "null")
        monitor = ("--checkpoint.monitor", "null", "--figures.enabled", "false")
        jobs.append(job("gpu", "fit", config, tmp_path / str(steps), *ends, *seldom, *monitor))
    assert run_jobs(tmp_path, *jobs) == ""
    fewer, more = (Counter(json.loads((tmp_path / n / "waits.json").read_text())) for n in ("3", "7"))
    assert sum(fewer.values()) > 0  # of the model's way there, and of its weights' way back
    assert more - fewer == {}


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_a_fit_on_a_device_at_the_next_logged_step(tmp_path):
    wild = ("--model.optimizer.lr", "1e38", "--trainer.log_every_n_steps", 5, "--data.batch_size", 5)
    wild += ("--trainer.callbacks", "null")
    output = run_jobs(tmp_path, job("gpu", "fit", "iris_binary", tmp_path / "run", *wild))
    assert "error: the loss became nan after step 5 at a learning rate of 1e+38" in output


CLASSIFIER = """
import sys
from tests.tools import mock_device
mock_device.install(sys.argv[2])
from deploy.classifier import Classifier
from deploy.onnx import to_onnx
from deploy.torch import to_torch
import numpy as np, torch

on_cpu, there = Classifier.load(sys.argv[1]), Classifier.load(sys.argv[1], device="mock")
assert {weight.device.type for weight in there.model.parameters()} == {"mock"}
texts = ["will it snow", "play some jazz", "", "what is my balance please"] * 5
proba = on_cpu.predict_proba(texts)
np.testing.assert_allclose(there.predict_proba(texts), proba, atol=0 if sys.argv[2] == "gpu" else 1e-6)
assert there.predict(texts) == there.labels(proba) == on_cpu.predict(texts)
assert there.explain(texts) == on_cpu.explain(texts)
model = type(there.model).load_from_checkpoint(sys.argv[1] + "/checkpoints/last.ckpt", map_location="mock")
assert {weight.device.type for weight in model.parameters()} == {"mock"}
assert there.predict_proba(texts[:0]).shape == (0, len(there.class_names))
to_onnx(there, sys.argv[3] + ".onnx")
to_torch(there, sys.argv[3] + ".pt2")
assert all(tensor.device.type == "cpu" for tensor in torch.export.load(sys.argv[3] + ".pt2").state_dict.values())
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("device", ["gpu", "mps"])
def test_a_classifier_on_another_device_answers_explains_and_exports_as_on_the_cpu(cli, tmp_path, device):
    pytest.importorskip("onnx")
    run, words = tmp_path / "run", ("--data.preset", "words", "--data.oos_label", "other")
    cli("fit", "--config", "configs/text_csv.yaml", *words, *QUIET, "--trainer.default_root_dir", run)
    finish("-W", "ignore", "-c", CLASSIFIER, run, device, tmp_path / "m")
