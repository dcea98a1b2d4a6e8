"""Tables from files: beside scikit-learn's ColumnTransformer, with holes and new categories, and what is refused."""

import csv
import gzip
import json
import math
import random
from contextlib import nullcontext
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from datamodules import TableDataModule
from datamodules.sampler import BatchIndices
from logreg.binary import BinaryLogit
from logreg.one_vs_all import OneVsAll
from logreg.optimizers import DecayToZero
from tests.tools.ready import ready

PLAIN = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
L2 = 1e-2


def write(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def mixed(number, seed=0):
    """Rows of an id, two columns of numbers with holes, two of categories with holes, and a label of two kinds."""
    draw = random.Random(seed)
    rows = []
    for n in range(number):
        age, income = draw.gauss(40, 12), math.exp(draw.gauss(3, 1))
        town, code = draw.choice(["Oslo", "Bern", "Turin", ""]), draw.choice([10, 20, 30])
        z = 0.1 * (age - 40) + {"Oslo": 2, "Bern": -2}.get(town, 0) + (code == 20) - 0.5
        label = "yes" if draw.random() < 1 / (1 + math.exp(-z)) else "no"
        rows.append((f"r{n}", "" if draw.random() < 0.2 else f"{age:.3f}", f"{income:.3f}", town, code, label))
    return rows


HEADER = ("id", "age", "income", "town", "code", "label")
OPTIONS = {"id_columns": ["id"], "categorical_columns": ["code"]}


@pytest.fixture
def table(tmp_path):
    """Files of 240 rows to train, 60 to validate and 200 to test on, of `mixed`."""
    rows = mixed(500)
    parts = {"train": rows[:240], "val": rows[240:300], "test": rows[300:]}
    return {f"{split}_file": write(tmp_path / f"{split}.csv", HEADER, part) for split, part in parts.items()}


def of_scikit_learn(dataset, path):
    """Files of one of scikit-learn's tables: two thirds to train, and the rest for both validation and test."""
    order = np.random.default_rng(0).permutation(len(dataset.target))
    rows = [(*x, dataset.target_names[k]) for x, k in zip(dataset.data, dataset.target, strict=True)]
    third, header = len(rows) // 3, (*dataset.feature_names, "label")
    held = write(path / "held.csv", header, [rows[i] for i in order[:third]])
    train = write(path / "train.csv", header, [rows[i] for i in order[third:]])
    return {"train_file": train, "val_file": held, "test_file": held}


def raw(file):
    """What the independent implementation reads: numbers or None, and words, by the csv module alone."""
    with open(file, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    labels = [row.pop("label") for row in rows]
    return rows, labels


def by_scikit_learn(files, columns, classifier):
    """Probabilities (N, K) of the test rows by a pipeline of scikit-learn's, and their labels."""
    (train, labels), (test, expected) = raw(files["train_file"]), raw(files["test_file"])
    numbers, words = ([n for n, kind in columns.items() if (kind is None) is is_number] for is_number in (True, False))

    def array(rows):
        values = [[float(row[name] or "nan") for name in numbers] + [row[name] for name in words] for row in rows]
        return np.array(values, dtype=object)

    scaled = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True))
    of_number, of_word = list(range(len(numbers))), list(range(len(numbers), len(numbers) + len(words)))
    parts = [("numbers", scaled, of_number), ("words", OneHotEncoder(handle_unknown="ignore"), of_word)]
    fitted = make_pipeline(ColumnTransformer(parts), classifier).fit(array(train), labels)
    return fitted.predict_proba(array(test)), expected


def fitted(model, data, epochs):
    options = {"accelerator": "cpu", "log_every_n_steps": 1, "check_val_every_n_epoch": epochs}
    trainer = L.Trainer(max_epochs=epochs, **options, **PLAIN)
    trainer.fit(model, data)
    return model.eval()


def warnings_in(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "warning" in line]


def everything(data, split):
    """All features of a split, (N, D)."""
    dataset = data.dataset(split)
    return dataset.gather(BatchIndices(torch.arange(len(dataset)), 0))


TABLES = {
    "breast cancer": partial(of_scikit_learn, load_breast_cancer()),
    "wine": partial(of_scikit_learn, load_wine()),
    "categories and holes": None,
}
newton = partial(torch.optim.LBFGS, lr=1, max_iter=40, line_search_fn="strong_wolfe")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", ["BinaryLogit", "OneVsAll", "SoftmaxRegression"])
def test_accuracy_and_log_loss_are_scikit_learns_at_the_same_penalty(tmp_path, table, name, kind):
    files = TABLES[name](tmp_path) if TABLES[name] else table
    data = ready(TableDataModule(**files, **({} if TABLES[name] else OPTIONS), batch_size=1_000))
    features, classes, rows = data.num_features, data.num_classes, sum(data.class_counts)
    reference = LogisticRegression(C=1 / (2 * rows * L2), tol=1e-8, max_iter=10_000)
    if kind == "BinaryLogit":
        if classes != 2:
            with pytest.raises(ValueError, match="BinaryLogit needs data of exactly 2 classes, got 3; try OneVsAll"):
                BinaryLogit(features, class_counts=data.class_counts)
            return
        model = fitted(BinaryLogit(features, l2=L2, optimizer=newton), data, 4)
    elif kind == "OneVsAll":
        model = fitted(OneVsAll(features, classes, l2=L2, optimizer=newton), data, 4)
        if classes > 2:  # of two classes scikit-learn makes one classifier, whose answers are these
            reference = OneVsRestClassifier(reference)
    else:
        softmax = pytest.importorskip("logreg.softmax", reason="deleted with its tasks")
        model = softmax.SoftmaxRegression(features, classes, lr=0.5, l2=L2, lr_scheduler=DecayToZero, seed=0)
        fitted(model, data, 400)
        if classes == 2:  # w₁ = −w₀ carry half of the log-odds' weight each, and so half of its penalty in all
            reference = LogisticRegression(C=1 / (rows * L2), tol=1e-8, max_iter=10_000)
    expected, labels = by_scikit_learn(files, data.columns, reference)
    with torch.no_grad():
        found = model.predict_proba(everything(data, "test")).numpy()
    target = np.array([data.class_names.index(label) for label in labels])
    assert np.mean(found.argmax(1) == target) == pytest.approx(np.mean(expected.argmax(1) == target), abs=0.005)
    assert log_loss(target, found) == pytest.approx(log_loss(target, expected), abs=0.005)
    shares = np.bincount(target) / len(target)
    assert log_loss(target, found) < 0.9 * log_loss(target, np.tile(shares, (len(target), 1)))


# What the columns become


@pytest.mark.parametrize("kept", [("age", "town", "income", "code"), ("income",), ("town",)], ids=" ".join)
def test_scikit_learn_makes_the_same_x_of_clean_cells(table, kept):
    codes = ["code"] if "code" in kept else []
    data = ready(TableDataModule(**table, id_columns=["id"], feature_columns=[*kept], categorical_columns=codes))
    rows = [*raw(table["test_file"])[0], dict(age="", income="5", town="Rome", code="40")]
    numbers = ("age", "income")
    cells = [[float(row[name] or "nan") if name in numbers else row[name] for name in kept] for row in rows]
    x = data.sklearn_transformer().transform(np.array(cells, dtype=object))
    with pytest.warns(UserWarning, match="no training row has") if "town" in kept else nullcontext():
        expected = data.encode(cells)
    assert torch.equal(torch.from_numpy(x).float(), expected)


def test_features_are_scikit_learns_with_names(table):
    data = ready(TableDataModule(**table, **OPTIONS))
    categories = {"town": ["", "Bern", "Oslo", "Turin"], "code": ["10", "20", "30"]}
    assert data.columns == {"age": None, "income": None, **categories}
    assert data.with_holes == ["age"]
    of_town = ["town is missing", "town = Bern", "town = Oslo", "town = Turin"]
    of_code = ["code = 10", "code = 20", "code = 30"]
    assert data.feature_names == ["age", "income", "age is missing", *of_town, *of_code]
    x = everything(data, "train")
    rows, _ = raw(table["train_file"])
    numbers = np.array([[float(row["age"] or "nan"), float(row["income"])] for row in rows])
    scaled = StandardScaler().fit_transform(numbers)
    assert x[:, :2].numpy() == pytest.approx(np.nan_to_num(scaled), abs=1e-5)
    assert x[:, 2].numpy().tolist() == [float(row["age"] == "") for row in rows]
    words = OneHotEncoder().fit_transform([[row["town"], row["code"]] for row in rows]).toarray()
    assert x[:, 3:].numpy().tolist() == words.tolist()


def test_a_file_of_any_kind_gives_the_same_table(tmp_path):
    rows = mixed(60)
    given = {"label_column": "label", **OPTIONS}
    first = ready(TableDataModule(write(tmp_path / "a.csv", HEADER, rows), **given))
    objects = [dict(zip(HEADER, row, strict=True)) for row in rows]
    for row in objects:
        row["age"] = float(row["age"]) if row["age"] else None
        row["town"] = row["town"] or None
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(objects).encode()))
    (tmp_path / "a.tsv").write_text("\n".join(";".join(map(str, row)) for row in (HEADER, *rows)))
    for name in ("a.jsonl", "a.json.gz", "a.tsv"):
        data = ready(TableDataModule(str(tmp_path / name), **given))
        assert (data.feature_names, data.class_names) == (first.feature_names, first.class_names)
        assert torch.equal(data.dataset("test")[0].x, first.dataset("test")[0].x)


def test_columns_named_by_numbers_are_learned_from_and_those_without_a_name_left_out(tmp_path):
    rows = [("u", n % 7, n % 5, "ab"[n % 2]) for n in range(40)]
    data = ready(TableDataModule(write(tmp_path / "a.csv", ("region", 2019, "0.5", "label"), rows)))
    assert list(data.columns) == ["region", "2019", "0.5"]
    rows = [(n, n % 7, "u", "", "ab"[n % 2]) for n in range(20)]
    file = write(tmp_path / "c.csv", ("", "x", "y", "", "label"), rows)
    assert list(ready(TableDataModule(file)).columns) == ["x", "y"]
    assert ready(TableDataModule(file, feature_columns=["x"])).feature_names == ["x"]
    with pytest.raises(ValueError, match=r"other than the label's, got \[\] of label"):
        _ = ready(TableDataModule(write(tmp_path / "b.csv", ("label",), ["ab"[n % 2] for n in range(40)]))).columns


def test_truth_values_are_the_same_categories_from_every_kind_of_file(tmp_path):
    member = [n % 2 == 0 for n in range(40)]
    files = []
    for number, spelling in enumerate((str.title, str.upper, str.lower)):
        rows = [(spelling(str(m)), "ab"[n % 2]) for n, m in enumerate(member)]
        files.append(write(tmp_path / f"{number}.csv", ("member", "label"), rows))
    lines = (json.dumps({"member": m, "label": "ab"[n % 2]}) for n, m in enumerate(member))
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for file in (*files, str(tmp_path / "a.jsonl"), [*files, str(tmp_path / "a.jsonl")]):
        data = ready(TableDataModule(file))
        assert data.columns == {"member": ["false", "true"]}
        x = data.encode([{"member": True}, ["TRUE"], [False], ["False"]])
        assert x.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def suspects():
    """Cells of a column, what is said of it, and the options by which it is not said."""
    cells, by_name = [f"{n}.5" for n in range(60)], {"categorical_columns": ["odd"]}
    for stray in ("unknown", "$12", "10.5%", "1,992.17", "inf", "1e39", "1_000", "12 kg", "9" * 400):
        line = f"60 rows, but FILE line 32 has {stray[:50]!r}, so that each value counts as a category"
        yield pytest.param([*cells[:30], stray, *cells[31:]], line, by_name, id=stray[:9])
    for written in ("{},5", "{} kg", "{}_000", "{}h", "{} %"):
        yield [written.format(n % 50) for n in range(60)], "'odd' looks like numbers in 60 of 60 rows", by_name
    zips, ids = ["01067", "80331", "10115", "04109"], {"id_columns": ["odd"]}
    yield zips * 15, "'odd' is read as numbers, but 30 of 60 rows begin with a 0, as '01067'", by_name
    yield range(60), "'odd' counts the rows: if it is an id or a text, set --data.id_columns", ids
    yield [f"EUR {n % 50}" for n in range(60)], "'odd' has 50 different values in 60 training rows", ids


@pytest.mark.parametrize(("cells", "line", "options"), [*suspects()])
def test_a_column_that_may_be_taken_for_something_else_is_named_with_the_remedy(tmp_path, capsys, cells, line, options):
    rows = [(cell, n % 7, "ab"[n // 4 % 2]) for n, cell in enumerate(cells)]
    file = write(tmp_path / "a.csv", ("odd", "x", "label"), rows)
    files = {f"{split}_file": file for split in ("train", "val", "test")}
    ready(TableDataModule(**files))
    [said] = warnings_in(capsys)
    assert line.replace("FILE", file) in said
    ready(TableDataModule(**files, **options))
    assert warnings_in(capsys) == []


@pytest.mark.parametrize("cell", ["", "-NaN", "NA", "#N/A", "None", "-", "nan", "<NA>", "NULL"])
def test_what_stands_for_nothing_leaves_a_column_of_numbers_one(tmp_path, capsys, cell):
    rows = [(cell if n % 10 == 0 else n, "ab"[n % 2]) for n in range(60)]
    data = ready(TableDataModule(write(tmp_path / "a.csv", ("price", "label"), rows)))
    data.setup("fit")
    assert data.columns == {"price": None}
    assert "price" not in capsys.readouterr().err


def giving_away(number=60):
    """A column that repeats the label in other words, a number that is above 1 for one label, an id, and noise."""
    draw = random.Random(0)
    labels = [draw.choice("ab") for _ in range(number)]
    other = {"a": "u", "b": "v"}
    return [(other[y], (y == "b") + draw.random(), f"r{n}", draw.random(), y) for n, y in enumerate(labels)]


def test_a_column_that_gives_the_label_away_is_said_and_left_out_by_auto_with_ids(tmp_path, capsys):
    file = write(tmp_path / "a.csv", ("other", "score", "name", "x", "label"), giving_away())
    ready(TableDataModule(file))
    said = [line for line in warnings_in(capsys) if "alone tells the label" in line]
    assert [line.split("'")[1] for line in said] == ["other", "score"]
    assert "set --data.id_columns '[other]', or auto" in said[0]
    data = ready(TableDataModule(file, id_columns="auto"))
    assert list(data.columns) == ["x"]
    assert sorted(data.describe([0], "train")[0]) == ["name", "other", "score", "x"]
    said = capsys.readouterr().err
    assert "note: data.id_columns auto leaves out 'name', 'other', 'score'" in said
    assert "warning" not in said
    again = TableDataModule(file, id_columns="auto")
    again.load_state_dict(data.state_dict())
    ready(again).require_known_rows("train")
    assert again.id_columns == data.recipe["data.id_columns"] == data.id_columns


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_columns_that_are_good_and_no_more_are_not_suspected(tmp_path, capsys, load):
    ready(TableDataModule(of_scikit_learn(load(), tmp_path)["train_file"]))
    assert "alone" not in capsys.readouterr().err


def test_a_label_of_a_single_row_is_left_out_with_a_count(tmp_path, capsys):
    rows = [(n % 7, "ab"[n % 2]) for n in range(40)] + [(1, "c")]
    file = write(tmp_path / "a.csv", ("x", "label"), rows)
    with pytest.raises(ValueError, match=r"'c'.* --data.drop_unlabelled true"):
        ready(TableDataModule(file))
    assert ready(TableDataModule(file, drop_unlabelled=True)).class_names == ["a", "b"]
    assert "note: 1 of 41 rows left out, each the only one of its label: 'c'" in capsys.readouterr().err


@pytest.mark.parametrize("start, step", [(1_700_000_000, 1), (0, 1e-50), (-3e37, 1e36)])
def test_numbers_keep_what_float32_cannot_hold(tmp_path, start, step):
    values = [start + step * n for n in range(40)]
    file = write(tmp_path / "a.csv", ("time", "label"), [(repr(v), "ab"[n // 20]) for n, v in enumerate(values)])
    data = ready(TableDataModule(file, val_file=file, test_file=file))
    expected = StandardScaler().fit_transform(np.array(values)[:, None])
    assert everything(data, "train").numpy() == pytest.approx(expected, abs=1e-5)
    again = TableDataModule()
    again.load_state_dict(data.state_dict())
    assert torch.equal(again.encode([[v] for v in values]), everything(data, "train"))


def test_a_column_of_many_categories_takes_memory_for_a_batch_alone(tmp_path):
    rows = [(f"zip {n}", "ab"[n % 2]) for n in range(3_000)]
    file = write(tmp_path / "a.csv", ("zip", "label"), rows)
    data = ready(TableDataModule(file, val_file=file, test_file=file))
    dataset = data.dataset("train")
    assert dataset[7].x.shape == (1, 3_000)
    assert dataset[7].x.argmax() == data.columns["zip"].index("zip 7")
    assert max(part.numel() for part in dataset.gather.args if isinstance(part, torch.Tensor)) == 3_000


class Frame:
    """What is asked of a data frame, pandas' or another one's."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows

    def __len__(self):
        return len(self.rows)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.rows, dtype=dtype)


def test_a_data_frame_goes_by_the_names_of_its_columns(table):
    data = ready(TableDataModule(**table, **OPTIONS))
    expected = data.encode([[40, 20, "Oslo", 10], [None, 2, "Bern", 20]])
    rows = [("r1", "Oslo", 20, 40, 10), ("r2", "Bern", 2, None, 20)]
    assert torch.equal(data.encode(Frame(["id", "town", "income", "age", "code"], rows)), expected)
    unnamed = Frame([0, 1, 2, 3], [[40, 20, "Oslo", 10], [None, 2, "Bern", 20]])
    assert torch.equal(data.encode(unnamed), expected)
    with pytest.raises(ValueError, match="expected a column 'income', 'code', got age, town"):
        data.encode(Frame(["age", "town"], [[40, "Oslo"]]))


def test_categories_that_training_rows_lack_are_zeros_and_said(table, capsys):
    inputs = [{"age": 40, "income": 20, "town": "Paris", "code": 40}, [None, 20.0, "Oslo", 20]]
    data = ready(TableDataModule(**table, **OPTIONS, predict_inputs=inputs))
    data.dataset("predict")
    said = capsys.readouterr().err.splitlines()[-2:]
    assert "1 of 2 predict rows have a 'town' that no training row has ('Paris')" in said[0]
    assert "1 of 2 predict rows have a 'code' that no training row has ('40')" in said[1]
    paris, oslo = data.dataset("predict")[0].x[0].tolist(), data.dataset("predict")[1].x[0].tolist()
    assert paris[2:] == [0.0] * 8
    assert (oslo[0], oslo[2:]) == (0.0, [1.0, 0, 0, 1, 0, 0, 1, 0])  # the mean, and that it is one


def test_a_refit_takes_the_validation_rows_behind_the_training_rows(table):
    data = ready(TableDataModule(**table, **OPTIONS, refit=True))
    assert (len(data.dataset("train")), sum(data.class_counts)) == (300, 300)
    assert [row["id"] for row in data.describe([239, 240, 299], "train")] == ["r239", "r240", "r299"]


# Checkpoints


def test_a_checkpoint_is_enough_to_predict(tmp_path, table):
    fitted = ready(TableDataModule(**table, **OPTIONS))
    torch.save(fitted.state_dict(), tmp_path / "state")
    rows = [("Oslo", "kept", 20, "", 3), ("", "", "", "", "")]
    file = write(tmp_path / "new.csv", ("town", "extra", "code", "age", "income"), rows)
    data = TableDataModule("gone.csv", predict_file=file)
    data.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert (data.feature_names, data.class_names, data.num_features) == (fitted.feature_names, fitted.class_names, 10)
    assert data.dataset("predict")[0].x[0, 2:].tolist() == [1.0, 0, 0, 1, 0, 0, 1, 0]
    assert data.input_rows([0]) == [{"town": "Oslo", "extra": "kept", "code": "20", "age": "", "income": "3"}]
    assert [data.is_empty(0), data.is_empty(1)] == [False, True]
    assert data.state_dict()["columns"] == fitted.columns


def test_other_rows_than_the_checkpoint_was_trained_on_are_refused(tmp_path, table):
    state = ready(TableDataModule(**table, **OPTIONS)).state_dict()
    other = table | {"train_file": write(tmp_path / "other.csv", HEADER, mixed(50, seed=1))}
    data = ready(TableDataModule(**other, **OPTIONS))
    data.load_state_dict(state)
    data.dataset("test")  # a file of its own
    with pytest.raises(ValueError, match=r"other rows \(240 rows, .* than the options give now \(50 rows"):
        data.dataset("train")


# What is refused


GOOD = [(1, "u", "a"), (2, "v", "b")] * 9
REFUSED = [
    ([], {}, r"expected at least one row"),
    ([(1, "u", "a"), (2, "v", "a")] * 9, {}, r"at least 2 labels to tell apart, got \['a'\]"),
    ([(1, "u", "a"), (2, "v", "")], {}, r"line 3: expected text in 'label', got an empty field"),
    (GOOD, {"label_column": "kind"}, r"expected a column 'kind', got 'x', 'y', 'label'"),
    (GOOD, {"feature_columns": ["z"]}, r"feature_columns: the file has no column 'z'"),
    (GOOD, {"id_columns": ["z"]}, r"id_columns: the file has no column 'z'"),
    (GOOD, {"feature_columns": ["label"]}, r"columns other than the label's"),
    ([("", "u", "a"), ("NA", "v", "b")] * 9, {}, r"no value in the training rows: --data.id_columns '\[x\]'"),
    ([GOOD[0], ("", "v", "b")] * 9, {"missing": "refuse"}, r"line \d+ has no 'x', and \d+ more values are missing"),
    (GOOD, {"missing": "drop"}, r"missing must be impute or refuse, got drop"),
    (GOOD, {"predict_inputs": [[1]]}, r"expected 2 values \(x, y\), got \[1\] as row 0"),
    (GOOD, {"predict_inputs": [{"x": "?!", "y": 1}]}, r"a number in 'x', got '\?!'"),
    (GOOD, {"predict_inputs": [{"x": 1}]}, r"row 0: expected a column 'y', got x"),
    (GOOD, {"predict_inputs": [["x", 1], [1, 1], ["z", 1]]}, r"row 0: expected a number in 'x', got 'x'; 1 more$"),
    (GOOD, {"predict_inputs": []}, r"at least one row to predict"),
    (GOOD, {"predict_inputs": [], "predict_file": "a.csv"}, r"got both; leave one out"),
]


@pytest.mark.parametrize(("rows", "options", "message"), REFUSED, ids=str)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        data = ready(TableDataModule(write(tmp_path / "a.csv", ("x", "y", "label"), rows), **options))
        _ = data.dataset("train"), data.dataset("predict")
    assert "\n" not in str(caught.value)


def test_a_label_of_the_test_rows_alone_is_refused(tmp_path):
    train = write(tmp_path / "a.csv", ("x", "label"), [(1, "a"), (2, "b")] * 9)
    test = write(tmp_path / "b.csv", ("x", "label"), [(1, "c")])
    with pytest.raises(ValueError, match="label 'c' of the test rows is none of the 2 of the training rows"):
        ready(TableDataModule(train, test_file=test)).dataset("test")
