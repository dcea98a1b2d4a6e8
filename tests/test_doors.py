"""One value, one answer: from a file of any kind, from Python, and after a trip to another process."""

import datetime
import decimal
import json
import pickle
import re
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from datamodules import TableDataModule, TextDataModule
from deploy.classifier import Classifier
from logreg.net_classifier import MLP
from tests.tools.ready import ready
from tests.tools.runs import QUIET, finish

QUESTIONS = ["will it snow on friday", "play the song, louder", "wake me up", "zzz qqq"]


def strictly(text):
    """JSON as other parsers read it, without NaN and Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def write(path, rows):
    """A file of the kind that its suffix names."""
    if path.suffix == ".csv":
        lines = [[*rows[0]], *([*row.values()] for row in rows)]
        path.write_text("".join(",".join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines))
    elif path.suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return path


def table_data(file, **options):
    return ready(TableDataModule(str(file), label_column="label", **options))


@pytest.fixture
def table(cli, tmp_path):
    """`table(rows, suffix, options)` fits the rows, written as a file, and returns run and file."""

    def fit(rows, suffix=".csv", *options, name="train"):
        file, run = write(tmp_path / f"{name}{suffix}", rows), tmp_path / f"{name}_run"
        place = ("--trainer.default_root_dir", run, "--trainer.max_epochs", 2, *QUIET)
        cli("fit", "--config", "configs/table_csv.yaml", "--data.train_file", file, "--data.label_column", "label",
            *place, *options)  # fmt: skip
        return run, file

    return fit


@pytest.fixture
def predicted(cli):
    """`predicted(run, options)` is what `predict` writes."""

    def predict(run, *options):
        cli("predict", "--config", run / "config.yaml", "--ckpt_path", "best", *QUIET, *options)
        return [strictly(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]

    return predict


def rows_of(number, **columns):
    """Rows of ages and labels that depend on them, and more columns, each of which goes round its values."""
    ages = [20 + (7 * n) % 50 for n in range(number)]
    return [
        {"age": age, **{name: values[n % len(values)] for name, values in columns.items()}, "label": "ny"[age > 40]}
        for n, age in enumerate(ages)
    ]


# Categories


@pytest.mark.parametrize("suffix, codes", [(".csv", ["1.0", "2.0", "3.5"]), (".jsonl", [1, 2, 3.5])])
def test_a_number_as_a_category_is_one_in_any_spelling_from_anywhere(table, predicted, tmp_path, suffix, codes):
    run, _ = table(rows_of(40, code=codes), suffix, "--data.categorical_columns", "[code]")
    classifier = Classifier.load(run)
    assert classifier.data.columns["code"] == ["1", "2", "3.5"]
    spellings = {"2": (2, 2.0, "2", "2.0", " 2.00", np.float64(2), np.int64(2), decimal.Decimal("2.0"))}
    spellings["3.5"] = (3.5, "3.5", "3.50", "3.5e0", np.float32(3.5), decimal.Decimal("3.50"))
    for category, written in spellings.items():
        [expected] = classifier.predict_proba([{"age": 30, "code": category}])
        for value in written:
            assert (classifier.predict_proba([{"age": 30, "code": value}]) == expected).all(), repr(value)
            assert (classifier.predict_proba([[30, value]]) == expected).all(), repr(value)
            assert classifier.unseen([[30, value]]) == [[]]
    [expected] = classifier.predict_proba([[30, "2"]])
    mixed = [2, 2.0, "2", "2.0"]
    for suffix, values in ((".csv", mixed), (".json", mixed), (".parquet", [2.0]), (".parquet", ["2", "2.0"])):
        file = write(tmp_path / f"new{suffix}", [{"age": 30, "code": value} for value in values])
        records = predicted(run, "--data.predict_file", file)
        if suffix == ".csv":
            records += predicted(run, "--data.predict_inputs", json.dumps([[30, value] for value in values]))
        assert [record["probability"] for record in records] == pytest.approx([max(expected)] * len(records), abs=1e-6)


def test_a_code_that_begins_with_0_and_a_long_id_stay_themselves(tmp_path):
    codes = ["0150", "150", "12345678901234567890", "12345678901234567891", "1_000", "nan"]
    file = write(tmp_path / "a.csv", rows_of(60, code=codes))
    assert table_data(file, categorical_columns=["code"]).columns["code"] == sorted(codes)


def test_a_category_that_is_new_is_told_of_by_python(table):
    run, _ = table(rows_of(40, town=["Oslo", "Bern"]))
    classifier = Classifier.load(run)
    known, new = {"age": 30, "town": "Oslo"}, {"age": 30, "town": "Osło"}
    with pytest.warns(UserWarning, match="1 of 2 rows have a 'town' that no training row has"):
        classifier.predict([known, new])
    assert classifier.unseen([known, new]) == [[], ["no training row has the 'town' 'Osło'"]]


def test_a_misspelt_column_is_told_of_beside_right_ones(cli, table, predicted, tmp_path, capsys):
    run, _ = table(rows_of(40, town=["Oslo", "Bern"]))
    classifier = Classifier.load(run)
    right, wrong = {"age": 30, "town": "Oslo"}, {"age": 30, "twon": "Oslo"}
    message = "row 1: expected a column 'town', got age, twon"
    with pytest.raises(ValueError, match=message):
        classifier.predict([right, wrong])
    with pytest.raises(SystemExit, match=message):
        predicted(run, "--data.predict_inputs", json.dumps([right, wrong]))
    capsys.readouterr()
    predicted(run, "--data.predict_file", write(tmp_path / "new.jsonl", [right, wrong]))
    said = "1 of 2 predict rows lack a column, whose value counts as missing"
    assert f"{said}: {tmp_path}/new.jsonl line 2 has no 'town', but 'age', 'twon'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="categorical_columns: the file has no column 'twon'"):
        table(rows_of(40, town=["Oslo"]), ".csv", "--data.categorical_columns", "[twon]")


@pytest.mark.parametrize("cell", ["unknown", "inf"])
def test_which_columns_there_are_and_what_they_hold_does_not_depend_on_the_seed(tmp_path, capsys, cell):
    rows = rows_of(60, pay=[*range(1_000, 1_060)])
    rows[7]["pay"] = cell
    file, said = write(tmp_path / "a.csv", rows), []
    for seed in (1, 42):
        assert table_data(file, seed=seed).columns["pay"] is not None
        said.append([line for line in capsys.readouterr().err.splitlines() if "looks like numbers" in line])
    assert said[0] == said[1]
    assert f"59 of 60 rows, but {file} line 9 has {cell!r}" in said[0][0]
    partly = [
        row if n == 7 else {"age": row["age"], "label": row["label"]} for n, row in enumerate(rows_of(40, pay=[1]))
    ]
    for seed in (1, 42):
        assert table_data(write(tmp_path / "a.jsonl", partly), seed=seed).columns == {"age": None, "pay": None}


# Values that only some formats have


def test_what_parquet_holds_is_predicted_and_written(cli, table, predicted):
    day, berlin = datetime.date(2024, 1, 1), datetime.timezone(datetime.timedelta(hours=1))
    at = datetime.datetime(2024, 1, 1, 12, 30)
    columns = {
        "day": [day, day + datetime.timedelta(1), None],
        "at": [np.datetime64("2024-01-01T12:30:00.000000007"), np.datetime64("2024-01-02", "ns")],
        "zoned": [at.replace(tzinfo=berlin)],
        "time": [at.time(), datetime.time(8)],
        "price": [decimal.Decimal("0.10"), decimal.Decimal("2.00"), None],
        "id": [decimal.Decimal("12345678901234567890.12")],
        "bytes": [b"Oslo", b"\xff"],
        "took": [datetime.timedelta(minutes=1), datetime.timedelta(minutes=2)],
        "ratio": [float("nan"), 0.5, 0.25],
    }
    run, file = table(rows_of(48, **columns), ".parquet", "--data.id_columns", "[id]")
    kinds = Classifier.load(run).data.columns
    assert [name for name, kind in kinds.items() if kind is None] == ["age", "price", "took", "ratio"]
    cli("test", "--config", run / "config.yaml", "--ckpt_path", "best", *QUIET)
    records = predicted(run, "--data.predict_file", file)
    expected = {"day": "2024-01-01", "at": "2024-01-01T12:30:00", "time": "12:30:00", "price": 0.1, "ratio": None}
    expected |= {"bytes": "Oslo", "took": 60.0, "id": "12345678901234567890.12"}
    assert {name: records[0][name] for name in expected} == expected
    assert datetime.datetime.fromisoformat(records[0]["zoned"]) == columns["zoned"][0]
    assert [records[2]["day"], records[2]["price"]] == [None, None]
    assert "2024-01-01" in (run / "predictions.csv").read_text()


def test_a_missing_number_of_json_is_null(table, predicted):
    run, file = table(rows_of(40, ratio=[float("nan"), 0.5], town=["Oslo", float("nan"), "Bern"]), ".jsonl")
    records = predicted(run, "--data.predict_file", file)
    assert [records[0]["ratio"], records[1]["town"]] == [None, None]
    assert Classifier.load(run).data.columns == {"age": None, "ratio": None, "town": ["", "Bern", "Oslo"]}


def test_numbers_as_large_as_float32_has_them_get_a_probability(short_fit, cli, tmp_path):
    folder = short_fit("iris_binary")
    cli("predict", "--config", folder / "config.yaml", "--ckpt_path", folder / "checkpoints/best.ckpt", *QUIET,
        "--trainer.default_root_dir", tmp_path, "--data.predict_inputs", "[[3e38, -3e38], [4.9, 1.7]]")  # fmt: skip
    [overflown, usual] = map(strictly, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert overflown["probability"] == 1.0 and usual["probability"] > 0.5


@pytest.mark.parametrize("suffix, value", [(".parquet", [0.5, 1.5]), (".json", {"a": 1})], ids=str)
def test_a_list_in_a_cell_is_refused_by_its_column_and_carried_along_as_an_id(table, predicted, suffix, value):
    rows = rows_of(40, tags=[value])
    with pytest.raises(SystemExit) as refused:
        table(rows, suffix)
    said = r"error: \S+ (line|row|entry) 1: expected a number or a category in 'tags', got .*id_columns '\[tags\]'$"
    assert re.match(said, str(refused.value))
    run, file = table(rows, suffix, "--data.id_columns", "[tags]")
    assert predicted(run, "--data.predict_file", file)[0]["tags"] == value


@pytest.mark.parametrize(
    "labels",
    [(False, True), (datetime.date(2024, 1, 1), datetime.date(2025, 1, 2)), (decimal.Decimal(1), decimal.Decimal(2))],
)
def test_truth_values_dates_and_decimals_label_rows(tmp_path, labels):
    rows = [row | {"text": "snow", "label": labels[row["label"] == "y"]} for row in rows_of(40)]
    file = write(tmp_path / "a.parquet", rows)
    names = table_data(file).class_names
    assert names == ready(TextDataModule(str(file))).class_names
    assert names in (["false", "true"], ["2024-01-01", "2025-01-02"], ["1", "2"])


@pytest.mark.parametrize(
    "suffix, bare", [(".parquet", float("nan")), (".parquet", None), (".csv", ""), (".json", None)]
)
def test_rows_without_a_label_are_left_out_by_an_option_that_the_refusal_names(tmp_path, capsys, suffix, bare):
    rows = rows_of(40)
    for row in rows:
        row["label"] = float(row["label"] == "y")
    rows[5]["label"] = rows[9]["label"] = bare
    file = write(tmp_path / f"a{suffix}", rows)
    with pytest.raises(
        ValueError, match=r"1 more bad rows: .*--data\.drop_unlabelled true leaves out rows without a l"
    ):
        table_data(file)
    capsys.readouterr()
    table_data(file, drop_unlabelled=True)
    assert "2 of 40 rows of" in capsys.readouterr().err


# To another process


def sent(thing, times=2):
    """What a spawned process gets of an object, which may be handed on as often as there are workers."""
    for _ in range(times):
        copy = pickle.loads(ForkingPickler.dumps(thing))
        _ = [np.random.default_rng(n).random(200_000) for n in range(20)]  # over memory that was given back
    return copy


@pytest.mark.parametrize("config", ["text_csv", "table_csv", "iris_ova", "iris_binary", "xor_mlp"])
def test_what_another_process_gets_answers_as_the_original_does(short_fit, config):
    classifier = Classifier.load(short_fit(config), **({"net": MLP(2, 2)} if config == "xor_mlp" else {}))
    inputs = {"text_csv": QUESTIONS, "table_csv": [[33, 38, "family", "Oslo"], [None, 3, "basic", "Bern"]]}.get(
        config, [[1.4, 0.2], [4.9, 1.7]]
    )
    before = classifier.predict_proba(inputs), [classifier.predict_proba([each]) for each in inputs]
    for answering in (sent(classifier), classifier):
        assert np.array_equal(answering.predict_proba(inputs), before[0])
        assert np.array_equal([answering.predict_proba([each]) for each in inputs], before[1])
    sent((classifier.data.state_dict(), classifier.model.state_dict()))
    assert np.array_equal(classifier.predict_proba(inputs), before[0])


@pytest.mark.parametrize("config", ["text_csv", "iris_ova"])
def test_an_export_outlives_its_classifier_in_another_process(short_fit, tmp_path, config):
    pytest.importorskip("skops")
    from deploy.sklearn import to_sklearn

    classifier = Classifier.load(short_fit(config))
    pipeline = to_sklearn(classifier, tmp_path / "model.skops")
    inputs = QUESTIONS if config == "text_csv" else [[1.4, 0.2], [4.9, 1.7]]
    before = pipeline.predict_proba(inputs)
    sent(classifier)
    assert np.array_equal(pipeline.predict_proba(inputs), before)


def test_a_linear_model_takes_one_thread(short_fit, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "set_num_threads", (asked := []).append)
    Classifier.load(short_fit("text_csv"))
    Classifier.load(short_fit("xor_mlp"), net=MLP(2, 2))
    assert asked == [1]


@pytest.mark.slow
def test_a_pool_of_forked_processes_answers_after_its_parent_has(short_fit):
    script = f"""
import os, multiprocessing
del os.environ["OMP_NUM_THREADS"]  # which would decide the number of threads
from deploy.classifier import Classifier
classifier, texts = Classifier.load({str(short_fit("text_csv"))!r}), ["will it snow", "play a song"] * 10_000
expected = classifier.predict(texts)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(classifier.predict, [texts, texts]) == [expected] * 2
"""
    finish("-c", script, seconds=120)
