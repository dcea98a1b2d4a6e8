"""Sentences in shards: the batches that they would give in memory, from any kind of file, hashed once or each time."""

import gc
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.feature_extraction.text import HashingVectorizer

from datamodules.sampler import BatchIndices, ResumableBatchSampler, StatefulDataLoader
from datamodules.text.shards import TextShardsDataModule
from datamodules.text.sparse_rows import SparseRows
from tests.conftest import refused
from tests.tools.ready import ready

pytest.importorskip("datasets", reason="needs the package datasets: pip install -e '.[shards]'")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

UNEVEN = (37, 5, 120)  # rows of three shards


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Arrow files and hashed rows of a test are its own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def sentences(number, seed=0):
    """Columns of made-up sentences, a few of them without any word."""
    draw = random.Random(seed)
    label = [draw.choice(["alarm", "music", "snow"]) for _ in range(number)]
    words = ([f"{name}{draw.randrange(4)}", *(f"word{draw.randrange(50)}" for _ in range(draw.randrange(9)))]
             for name in label)  # fmt: skip
    return {"id": list(range(number)), "text": [" ".join(w) if n % 20 else "!" for n, w in enumerate(words)],
            "label": label}  # fmt: skip


def shards(folder, sizes=UNEVEN, seed=0, write=None):
    """A pattern that names that many files of so many rows."""
    folder.mkdir(exist_ok=True)
    columns, start = sentences(sum(sizes), seed), 0
    for number, size in enumerate(sizes):
        part = {name: column[start : start + size] for name, column in columns.items()}
        parquet.write_table(pa.table(part), folder / f"{number}.parquet", row_group_size=10)
        start += size
    return f"{folder}/*.parquet"


def whole(folder, **options):
    """A datamodule with files for each split, so that none is drawn."""
    files = {f"{split}_files": shards(folder / split, seed=seed) for seed, split in enumerate(("train", "val", "test"))}
    return TextShardsDataModule(**files | options)


def same(one, other):
    assert torch.equal(one.x.crow_indices(), other.x.crow_indices())
    assert torch.equal(one.x.col_indices(), other.x.col_indices())
    assert torch.equal(one.x.values(), other.x.values())
    assert torch.equal(one.target, other.target) and torch.equal(one.indices, other.indices)
    assert [part.dtype for part in one] == [part.dtype for part in other]


@pytest.mark.parametrize("hash_once", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_batches_are_those_of_rows_in_memory_bit_for_bit(tmp_path, hash_once, rank):
    data = ready(whole(tmp_path, num_hashes=1000, hash_once=hash_once, batch_size=7, seed=3))
    columns = sentences(sum(UNEVEN))
    options = {"n_features": 1000, "ngram_range": (1, 2), "alternate_sign": False, "dtype": np.float32}
    matrix = HashingVectorizer(**options).transform(columns["text"])
    matrix.sort_indices()
    in_memory = SparseRows(matrix).gather
    target = torch.tensor([["alarm", "music", "snow"].index(name) for name in columns["label"]])
    sampler = ResumableBatchSampler(len(target), 7, shuffle=True, seed=3, rank=rank, world_size=2)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches = list(StatefulDataLoader(data.dataset("train"), sampler=sampler))
        assert len(batches) == 24  # of 162 rows; the last is of one, which leaves the second process none
        for found, asked in zip(batches, sampler, strict=True):
            same(found, found._replace(x=in_memory(asked), target=target[asked.indices], indices=asked.indices))


@pytest.mark.parametrize("hash_once", [False, True])
def test_rows_held_out_are_each_in_one_split_and_are_drawn_from_the_seed(tmp_path, hash_once):
    files, columns = shards(tmp_path / "all"), sentences(sum(UNEVEN))

    def texts(seed, split):
        data = ready(TextShardsDataModule(files, hash_once=hash_once, seed=seed, val_fraction=0.2, num_hashes=2**20))
        data.setup("test")
        rows = data.dataset(split)
        found = [row["text"] for row in data.describe(range(len(rows)), split)]
        expected = data.encode(found)
        assert torch.equal(rows[BatchIndices(torch.arange(len(rows)), 0)].x.values(), expected.values())
        labels = [columns["label"][columns["text"].index(text)] for text in found]
        assert [data.class_names[k] for k in rows.target] == labels or "!" in found
        return found

    parts = [texts(1, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [162 - 17 - 29, 29, 17]
    assert sorted(text for part in parts for text in part) == sorted(columns["text"])
    assert [texts(1, split) for split in ("train", "val", "test")] == parts
    assert texts(2, "test") != parts[2]


def test_csv_json_lines_and_parquet_give_the_same_rows_and_no_label_becomes_a_number(tmp_path):
    rows = [("snow, rain", "NA"), ("play\nmusic", "01"), ("wake me", "null"), ("café 2", "NA")]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows))
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in rows]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    parquet.write_table(table, tmp_path / "a.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        file = str(tmp_path / f"a.{suffix}")
        data = ready(TextShardsDataModule(file, file, file))
        assert data.class_names == ["01", "NA", "null"] and data.class_counts == [1, 2, 1]
        assert data.describe(range(4), "train") == [{"text": text} for text, _ in rows]
        assert data.dataset("val").target.tolist() == [1, 0, 2, 1]


def test_labels_may_be_whole_numbers_or_classes_of_datasets(tmp_path):
    import datasets

    table = {"text": ["a b", "c d", "e f"], "label": [2, 10, 2]}
    parquet.write_table(pa.table(table), tmp_path / "n.parquet")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    named = datasets.Dataset.from_dict({"text": ["a b", "c d", "e f"], "label": [1, 0, 1]}, features)
    named.to_parquet(tmp_path / "c.parquet")
    for file, names in (("n.parquet", ["10", "2"]), ("c.parquet", ["no", "yes"])):
        files = str(tmp_path / file)
        data = ready(TextShardsDataModule(files, files, files))
        assert data.class_names == names and data.dataset("train").target.tolist() == [1, 0, 1]


def test_hashed_rows_are_kept_for_the_same_rows_and_options_alone(tmp_path, capsys):
    files = shards(tmp_path / "all")
    for options in ({}, {}, {"ngram_range": (1, 1)}, {"num_hashes": 99}, {}):
        ready(TextShardsDataModule(files, files, files, hash_once=True, **options))
    assert capsys.readouterr().err.count("note: hashes 162 rows once") == 3
    shards(tmp_path / "all", seed=1)
    ready(TextShardsDataModule(files, files, files, hash_once=True))
    assert capsys.readouterr().err.count("note: hashes 162 rows once") == 1


def test_hashing_that_was_cut_off_is_begun_anew(tmp_path, monkeypatch):
    import datamodules.text.mapped_rows as mapped_rows

    files, append = shards(tmp_path / "all"), mapped_rows.MappedRows.__getitem__
    monkeypatch.setattr(mapped_rows, "CHUNK", 50)
    calls = []

    def fails(rows, indices):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return append(rows, indices)

    monkeypatch.setattr(mapped_rows.MappedRows, "__getitem__", fails)
    with pytest.raises(OSError, match="No space left"):
        ready(TextShardsDataModule(files, files, files, hash_once=True))
    data = ready(TextShardsDataModule(files, files, files, hash_once=True))
    assert torch.equal(data.dataset("train")[3].x.to_dense(), data.encode([sentences(162)["text"][3]]).to_dense())


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"train_files": None}, "train_files: expected files, got none; --data.train_files"),
        ({}, {"train_files": "nowhere/*.csv"}, r"train_files: no file fits nowhere/\*.csv"),
        ({}, {"val_files": __file__}, r"val_files: expected files that all end in one of .parquet, .jsonl, .csv, got"),
        ({}, {"text_column": "words"}, "train_files: expected a column 'words', got 'text', 'label'; set --data.text_"),
        ({}, {"label_column": "intent"}, "expected a column 'intent', got 'text', 'label'; set --data.label_column"),
        ({"text": [1, 2, 3]}, {}, "train_files: expected text in 'text', got int64"),
        ({"label": [0.5, 1.5, 2.5]}, {}, "train_files: expected text or whole numbers in 'label', got double"),
        ({"label": ["a", None, "b"]}, {}, "train_files: expected a label in 'label' of each row, 1 have none"),
        ({"label": ["a", "a", "a"]}, {}, "expected at least 2 labels to tell apart, got \\['a'\\]"),
        ({}, {"val_fraction": 0.9, "test_fraction": 0.9}, "cannot hold out 3 of 3 rows: give val_files and test_files"),
        ({}, {"num_hashes": 0}, "num_hashes must be at least 1 and below 2"),
        ({}, {"ngram_range": (2, 1)}, "ngram_range: expected 1 <= shortest <= longest, got 2, 1"),
        ({}, {"val_fraction": 1.0}, r"val_fraction and test_fraction must be in \(0, 1\), got 1.0, 0.1"),
    ],
)
def test_files_and_options_that_cannot_be_used_are_refused_in_one_line(tmp_path, columns, options, message):
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a b", "c", "d"], "label": ["x", "y", "x"]} | columns), file)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        ready(TextShardsDataModule(**{"train_files": str(file)} | options))
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves a bad CSV file open
def test_a_damaged_shard_shards_of_other_columns_and_an_unknown_label_are_refused_in_one_line(tmp_path):
    files = shards(tmp_path / "all")
    parquet.write_table(pa.table({"text": ["a b"], "label": ["rain"]}), tmp_path / "new.parquet")
    with pytest.raises(ValueError, match="label 'rain' of the val rows is none of the 3 of the training rows"):
        ready(TextShardsDataModule(files, str(tmp_path / "new.parquet"), files))
    (tmp_path / "all/1.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="train_files: expected files of rows with the same columns: ") as error:
        ready(TextShardsDataModule(files))
    assert "\n" not in str(error.value)
    (tmp_path / "b.csv").write_text("text,label\na b,x\n")
    (tmp_path / "c.csv").write_text("text,mood\na b,x\n")
    with pytest.raises(ValueError, match="train_files: expected files of rows with the same columns: "):
        ready(TextShardsDataModule([str(tmp_path / "b.csv"), str(tmp_path / "c.csv")]))
    gc.collect()


def test_without_the_package_one_line_tells_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"text in shards needs the package datasets: pip install datasets"):
        ready(TextShardsDataModule(shards(tmp_path / "all")))


def test_the_state_of_a_checkpoint_names_labels_and_hashing_and_refuses_other_rows(tmp_path):
    files = shards(tmp_path / "all")
    trained = ready(TextShardsDataModule(files, seed=1))
    state = trained.state_dict()
    assert {type(value) for value in state.values()} <= {int, str, list, dict}

    def resumed(**options):
        data = TextShardsDataModule(**{"train_files": files, "seed": 1} | options)
        data.load_state_dict(state)
        return ready(data)

    same(resumed().dataset("train")[0], trained.dataset("train")[0])
    with pytest.raises(ValueError, match="trained with num_hashes 262144, the configuration has 99: to resume"):
        resumed(num_hashes=99).dataset("train")
    with pytest.raises(ValueError, match=r"trained with ngram_range \[1, 2\], the configuration has \[1, 1\]"):
        resumed(ngram_range=(1, 1)).dataset("train")
    files_of_others = shards(tmp_path / "other", seed=5)
    for other in {"seed": 2}, {"val_fraction": 0.2}, {"text_column": "label"}, {"train_files": files_of_others}:
        with pytest.raises(ValueError, match="the checkpoint was trained on other rows"):
            resumed(**other).dataset("train")
    new = TextShardsDataModule(test_files=shards(tmp_path / "new", (3,), seed=9))
    new.load_state_dict(state)
    new.setup("test")
    assert len(new.dataset("test")) == 3


@pytest.mark.parametrize("hash_once", ["true", "false"])
def test_fit_test_and_predict_by_the_command_line_end_in_shards_with_all_columns(cli, tmp_path, hash_once, capsys):
    files = shards(tmp_path / "all")
    config = ("--config", "configs/text_shards.yaml", "--data.train_files", files, "--data.hash_once", hash_once)
    config += ("--data.num_hashes", 4096, "--trainer.enable_progress_bar", "false")
    cli("fit", *config, "--trainer.max_epochs", 2, "--trainer.default_root_dir", tmp_path / "run")
    best = ("--ckpt_path", tmp_path / "run/checkpoints/best.ckpt", "--trainer.default_root_dir", tmp_path / "run")
    cli("test", *config, *best)
    metrics = json.loads((tmp_path / "run/test_metrics.json").read_text())
    assert metrics["test/accuracy"] > 0.6
    for _ in range(2):  # the second replaces the first
        cli("predict", *config, *best, "--data.predict_files", files)
    assert "162 predictions in 1 file" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "run/predictions").to_pydict()
    columns = sentences(sum(UNEVEN))
    assert {name: table[name] for name in ("id", "text", "label")} == columns
    assert table["row"] == list(range(162))
    right = np.mean([p == t for p, t in zip(table["predicted_label"], table["label"], strict=True)])
    assert right > 0.6 and min(table["probability"]) >= 1 / 3
    assert all(a != b for a, b in zip(table["predicted_label"], table["second_label"], strict=True))
    line = refused(cli, "fit", *config, "--ckpt_path", best[1], "--data.ngram_range", "[1, 3]")
    assert "the checkpoint was trained with ngram_range [1, 2]" in line
    line = refused(cli, "fit", *config, "--ckpt_path", best[1], "--seed_everything", 7)
    assert "the checkpoint was trained on other rows" in line
    table = parquet.read_table(tmp_path / "all/0.parquet")
    labels = table["label"].to_pylist()
    said_of = {("rain", *labels[1:]): "'rain' of the train rows", (*labels[::-1],): "was trained on other rows"}
    for other, said in said_of.items():
        parquet.write_table(table.set_column(2, "label", [other]), tmp_path / "all/0.parquet")
        assert said in refused(cli, "fit", *config, "--ckpt_path", best[1])


def test_a_checkpoint_predicts_from_python(cli, tmp_path):
    classifier = pytest.importorskip("deploy.classifier").Classifier
    files = shards(tmp_path / "all")
    options = ("--data.train_files", files, "--data.num_hashes", 4096, "--trainer.default_root_dir", tmp_path / "run")
    cli("fit", "--config", "configs/text_shards.yaml", *options, "--trainer.max_epochs", 3)
    model = classifier.load(tmp_path / "run/checkpoints/best.ckpt")
    assert model.predict(["music0 word1", "snow3 snow1 word2"]) == ["music", "snow"]
    assert model.predict_proba([]).shape == (0, 3)
    with pytest.raises(ValueError, match="string object received"):
        model.predict("snow3")


def test_the_configuration_of_a_run_names_its_files_from_any_folder(cli, tmp_path):
    short = ("--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path / "run", "--data.num_hashes", 99)
    cli("fit", "--config", "configs/text_shards.yaml", "--data.train_files", "tests/data/sent*.csv", *short)
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert config["data"]["init_args"]["train_files"] == str(Path.cwd() / "tests/data/sent*.csv")
