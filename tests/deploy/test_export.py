"""Exported models predict as ours: scikit-learn's, onnxruntime's and torch's numbers beside ours."""

import json
import os
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skops", reason='needs pip install -e ".[export]"')
pytest.importorskip("onnx", reason='needs pip install -e ".[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[dev]"')

import onnx
import onnxruntime
from skops import io

from callbacks.protocols import offers
from deploy.classifier import Classifier
from deploy.onnx import to_onnx
from deploy.sklearn import to_sklearn
from deploy.torch import to_torch
from logreg.net_classifier import MLP
from tests.tools.ready import ready

ROOT = Path(__file__).parents[2]
SENTENCES = ["will it snow on friday", "Play the SONG, louder", "", "zzz qqq", "it's ÉCOLE naïve x_1", "日本語 ½ a"]
CLINC150 = [
    pytest.mark.slow,
    pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="needs the CLINC150 files: set CLINC150_DIR"),
]


@pytest.fixture(scope="session")
def of_words(cli, tmp_path_factory):
    """A short fit of text_csv on n-grams of words alone, as ONNX takes them."""
    run = tmp_path_factory.mktemp("words")
    options = ("--data.preset", "words", "--data.oos_label", "other", "--trainer.max_epochs", 3, "--refit", "false")
    cli("fit", "--config", "configs/text_csv.yaml", *options, "--trainer.default_root_dir", run)
    return run


@pytest.fixture
def load(short_fit, of_words):
    return lambda config, **options: Classifier.load(of_words if config == "text_csv" else short_fit(config), **options)


def rows_of(classifier):
    """All test rows: of tables (N, F), or sentences, with some that are no easy ones."""
    classifier.data.setup("test")
    if offers(classifier.data, "points"):
        return classifier.data.points("test")[0].numpy()
    indices = range(len(classifier.data.dataset("test")))
    return [*(row["text"] for row in classifier.data.describe(indices, "test")), *SENTENCES]


# scikit-learn


@pytest.mark.parametrize(
    "config", ["iris_binary", "iris_ova", "text_csv", pytest.param("clinc150_best", marks=CLINC150)]
)
def test_scikit_learns_pipeline_answers_as_the_model_does(load, tmp_path, config):
    options = {} if config.startswith("iris") else {"threshold": "none"}
    classifier = load(config, **options)
    rows = rows_of(classifier)
    to_sklearn(classifier, tmp_path / "model.skops")
    pipeline = io.load(tmp_path / "model.skops", trusted=[])  # nothing in it that skops does not know
    columns = [classifier.class_names.index(name) for name in pipeline.classes_]
    np.testing.assert_allclose(pipeline.predict_proba(rows), classifier.predict_proba(rows)[:, columns], atol=2e-6)
    assert pipeline.predict(rows).tolist() == classifier.predict(rows)


def table_classifier(file, categorical):
    """Weights drawn at random, for a CSV file."""
    tables, softmax = pytest.importorskip("datamodules.table.files"), pytest.importorskip("logreg.softmax")
    data = ready(
        tables.TableDataModule(str(file), val_fraction=0.1, test_fraction=0.1, categorical_columns=categorical)
    )
    model = softmax.SoftmaxRegression(data.num_features, data.num_classes)
    torch.nn.init.normal_(model.W.weight, generator=torch.Generator().manual_seed(0))
    return Classifier(model, data)


HOLES = {"age": [31, "", 50.5], "plan": ["pro ", "it's", "pro", 'say "a"'], "town": ["Oslo", "", "Bern"]}
CELLS = HOLES | {
    "flag": [True, False],
    "late": [True, False, ""],
    "level": [1, 2, 3],
    "grade": [1, 2, "", 3],
    "share": ["0.50", "1.25"],
    "mixed": ["2", "2.50", "x", "007", "+3", "+47 1", "True", "TRUE"],
    "day": ["2024-05-01T00:00:00", "2024-05-02"],
    "time": ["2024-05-01T10:00", "2024-05-02T11:30"],
}


@pytest.mark.parametrize("cells", [HOLES, CELLS, {"flag": [True, False]}], ids=["holes", "all", "booleans"])
def test_scikit_learns_pipeline_answers_a_data_frame_as_the_model_does(tmp_path, cells):
    pandas = pytest.importorskip("pandas")
    columns = [
        pandas.Series([values[n % len(values)] for n in range(120)], name=name) for name, values in cells.items()
    ]
    frame = pandas.concat([*columns, pandas.Series(["yes", "no", "may"] * 40, name="label")], axis=1)
    frame.to_csv(tmp_path / "a.csv", index=False)
    classifier = table_classifier(tmp_path / "a.csv", [name for name in ("level", "grade", "share") if name in cells])
    to_sklearn(classifier, tmp_path / "model.skops")
    pipeline = io.load(tmp_path / "model.skops", trusted=[])
    read = pandas.read_csv(tmp_path / "a.csv")[[*reversed(cells), "label"]]
    for given in (read, read.convert_dtypes(), read.astype({"day": "datetime64[ns]"} if "day" in cells else {})):
        np.testing.assert_allclose(pipeline.predict_proba(given), classifier.predict_proba(given), atol=2e-6)
    array = read[[*cells]].to_numpy(dtype=object)
    np.testing.assert_allclose(pipeline.predict_proba(array), classifier.predict_proba(array), atol=2e-6)


def test_what_scikit_learn_cannot_answer_is_refused_in_one_line(load, tmp_path):
    for classifier, message in (
        (load("text_csv"), r'no out-of-scope threshold, the model has 0\.\d+: leave it out with .*threshold="none"'),
        (load("xor_interaction"), r"StandardScaler makes no derived columns, XORDataModule has 1$"),
        (load("xor_mlp", net=MLP(2, 2)), r"expected a linear model, NetClassifier is none$"),
    ):
        with pytest.raises(ValueError, match=message):
            to_sklearn(classifier, tmp_path / "model.skops")
    assert not list(tmp_path.iterdir())


# ONNX


def onnx_predictions(path, rows):
    """Labels and probabilities, by batches of several sizes."""
    session = onnxruntime.InferenceSession(path)
    (source,) = session.get_inputs()
    rows = np.array(rows, dtype=object if source.name == "text" else np.float32)
    cuts = [0, 1, 2, *range(9, len(rows), 500), len(rows)]
    pieces = [session.run(["label", "probabilities"], {source.name: rows[a:b]}) for a, b in pairwise(cuts)]
    return [label for labels, _ in pieces for label in labels], np.concatenate([proba for _, proba in pieces])


@pytest.mark.parametrize(
    "config", ["iris_binary", "iris_ova", "iris_imbalanced", "text_csv", pytest.param("clinc150", marks=CLINC150)]
)
def test_onnx_answers_as_the_model_does_its_threshold_included(load, tmp_path, config):
    classifier = load(config)
    rows = rows_of(classifier)
    to_onnx(classifier, tmp_path / "model.onnx")
    labels, proba = onnx_predictions(tmp_path / "model.onnx", rows)
    np.testing.assert_allclose(proba, classifier.predict_proba(rows), atol=2e-6)
    assert labels == classifier.predict(rows)
    assert len(set(labels)) > 1


def text_classifier(**ngrams):
    """Weights drawn at random, for any n-grams."""
    text, softmax = pytest.importorskip("datamodules.text.sentences"), pytest.importorskip("logreg.softmax")
    features = pytest.importorskip("datamodules.text.features")
    options = {name: features.Ngrams(**options) for name, options in ngrams.items()}
    data = ready(text.TextDataModule(str(ROOT / "tests/data/sentences.csv"), **options))
    model = softmax.SoftmaxRegression(data.num_features, data.num_classes)
    torch.nn.init.normal_(model.W.weight, generator=torch.Generator().manual_seed(0))
    return Classifier(model, data)


@pytest.mark.parametrize(
    "options",
    [
        {"ngram_range": (1, 3), "sublinear_tf": True, "token_pattern": r"(?u)\b\w+\b"},
        {"ngram_range": (2, 2), "binary": True, "norm": "l1"},
        {"use_idf": False, "norm": None, "lowercase": False},
    ],
)
def test_onnx_splits_and_weighs_words_as_scikit_learn_does(tmp_path, options):
    classifier = text_classifier(words=options)
    to_onnx(classifier, tmp_path / "model.onnx")
    labels, proba = onnx_predictions(tmp_path / "model.onnx", rows_of(classifier))
    np.testing.assert_allclose(proba, classifier.predict_proba(rows_of(classifier)), atol=2e-6)
    assert labels == classifier.predict(rows_of(classifier))


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        (
            {"words": {}, "chars": {"analyzer": "char"}},
            "expected n-grams of words alone .* got a FeatureUnion: train with --data.preset words$",
        ),
        ({"words": {"analyzer": "char_wb"}}, "analyzer"),
        ({"words": {"stop_words": "english"}}, "stop_words"),
        ({"words": {"strip_accents": "unicode"}}, "strip_accents"),
        ({"words": {"token_pattern": "[a-z]+"}}, "token_pattern"),
    ],
)
def test_what_onnx_cannot_split_is_refused_in_one_line(tmp_path, ngrams, message):
    with pytest.raises(ValueError, match=message) as caught:
        to_onnx(text_classifier(**ngrams), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_onnx_model_names_its_opsets(load, tmp_path):
    to_onnx(load("iris_ova"), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert {(domain.domain, domain.version) for domain in model.opset_import} == {("", 17), ("com.microsoft", 1)}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


# torch.export


@pytest.mark.filterwarnings("ignore:.*get_attr:UserWarning")  # torch 2.6 about the constants that it exported itself
@pytest.mark.parametrize("config", ["iris_binary", "iris_ova", "xor_interaction", "xor_mlp", "text_csv"])
def test_a_torch_program_answers_as_the_model_does(load, tmp_path, config):
    classifier = load(config, **({"net": MLP(2, 2)} if config == "xor_mlp" else {}))
    rows = rows_of(classifier)
    to_torch(classifier, tmp_path / "model.pt2")
    files = {"class_names.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    x = classifier.data.encode(rows).to_dense() if config == "text_csv" else torch.from_numpy(rows)
    for size in (1, 2, len(rows)):
        proba, number = program(x[:size])
        np.testing.assert_allclose(proba.detach(), classifier.predict_proba(rows[:size]), atol=2e-6)
        names = json.loads(files["class_names.json"])
        assert [names[label] for label in number] == classifier.predict(rows[:size])


# Temperature and missing packages


class Calibration(torch.nn.Module):
    """What logreg's models have as `calibration`: log-probabilities to probabilities at a temperature."""

    temperature = 2.5


@pytest.mark.parametrize("config", ["iris_binary", "iris_ova", "text_csv"])
def test_a_temperature_divides_the_log_probabilities(load, tmp_path, config):
    classifier = load(config, **({"threshold": "none"} if config == "text_csv" else {}))
    rows = rows_of(classifier)
    classifier.model.calibration.temperature = 1.0  # whatever the configuration has fitted
    expected = classifier.predict_proba(rows).astype(float) ** (1 / 2.5)
    expected /= expected.sum(axis=1, keepdims=True)
    classifier.model.calibration = Calibration()
    to_onnx(classifier, tmp_path / "model.onnx")
    np.testing.assert_allclose(onnx_predictions(tmp_path / "model.onnx", rows)[1], expected, atol=1e-5)
    if config == "iris_ova":
        with pytest.raises(ValueError, match=r"OneVsRestClassifier has no temperature, the model has 2\.5$"):
            to_sklearn(classifier, tmp_path / "model.skops")
    else:
        pipeline = to_sklearn(classifier, tmp_path / "model.skops")
        np.testing.assert_allclose(pipeline.predict_proba(rows), expected, atol=1e-5)


@pytest.mark.parametrize(("module", "package"), [("deploy.sklearn", "skops"), ("deploy.onnx", "onnx")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, module, package):
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf"{package}.*: pip install -e '\.\[export\]'$"):
        import_module(module)
