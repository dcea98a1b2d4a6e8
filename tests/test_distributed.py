"""Two processes do what one does: the same weights, every row once, one report; on CPU, with gloo."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from logreg.distributed import mean_local_batch_size, supports_sparse_allreduce
from tests.tools.runs import ENVIRONMENT, NO_BAR, ROOT, assert_close_weights, finish, metrics, records

QUIET = (*NO_BAR, "--trainer.logger", "false")
EPOCHS = 23  # of 9 batches each: 207 updates
EVALUATED = {"val": 1025, "test": 1027, "predict": 1027}  # one whole batch of 1,024, and a bit


def sentence(draw, labels):
    """A row of text: some words go with their label, most with any; a few sentences have no label's."""
    label = draw.choice(labels)
    telling = [f"{label}{draw.randrange(20)}" for _ in range(2)] if label != "other" else []
    text = telling + [f"word{draw.randrange(200)}" for _ in range(6)]
    return f"{' '.join(draw.sample(text, len(text)))},{label}"


def point(draw, labels):
    """A row of three numbers, around a centre for each label."""
    label = draw.choice(labels)
    return f"{draw.gauss(label, 1)},{draw.gauss(-label, 1)},{draw.gauss(0, 1)},cloud {label}"


class Runs:
    """Runs `train.py` on some ranks, many commands in one go, and reads what they left."""

    def __init__(self, folder):
        self.folder, self.jobs = folder, []

    def files(self, header, row, labels, number):
        """Options that name a file for each split, of so many rows to train on."""
        options = []
        for split, rows in (("train", number), ("val", EVALUATED["val"]), ("test", EVALUATED["test"])):
            draw, file = random.Random(rows), self.folder / f"{row.__name__}_{len(labels)}_{rows}.csv"
            file.write_text("\n".join([header, *(row(draw, labels) for _ in range(rows)), ""]))
            options += [f"--data.{split}_file", str(file)]
        return options

    def text(self, rows, dropout=0.0):
        """Arguments that make a softmax regression on sparse rows."""
        return [
            *("--config", "configs/text_csv.yaml", "--model.l2", "1e-5", "--model.bias_lr_factor", "0.025"),
            # At a high rate chaos makes any difference of rounding large, and a temperature magnifies it.
            *("--model.init_args.lr", "2", "--model.calibrate", "false", "--trainer.log_every_n_steps", "50"),
            *("--model.lr_scheduler.power", "1", "--data.batch_size", "256", "--data.feature_dropout", str(dropout)),
            *("--data.words", "{ngram_range: [1, 2]}", "--data.oos_label", "other"),
            *self.files("text,label", sentence, ["a", "b", "c", "d", "other"], rows),
        ]

    def table(self, model, rows):
        """Arguments that make another model, on dense rows."""
        return [
            *("--seed_everything", "42", "--model", f"logreg.{model}", "--data", "datamodules.TableDataModule"),
            *("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.5", "--model.l2", "0.001"),
            *("--data.label_column", "label", "--data.batch_size", "256", "--data.seed", "0"),
            *self.files("x1,x2,x3,label", point, [0, 1] if model == "BinaryLogit" else [0, 1, 2], rows),
        ]

    def add(self, name, data_and_model, ranks, dense=False, evaluate=True):
        """Plan fit, and test and predict of what it trained."""
        run, arguments = str(self.folder / name), [*data_and_model, *QUIET]
        epochs = ["--trainer.max_epochs", str(EPOCHS), "--trainer.check_val_every_n_epoch", str(EPOCHS)]
        commands = [["fit", *arguments, *epochs, "--trainer.default_root_dir", run]]
        for command in ("test", "predict") if evaluate else ():
            place = ["--ckpt_path", f"{run}/checkpoints/last.ckpt", "--trainer.default_root_dir", f"{run}/{command}"]
            commands.append([command, *arguments, *place])
        self.jobs += [{"arguments": command, "ranks": ranks, "dense": dense} for command in commands]

    def run(self):
        jobs = self.folder / "jobs.json"
        jobs.write_text(json.dumps(self.jobs))
        finish("tests/tools/on_ranks.py", jobs)
        return self

    def notes(self, name, command="fit"):
        """What each rank wrote down."""
        place = self.folder / name / ("" if command == "fit" else command)
        return [torch.load(path, weights_only=True) for path in sorted(place.glob("notes_*.pt"))]

    def __getitem__(self, name):
        return self.folder / name


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The first comparisons, with a last batch of 1 row, which leaves one of two ranks without any."""
    runs = Runs(tmp_path_factory.mktemp("ranks"))
    runs.add("softmax_1", runs.text(2049, dropout=0.3), ranks=1)
    runs.add("softmax_2", runs.text(2049, dropout=0.3), ranks=2)
    runs.add("dense_2", runs.text(2049, dropout=0.3), ranks=2, dense=True, evaluate=False)
    runs.add("binary_2", [*runs.table("BinaryLogit", 2049), "--model.class_weight", "[1, 2]"], 2, evaluate=False)
    return runs.run()


@pytest.fixture(scope="module")
def more_runs(tmp_path_factory):
    """The other combinations of model and rows, and 4 ranks."""
    runs = Runs(tmp_path_factory.mktemp("more_ranks"))
    for ranks in (1, 2, 4):
        runs.add(f"softmax_{ranks}", runs.text(2053), ranks, evaluate=False)
        runs.add(f"ova_{ranks}", runs.table("OneVsAll", 2049), ranks)
    runs.add("dense_2", runs.text(2053), ranks=2, dense=True, evaluate=False)
    for ranks in (1, 2):
        runs.add(f"binary_{ranks}", runs.table("BinaryLogit", 2049), ranks)
        runs.add(f"binary2053_{ranks}", runs.table("BinaryLogit", 2053), ranks, evaluate=False)
        runs.add(f"ova2053_{ranks}", runs.table("OneVsAll", 2053), ranks, evaluate=False)
    return runs.run()


def largest_difference(one, other):
    return max(float((one["weights"][name] - other["weights"][name]).abs().max()) for name in one["weights"])


# Each check compares a run of one process with one of several. Gradients of one process are always sparse, so runs with
# dense ones are compared with that too.


def alone_and_together(runs, name, ranks):
    [alone] = runs.notes(f"{name.replace('dense', 'softmax')}_1")
    return alone, runs.notes(f"{name}_{ranks}")


def check_weights(runs, name, ranks):
    alone, together = alone_and_together(runs, name, ranks)
    assert alone["steps"] >= 200
    assert max(float(value.abs().max()) for value in alone["weights"].values()) > 0.5  # there is something to compare
    assert len(together) == ranks
    for note in together:
        assert note["steps"] == alone["steps"]
        assert largest_difference(alone, note) <= 1e-5
        assert largest_difference(together[0], note) == 0  # ranks never drift apart


def check_order(runs, name, ranks):
    """Ranks together take the rows that one process takes, in its order."""
    alone, together = alone_and_together(runs, name, ranks)
    shares = [note["rows"]["train"] for note in together]
    for batch, *parts in zip(alone["rows"]["train"], *shares, strict=True):
        assert [batch[rank::ranks] for rank in range(ranks)] == parts


def check_validation(runs, name, ranks):
    """Validation counts every row once, and its figures are those of one process."""
    alone, together = alone_and_together(runs, name, ranks)
    seen = [row for note in together for batch in note["rows"]["val"] for row in batch]
    assert sorted(seen) == list(range(EVALUATED["val"]))
    for note in together:
        figures = {key: value for key, value in note["metrics"].items() if key.startswith("val")}
        assert len(figures) >= 3
        assert figures == pytest.approx({key: alone["metrics"][key] for key in figures}, abs=1e-6)


def check_evaluation(runs, name, ranks):
    """Every row is evaluated by one rank, and once."""
    for command in ("test", "predict"):
        notes = runs.notes(f"{name}_{ranks}", command)
        shares = [[row for batch in note["rows"][command] for row in batch] for note in notes]
        assert sorted(row for share in shares for row in share) == list(range(EVALUATED[command]))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def check_reports(runs, name, ranks):
    alone, together = (runs[f"{name}_{number}"] / "test" for number in (1, ranks))
    expected, figures = metrics(alone), metrics(together)
    assert figures.keys() == expected.keys()
    assert figures == pytest.approx(expected, abs=1e-6)
    assert (together / "per_class.csv").read_text() == (alone / "per_class.csv").read_text()
    rows = sum(int(line.rsplit(",", 1)[1]) for line in (together / "per_class.csv").read_text().splitlines()[1:])
    assert rows == EVALUATED["test"]
    wrong = [sorted((place / "errors.csv").read_text().splitlines()) for place in (alone, together)]
    # without the last column, a probability to four digits, which rounding may tip
    assert [line.rsplit(",", 1)[0] for line in wrong[0]] == [line.rsplit(",", 1)[0] for line in wrong[1]]


def check_predictions(runs, name, ranks):
    """Predictions stand in the order of the rows, each once."""
    alone, together = (records(runs[f"{name}_{number}"] / "predict") for number in (1, ranks))
    assert len(alone) == EVALUATED["predict"]
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        given = one.keys() - {"label", "probability", "top_k", "words_for", "words_against"}
        assert given
        assert {key: one[key] for key in given} == {key: other[key] for key in given}


TRAINING, EVALUATION = (
    (check_weights, check_order, check_validation),
    (check_evaluation, check_reports, check_predictions),
)
by_name = {"ids": lambda value: getattr(value, "__name__", None)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "check"), [*product(["softmax", "dense"], TRAINING), *product(["softmax"], EVALUATION)], **by_name
)
def test_two_processes_do_what_one_does(runs, name, check):
    check(runs, name, ranks=2)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "ranks", "check"),
    [
        *product(["softmax"], [2, 4], TRAINING),
        *product(["ova"], [2, 4], TRAINING + EVALUATION),
        *product(["binary"], [2], TRAINING + EVALUATION),
        *product(["binary2053", "ova2053", "dense"], [2], [check_weights]),  # unequal shares of the last batch
    ],
    **by_name,
)
def test_two_and_four_processes_do_what_one_does(more_runs, name, ranks, check):
    check(more_runs, name, ranks)


@pytest.mark.slow
def test_gradients_stay_sparse_where_the_backend_adds_sparse_tensors_and_become_dense_where_it_does_not(runs):
    assert [note["sparse"] for note in runs.notes("softmax_2")] == [True, True]
    assert [note["sparse"] for note in runs.notes("dense_2")] == [False, False]
    assert [note["sparse"] for note in runs.notes("softmax_1")] == [True]


@pytest.mark.slow
def test_a_rank_without_a_row_of_the_last_batch_takes_part(runs):
    shares = [note["rows"]["train"] for note in runs.notes("softmax_2")]
    assert len(shares[0][8]) == 1  # 2,049 = 8 · 256 + 1
    assert shares[1][8] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "binary"])
def test_in_a_step_processes_wait_for_each_other_only_to_add_gradients(runs, name):
    for note in runs.notes(f"{name}_2"):
        for number, collectives in enumerate(note["collectives"], start=1):
            if number > 1 and number % 50 and number % 9:  # not logged, and in the middle of an epoch
                assert collectives == {"all_reduce": 1}  # whether to stop: the answer is taken after the next step


@pytest.mark.slow
def test_two_processes_draw_the_pictures_of_all_validation_rows_after_a_fit(runs):
    one, other = (
        {path.name: path.read_bytes() for path in (runs[f"softmax_{ranks}"] / "figures").iterdir()} for ranks in (1, 2)
    )
    assert one.keys() == other.keys()
    assert one["val_confusion.png"] == other["val_confusion.png"]  # rounding may tip a pixel of a curve


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax", "dense"])
def test_the_threshold_is_one_number_for_all_ranks_and_that_of_one_process(runs, name):
    alone, together = alone_and_together(runs, name, ranks=2)
    first, second = (note["threshold"] for note in together)
    assert first == second
    assert 0 < first < 1
    assert first == pytest.approx(alone["threshold"], abs=1e-6)


# The two functions that several processes go through


@pytest.mark.parametrize(("backend", "answer"), [("gloo", True), ("nccl", False), ("mpi", False), ("ucc", False)])
def test_only_gloo_is_trusted_to_add_sparse_gradients(monkeypatch, backend, answer):
    for name, value in (("is_initialized", True), ("get_world_size", 2), ("get_backend", backend)):
        monkeypatch.setattr(dist, name, lambda value=value: value)
    assert supports_sparse_allreduce() is answer


def test_one_process_keeps_its_gradients_sparse_whatever_the_backend(monkeypatch):
    assert supports_sparse_allreduce() is True  # no process group
    for name, value in (("is_initialized", True), ("get_world_size", 1), ("get_backend", "nccl")):
        monkeypatch.setattr(dist, name, lambda value=value: value)
    assert supports_sparse_allreduce() is True


def test_one_process_divides_by_its_own_rows():
    assert mean_local_batch_size(torch.zeros(7)) == 7


# The real command line


FIT = ["fit", "--config", "configs/text_csv.yaml", "--data.batch_size", "25", "--trainer.max_epochs", "6", *QUIET]
FIT += ["--data.oos_label", "other"]


@pytest.mark.slow
def test_the_command_line_starts_the_second_process_by_itself(cli, tmp_path):
    ranks = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    output = finish("train.py", *FIT, *ranks, "--trainer.default_root_dir", tmp_path / "two")
    cli(*FIT, "--trainer.default_root_dir", tmp_path / "one")
    assert output.count("run directory:") == 1
    assert "Traceback" not in output
    assert {path.name for path in (tmp_path / "two/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    assert_close_weights(tmp_path / "two", tmp_path / "one", atol=1e-5)


def line_for_several_machines():
    """The documented line, with two groups of one process each on this machine in place of two machines."""
    lines = re.findall(
        r"`torchrun (--nnodes .* )train\.py fit --config \S+ (.*)`", (ROOT / "docs/devices.md").read_text()
    )
    [(torchrun, trainer)] = lines
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = {"HOST:29500": f"127.0.0.1:{port}", "--nproc-per-node 4": "--nproc-per-node 1", "devices 4": "devices 1"}
    for there, value in here.items():
        assert there in torchrun + trainer
        torchrun, trainer = torchrun.replace(there, value), trainer.replace(there, value)
    return torchrun.split(), trainer.split()


@pytest.mark.slow
def test_the_documented_line_for_two_machines_does_what_one_process_does(cli, tmp_path):
    run, (torchrun, trainer) = tmp_path / "two", line_for_several_machines()
    nodes = [*trainer, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", run]

    def on_both(*arguments):
        first, second = torchrun, ["1" if before == "--node-rank" else w for before, w in pairwise(["", *torchrun])]
        assert first != second
        with ThreadPoolExecutor() as threads:
            commands = [
                ("-m", "torch.distributed.run", *node, "train.py", *arguments, *nodes) for node in (first, second)
            ]
            return [*threads.map(lambda command: finish(*command), commands)]

    outputs = on_both(*FIT)
    assert sum(output.count("run directory:") for output in outputs) == 1
    cli(*FIT, "--trainer.default_root_dir", tmp_path / "one")
    assert_close_weights(run, tmp_path / "one", atol=1e-5)

    last = tmp_path / "one/checkpoints/last.ckpt"
    shutil.copy(last, run / "checkpoints/last.ckpt")  # to the bit, so that the figures must be equal
    evaluate = ["--config", "configs/text_csv.yaml", *QUIET]
    on_both("test", *evaluate, "--ckpt_path", run / "checkpoints/last.ckpt")
    cli("test", *evaluate, "--ckpt_path", last)
    assert metrics(run) == pytest.approx(metrics(tmp_path / "one"), abs=1e-6)


SRUN = """#!/bin/sh
[ "$1 $3" = "--nodes --ntasks-per-node" ] || exit 2
nodes=$2 tasks=$4 failed=0 processes=
shift 4
export SLURM_JOB_ID=$$ SLURM_JOB_NAME=fit SLURM_NODELIST=127.0.0.1 SLURM_NNODES=$nodes
export SLURM_NTASKS=$((nodes * tasks)) SLURM_NTASKS_PER_NODE=$tasks
for rank in $(seq 0 $((SLURM_NTASKS - 1))); do
    SLURM_PROCID=$rank SLURM_NODEID=$((rank / tasks)) SLURM_LOCALID=$((rank % tasks)) "$@" &
    processes="$processes $!"
done
for process in $processes; do wait "$process" || failed=1; done
exit $failed
"""


@pytest.mark.slow
def test_the_documented_line_for_slurm_does_what_one_process_does(cli, tmp_path):
    """With an srun that starts the processes of both nodes here."""
    [line] = re.findall(r"`(srun .*) fit --config \S+ (.*)`", (ROOT / "docs/devices.md").read_text())
    command, trainer = (part.replace("-node 4", "-node 1").replace("devices 4", "devices 1").split() for part in line)
    assert command[:5] == ["srun", "--nodes", "2", "--ntasks-per-node", "1"] and "1" in trainer
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), ENVIRONMENT["PATH"]])
    command += [*FIT, *trainer, "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(tmp_path / "two")]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("run directory:") == 1
    cli(*FIT, "--trainer.default_root_dir", tmp_path / "one")
    assert_close_weights(tmp_path / "two", tmp_path / "one", atol=1e-5)


# Rows in another order than processes take them here: 4 batches on the first, 1 on the second.
UNEVEN = """
import sys
import lightning as L, torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from callbacks.reports.predictions import PredictionWriter

class Share(DistributedSampler):
    def __iter__(self):
        return iter([[0], [1, 2], [4, 5], [8]] if self.rank == 0 else [[3, 6, 7, 9]])

    def __len__(self):
        return 4 if self.rank == 0 else 1

class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, rows):
        return torch.tensor(rows)[:, None] / 10, torch.zeros(len(rows)).long(), torch.tensor(rows)

    def __len__(self):
        return 10

class Data(L.LightningDataModule):
    class_names = ["small", "large"]

    def predict_dataloader(self):
        share = Share(range(10), num_replicas=2, rank=self.trainer.global_rank)
        return DataLoader(Numbers(), sampler=share, batch_size=None)

    def describe(self, indices, split):
        return [{"row": index} for index in indices]

class Model(L.LightningModule):
    def predict_proba(self, x):
        return torch.cat([1 - x, x], dim=1)

    def predict_label(self, proba):
        return (proba[:, 1] > 0.45).long()

    def predict_step(self, batch, batch_idx):
        return self.predict_proba(batch[0])

several = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
trainer = L.Trainer(**several, default_root_dir=sys.argv[1], callbacks=[PredictionWriter()], logger=False)
trainer.predict(Model(), Data(), return_predictions=False)
"""


@pytest.mark.slow
def test_processes_with_different_numbers_of_batches_write_all_predictions_in_order(tmp_path):
    (tmp_path / "uneven.py").write_text(UNEVEN)
    finish(tmp_path / "uneven.py", tmp_path)
    lines = records(tmp_path)
    assert [line["row"] for line in lines] == list(range(10))
    assert [line["label"] for line in lines] == ["small"] * 5 + ["large"] * 5
