"""A configuration as a scikit-learn estimator: fits what train.py fits, and leaves no trace."""

import gc
import logging
import os
import pickle
import random
import signal
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from deploy.classifier import Classifier
from selection import LightningClassifier
from selection.configured import Configured
from tests.selection.helpers import config_file

SENTENCES = [f"{verb} {noun}" for verb in ("will it", "is there") for noun in ("rain", "snow", "hail", "wind")]
SENTENCES += [f"{verb} {noun}" for verb in ("play", "start") for noun in ("jazz", "songs", "music", "a tune")]
LABELS = ["weather"] * 8 + ["music"] * 8
ROWS, SPECIES = load_iris(return_X_y=True)


@pytest.fixture
def estimator():
    """`estimator("iris_ova", **{"model.l2": 0})` is one of that config, of few epochs."""

    def make(config, **options):
        random_state = options.pop("random_state", None)
        few = {"trainer.max_epochs": 5, **options}
        return LightningClassifier(config_file(config), random_state=random_state, **few)

    return make


@pytest.mark.parametrize(
    ("config", "class_name"),
    [("iris_binary", "IrisDataModule"), ("iris_ova", "IrisDataModule"), ("text_csv", "TextDataModule")],
)
def test_weights_are_those_of_train_py_on_the_same_rows(cli, estimator, tmp_path, config, class_name):
    fitted = estimator(config)
    options = ("--trainer.max_epochs", 5, "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false")
    cli("fit", "--config", f"configs/{config}.yaml", *options, "--trainer.default_root_dir", tmp_path / "run")
    data = Configured(["--config", f"configs/{config}.yaml"]).build()[1]
    x, y = data.load_splits()["train"]
    x, y = (x.numpy(), [data.class_names[k] for k in y]) if isinstance(x, torch.Tensor) else (x, y)
    fitted.fit(x, y)
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint[class_name]["class_names"] == fitted.classifier_.class_names
    state = fitted.classifier_.model.state_dict()
    for name, weight in checkpoint["state_dict"].items():
        if name.rpartition(".")[2] != "_extra_state":
            assert torch.equal(state[name], weight.to(state[name].dtype)), name


def test_a_fit_changes_nothing_and_prints_nothing(estimator, tmp_path, monkeypatch, capfd):
    changed = estimator("text_csv", **{"trainer.max_epochs": 1})
    changed.set_params(config=str(Path(changed.config).resolve()))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)

    def state():
        return {
            "numpy": repr(np.random.get_state()),
            "python": random.getstate(),
            "torch": torch.get_rng_state().tolist(),
            "environ": dict(os.environ),
            "threads": (torch.get_num_threads(), threading.active_count()),
            "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            "filters": list(warnings.filters),
            "levels": {name: logging.getLogger(name).level for name in ("", "lightning", "lightning.pytorch")},
            "folder": (Path.cwd(), list(tmp_path.iterdir())),
            "grad": torch.is_grad_enabled(),
        }

    try:
        changed.fit(SENTENCES, LABELS)
        before = state()
        for _ in range(2):
            changed.fit(SENTENCES, LABELS).predict(SENTENCES)
        assert state() == before
    finally:
        torch.set_num_threads(1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["texts", "array", "sparse"])
def test_no_row_is_kept_by_the_fitted_object_its_pickle_and_the_caches(estimator, kind):
    class Text(str):  # which unlike str can be referred to weakly
        pass

    config = {"texts": "text_csv", "array": "iris_ova", "sparse": "iris_ova"}[kind]
    if kind == "texts":
        x = [Text(f"{text} of number{n}") for n, text in enumerate(SENTENCES)]
        kept, content, y = [weakref.ref(text) for text in x], x[3].encode(), LABELS
    else:
        x, y = ROWS.astype(np.float32) + np.float32(0.123), SPECIES
        x = csr_matrix(x) if kind == "sparse" else x
        kept, content = [weakref.ref(x)], (x.data if kind == "sparse" else x)[:2].tobytes()
    fitted = estimator(config).fit(x, y)
    assert content not in pickle.dumps(fitted)
    del x
    gc.collect()
    assert [ref() for ref in kept if ref() is not None] == []
    assert pickle.loads(pickle.dumps(fitted)).predict_proba(SENTENCES if kind == "texts" else ROWS).shape[0] > 1


def test_fits_in_threads_are_those_of_one_after_the_other(estimator):
    def fitted(seed):
        one = estimator("text_csv", random_state=seed).fit(SENTENCES, LABELS)
        return one.predict_proba(["will it rain", "play it"]).tolist()

    serial = [fitted(seed) for seed in range(8)]
    assert serial[0] != serial[1]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(fitted, range(8))) == serial


def test_the_random_state_is_the_seed_of_the_fit(estimator):
    found = [
        estimator("text_csv", random_state=seed).fit(SENTENCES, LABELS).predict_proba(["rain"]).tolist()
        for seed in (None, 42, 3, np.random.RandomState(0), np.random.RandomState(0))
    ]
    assert found[0] == found[1] != found[2]  # 42 is configured
    assert found[3] == found[4] != found[0]


def test_any_option_of_the_command_line_is_a_parameter(estimator):
    one = estimator("iris_ova", **{"model.l2": 1e-3})
    assert one.get_params() == {
        "config": "configs/iris_ova.yaml",
        "random_state": None,
        "trainer.max_epochs": 5,
        "model.l2": 1e-3,
    }
    assert one.set_params(**{"model.optimizer": "torch.optim.Adam", "data.batch_size": np.int64(50)}) is one
    again = clone(one)
    assert again is not one and again.get_params() == one.get_params()
    model = again.fit(ROWS, SPECIES).classifier_.model
    assert model.l2 == 1e-3
    assert "model.optimizer='torch.optim.Adam'" in repr(again)
    with pytest.raises(ValueError, match="Invalid parameter 'l2' for estimator"):
        one.set_params(l2=1)
    with pytest.raises(ValueError, match=r"configs/iris_ova.yaml: .*l3"):
        one.set_params(**{"model.l3": 1}).fit(ROWS, SPECIES)


def test_a_changed_file_is_another_config(estimator, tmp_path):
    file = tmp_path / "mine.yaml"
    text = Path(estimator("iris_ova").config).read_text()
    found = []
    for l2 in ("0.0001", "0.01"):
        file.write_text(text.replace("l2: 0.0001", f"l2: {l2}"))
        os.utime(file, ns=(0, int(1e9 * float(l2) * 1e4)))
        found.append(LightningClassifier(file, **{"trainer.max_epochs": 1}).fit(ROWS, SPECIES).classifier_.model.l2)
    assert found == [0.0001, 0.01]


def test_a_grid_search_finds_the_better_option(estimator):
    x, y = make_blobs(60, centers=3, random_state=0)
    search = GridSearchCV(estimator("iris_ova"), {"model.l2": [1e-4, 0.5]}, cv=2).fit(x, y)
    assert search.best_params_ == {"model.l2": 1e-4}
    assert search.best_estimator_.score(x, y) > 0.8


@pytest.mark.parametrize("labels", [np.array(["a", "b", "c"]), np.array([7, -1, 10]), np.array([0.0, 2.0, 1.0])])
def test_labels_of_any_kind_come_back(estimator, labels):
    y = labels[SPECIES]
    fitted = estimator("iris_ova", **{"trainer.max_epochs": 20}).fit(ROWS, y)
    assert fitted.classes_.tolist() == sorted(labels.tolist())
    assert fitted.classes_.dtype == labels.dtype
    assert fitted.score(ROWS, y) > 0.9
    proba, scores = fitted.predict_proba(ROWS), fitted.decision_function(ROWS)
    assert (proba.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert (fitted.classes_[proba.argmax(axis=1)] == fitted.predict(ROWS)).all()


def test_two_classes_have_the_log_odds_of_the_second(estimator):
    fitted = estimator("iris_binary").fit(ROWS[50:], np.array(["virginica", "versicolor"])[SPECIES[50:] - 1])
    proba = fitted.predict_proba(ROWS[50:])
    odds = np.log(proba[:, 1] / proba[:, 0])
    np.testing.assert_allclose(fitted.decision_function(ROWS[50:]), odds)
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        estimator("iris_binary").fit(ROWS, SPECIES)


@pytest.mark.parametrize("form", [list, np.array, lambda texts: np.array(texts, dtype=object), "series"])
def test_sentences_come_as_list_array_or_column(estimator, form):
    form = pytest.importorskip("pandas").Series if form == "series" else form
    fitted = estimator("text_csv").fit(form(SENTENCES), form(LABELS))
    assert fitted.score(form(SENTENCES), LABELS) == 1
    assert not hasattr(fitted, "n_features_in_")
    assert fitted.classifier_.predict(["play jazz"]) == ["music"]


def test_a_data_frame_has_names_and_other_columns_are_refused(estimator):
    pytest.importorskip("pandas")
    frame = load_iris(as_frame=True).data
    fitted = estimator("iris_ova").fit(frame, SPECIES)
    assert fitted.feature_names_in_.tolist() == frame.columns.tolist()
    assert fitted.n_features_in_ == 4
    assert fitted.classifier_.data.feature_names == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame.iloc[:, ::-1])


@pytest.mark.parametrize(
    ("config", "form"),
    [
        *(("text_csv", form) for form in (np.asarray, csr_matrix, csr_array)),
        ("iris_ova", csr_array),
        ("table_csv", csr_array),
    ],
)
def test_numbers_go_into_any_config_dense_or_sparse(estimator, config, form):
    fitted = estimator(config, **{"trainer.max_epochs": 20, "data.batch_size": 16})
    x = form(ROWS - ROWS.mean(axis=0))
    assert fitted.fit(x, SPECIES).score(x, SPECIES) > 0.8
    assert fitted.n_features_in_ == 4


def test_a_network_takes_its_sizes_from_the_options(estimator):
    net = {"model.net": "torch.nn.Linear", "model.net.in_features": 4, "model.net.out_features": 3}
    fitted = estimator("xor_mlp", **{"trainer.max_epochs": 20, "data.batch_size": 16, **net})
    assert fitted.fit(ROWS, SPECIES).score(ROWS, SPECIES) > 0.8


def test_a_prediction_does_not_depend_on_the_rows_beside_it(estimator):
    fitted = estimator("text_csv").fit(SENTENCES, LABELS)
    alone = np.concatenate([fitted.predict_proba([text]) for text in SENTENCES])
    np.testing.assert_allclose(fitted.predict_proba(SENTENCES), alone, rtol=0, atol=1e-12)


def test_an_out_of_scope_label_is_the_configs_where_the_rows_have_it(estimator):
    other = [*SENTENCES, "what is the capital of peru", "tell me a joke", "who are you"]
    options = {"model.threshold": 1.0, "data.oos_label": "other"}
    fitted = estimator("text_csv", **options).fit(other, [*LABELS, "other", "other", "other"])
    assert fitted.classifier_.class_names == ["music", "weather", "other"]
    assert fitted.classes_.tolist() == ["music", "other", "weather"]
    assert set(fitted.predict(other)) == {"other"}  # no in-scope probability reaches 1
    assert fitted.predict_proba(["will it rain"]).argmax() == 2
    assert estimator("text_csv").fit(SENTENCES, LABELS).classes_.tolist() == ["music", "weather"]


@pytest.mark.parametrize("config", ["iris_ova", "text_csv"])
def test_a_run_is_a_fitted_estimator_that_can_be_fitted_again(short_fit, estimator, config):
    estimator(config)
    run = short_fit(config)
    fitted, classifier = LightningClassifier.from_run(run), Classifier.load(run)
    x = SENTENCES if config == "text_csv" else ROWS[:, 2:]
    assert fitted.classes_.tolist() == sorted(classifier.class_names)
    order = [classifier.class_names.index(name) for name in fitted.classes_]
    np.testing.assert_allclose(fitted.predict_proba(x), classifier.predict_proba(x)[:, order], atol=1e-6)
    assert fitted.predict(x).tolist() == classifier.predict(x)
    again = clone(fitted)
    with pytest.raises(NotFittedError):
        again.predict(x)
    again.fit(x, LABELS if config == "text_csv" else SPECIES).predict(x)


def test_bad_rows_are_refused_in_words(estimator, tmp_path):
    text = estimator("text_csv")
    with pytest.raises(ValueError, match="expected a list of sentences, got None as number 1"):
        text.fit(["rain", None], ["a", "b"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        text.fit(SENTENCES, LABELS[1:])
    with pytest.raises(ValueError, match="only one class is present"):
        text.fit(SENTENCES, ["a"] * 16)
    with pytest.raises(FileNotFoundError):
        LightningClassifier(tmp_path / "none.yaml").fit(SENTENCES, LABELS)
    with pytest.raises(ValueError, match="the fit diverged"):
        estimator("iris_ova", **{"model.optimizer.lr": 1e38}).fit(ROWS, SPECIES)


def test_sentences_have_weights_and_those_of_weight_0_are_left_out(estimator):
    balanced = estimator("text_csv", **{"model.class_weight": "balanced"})
    weight = np.where(np.array(LABELS) == "music", 3.0, 1.0)
    plain, weighted = (
        estimator("text_csv").fit(SENTENCES, LABELS, w).predict_proba(["hello"])[0, 0] for w in (None, weight)
    )
    assert weighted > plain + 0.01
    counts = balanced.fit(SENTENCES, LABELS, weight).classifier_.data.class_counts
    assert counts == [12_000_000, 4_000_000]  # in millionths of a row
    less = balanced.fit([*SENTENCES, "none"], [*LABELS, "other"], [*weight, 0])
    assert less.classes_.tolist() == ["music", "weather"]
    with pytest.raises(ValueError, match="at least one non-zero"):
        balanced.fit(SENTENCES, LABELS, np.zeros(16))
