"""Shards of sentences in several processes and after a kill: every row once, the weights of one unbroken process."""

import json
import random

import pytest
import torch

from tests.tools.runs import NO_BAR, finish

pytest.importorskip("datasets", reason="needs the package datasets: pip install -e '.[shards]'")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

UNEVEN = (300, 41, 172)  # 513 rows in three shards
EPOCHS = 3


def shards(folder, sizes):
    """A pattern that names files of so many made-up sentences each."""
    folder.mkdir()
    draw = random.Random(len(sizes))
    for number, size in enumerate(sizes):
        label = [draw.choice("abc") for _ in range(size)]
        text = [" ".join([f"{name}{draw.randrange(5)}", *(f"w{draw.randrange(90)}" for _ in range(6))])
                for name in label]  # fmt: skip
        parquet.write_table(pa.table({"text": text, "label": label}), folder / f"{number}.parquet")
    return f"{folder}/*.parquet"


def options(tmp_path, sizes, hash_once):
    """Arguments of `fit` on shards, of which 65 and 52 rows are held out."""
    files = shards(tmp_path / f"{len(sizes)}_shards", sizes)
    cache = ("--data.cache_dir", tmp_path / "cache", "--data.hash_once", hash_once, "--data.num_hashes", 2**12)
    rates = ("--model.lr", 2, "--data.batch_size", 36, "--data.val_fraction", 0.14)
    quiet = (*NO_BAR, "--trainer.callbacks", "null")
    return ["--config", "configs/text_shards.yaml", "--data.train_files", files, *cache, *rates, *quiet]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "hash_once"), [(1, "true"), (2, "true"), (2, "false")])
def test_a_killed_run_once_resumed_is_bit_identical_to_one_that_nobody_killed(tmp_path, ranks, hash_once):
    how = ("--kills", 2, "--save-every", 5, "--ranks", ranks, "--")
    arguments = (*options(tmp_path, UNEVEN, hash_once), "--trainer.max_epochs", EPOCHS)
    output = finish("tests/tools/kill_and_resume.py", *how, *arguments, HF_HUB_OFFLINE="1")
    assert "2 of 2 bit-identical" in output


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(513,), UNEVEN], ids=len)
def test_two_processes_take_each_row_once_and_end_with_the_weights_of_one(tmp_path, sizes):
    arguments, jobs = [*map(str, options(tmp_path, sizes, "false"))], []
    for ranks in (1, 2):
        place = ["--trainer.default_root_dir", str(tmp_path / f"run_{ranks}")]
        jobs.append({"ranks": ranks, "arguments": ["fit", *arguments, "--trainer.max_epochs", str(EPOCHS), *place]})
    best = ["--ckpt_path", str(tmp_path / "run_1/checkpoints/best.ckpt")]
    for command in ("test", "predict"):
        place = ["--trainer.default_root_dir", str(tmp_path / command)]
        jobs.append({"ranks": 2, "arguments": [command, *arguments, *best, *place]})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    finish("tests/tools/on_ranks.py", tmp_path / "jobs.json", HF_HUB_OFFLINE="1")

    def notes(name):
        return [torch.load(path, weights_only=True) for path in sorted((tmp_path / name).glob("notes_*.pt"))]

    [alone], together = notes("run_1"), notes("run_2")
    batches = alone["rows"]["train"]
    assert len(together) == 2 and len(batches) == 11 * EPOCHS  # 396 rows; the last batch has 36
    for batch, *parts in zip(batches, *(note["rows"]["train"] for note in together), strict=True):
        assert [batch[rank::2] for rank in range(2)] == parts
    for number in range(EPOCHS):
        seen = [row for batch in batches[11 * number : 11 * (number + 1)] for row in batch]
        assert sorted(seen) == list(range(396))
    for note in together:
        difference = [(alone["weights"][name] - value).abs().max() for name, value in note["weights"].items()]
        assert max(difference) <= 1e-5
    for name, rows in (("run_2", "val"), ("test", "test"), ("predict", "predict")):
        seen = [row for note in notes(name) for batch in note["rows"][rows] for row in batch]
        assert sorted(seen) == list(range(65 if rows == "val" else 52))
    predictions = parquet.read_table(tmp_path / "predict/predictions").to_pydict()
    assert sorted(predictions["row"]) == list(range(52))
