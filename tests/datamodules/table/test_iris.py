"""Iris: what is split, how it is scaled, what a checkpoint keeps."""

import math

import numpy as np
import pytest
import torch
from sklearn import datasets as sklearn_datasets

from datamodules import IrisDataModule
from datamodules.sampler import BatchIndices
from datamodules.table.iris import CLASSES, FEATURES
from tests.tools.ready import ready

SPLITS = ("train", "val", "test")
PAIR = ("versicolor", "virginica")


def counts(data, split):
    return torch.bincount(data.points(split)[1], minlength=data.num_classes).tolist()


def all_indices(count):
    return BatchIndices(torch.arange(count), epoch=0)


def flowers(data):
    """The rows of each split, in an order of their own."""
    return [sorted(map(tuple, data.points(split)[0].tolist())) for split in SPLITS]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [30, 10, 10]),
        ({"val_fraction": 0.1, "test_fraction": 0.3}, [30, 5, 15]),
        ({"val_fraction": 0.3, "test_fraction": 0.1}, [30, 15, 5]),
    ],
)
def test_splits_are_stratified_and_fractions_are_shares_of_all_rows(options, expected):
    data = ready(IrisDataModule(**options))
    assert [counts(data, split) for split in SPLITS] == [[count] * 3 for count in expected]


def test_split_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = flowers(ready(IrisDataModule(seed=7)))
    torch.manual_seed(2)
    assert flowers(ready(IrisDataModule(seed=7))) == first
    assert flowers(ready(IrisDataModule(seed=8))) != first


def test_chosen_classes_and_features_are_those_of_scikit_learn_in_the_order_asked_for():
    data = ready(IrisDataModule(classes=("virginica", "setosa"), features=("petal width", "sepal length (cm)")))
    iris = sklearn_datasets.load_iris()
    assert tuple(iris.target_names) == CLASSES
    assert tuple(name.removesuffix(" (cm)") for name in iris.feature_names) == FEATURES
    assert data.class_names == ["virginica", "setosa"]
    assert data.feature_names == ["petal width (cm)", "sepal length (cm)"]
    for label, species in enumerate((2, 0)):
        ours = np.concatenate([x[y == label].numpy() for x, y in map(data.points, SPLITS)])
        theirs = iris.data[iris.target == species][:, [3, 0]].astype(np.float32)
        assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_model_facts_are_known_before_training():
    data = ready(IrisDataModule(classes=PAIR, features=("petal length", "petal width")))
    assert (data.num_features, data.num_classes, data.class_counts) == (2, 2, [30, 30])


# Scaling


def test_scaling_is_fitted_on_the_training_rows_alone(monkeypatch):
    plain = ready(IrisDataModule())
    plain.dataset("train")
    seen = {tuple(row) for row in plain.points("train")[0].tolist()}
    whole = sklearn_datasets.load_iris()
    for index, row in enumerate(torch.from_numpy(whole.data).float().tolist()):
        if tuple(row) not in seen:
            whole.data[index] *= 100  # held-out rows become outliers
    monkeypatch.setattr(sklearn_datasets, "load_iris", lambda: whole)
    wild = ready(IrisDataModule())
    assert wild.points("test")[0].max() > 100
    torch.testing.assert_close(wild.mean, plain.mean)
    torch.testing.assert_close(wild.scale, plain.scale)


@pytest.mark.parametrize(("split", "rows"), [("train", 90), ("test", 30)])
def test_rows_are_scaled_by_mean_and_deviation_of_the_training_rows(split, rows):
    data = ready(IrisDataModule())
    train = data.points("train")[0]
    expected = (data.points(split)[0] - train.mean(dim=0)) / train.std(dim=0, correction=0)
    torch.testing.assert_close(data.dataset(split).gather(all_indices(rows)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"features": ("petal width", "petal length")}, "feature_names"), ({"classes": PAIR[::-1]}, "class_names")],
)
def test_state_of_other_features_or_classes_is_refused(options, key):
    pair = {"classes": PAIR, "features": ("petal length", "petal width")}
    state = ready(IrisDataModule(**pair)).state_dict()
    with pytest.raises(ValueError, match=f"the checkpoint was trained on {key} .*use the run's own config.yaml"):
        ready(IrisDataModule(**(pair | options))).load_state_dict(state)


# Imbalance


def test_imbalance_leaves_out_rows_of_the_named_class_alone():
    data = ready(IrisDataModule(classes=PAIR, imbalance={"virginica": 0.3}))
    assert [counts(data, split) for split in SPLITS] == [[30, 9], [10, 3], [10, 3]]
    assert data.class_counts == [30, 9]
    assert data.train_weights() is None  # each row once an epoch


def test_flowers_that_imbalance_keeps_are_drawn_by_the_seed():
    def kept(seed):
        data = ready(IrisDataModule(imbalance={"setosa": 0.2}, seed=seed))
        return {tuple(row) for x, y in map(data.points, SPLITS) for row in x[y == 0].tolist()}

    assert kept(1) == kept(1)
    assert kept(1) != kept(2)


def test_weighted_sampler_draws_all_classes_equally_often():
    data = ready(IrisDataModule(classes=PAIR, imbalance={"virginica": 0.3}, weighted_sampler=True))
    loader = data.train_dataloader()
    drawn = torch.zeros(2)
    for epoch in range(60):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            drawn += torch.bincount(batch.target, minlength=2)
    assert drawn.sum() == 60 * 39
    assert float(drawn[1] / drawn.sum()) == pytest.approx(0.5, abs=0.04)
    rare = {row for batch in loader for row in batch.indices[batch.target == 1].tolist()}
    assert len(rare) > 3


# Predicting


def test_rows_to_predict_are_the_test_rows_unless_points_are_given():
    data = ready(IrisDataModule(features=("petal length", "petal width")))
    assert len(data.dataset("predict")) == 30
    given = ready(IrisDataModule(features=("petal length", "petal width"), predict_inputs=[[4.9, 1.7], [1.4, 0.2]]))
    dataset = given.dataset("predict")
    torch.testing.assert_close(dataset.gather(all_indices(2)), given.transform(torch.tensor([[4.9, 1.7], [1.4, 0.2]])))
    assert dataset.target.tolist() == [-1, -1]


def test_a_report_describes_rows_in_raw_units_by_feature_name():
    data = ready(IrisDataModule(features=("petal length", "petal width"), predict_inputs=[[4.9, 1.7]]))
    assert data.describe([0], "predict") == [{"petal length (cm)": 4.9, "petal width (cm)": 1.7}]
    first = data.points("test")[0][0].tolist()
    assert list(data.describe([0], "test")[0].values()) == pytest.approx(first, abs=1e-4)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("setosa", "tulip")}, "setosa, versicolor, virginica; got setosa, tulip"),
        ({"classes": ("setosa",)}, "at least 2 different names .* got setosa"),
        ({"classes": ("setosa", "setosa")}, "different names .* got setosa, setosa"),
        ({"features": ("petal length", "petal colour")}, "petal width; got petal length, petal colour"),
        ({"features": ()}, "features: expected at least 1 .* got none"),
        ({"features": ("petal length", "petal length (cm)")}, "different names .* got petal length, petal length"),
        ({"imbalance": {"tulip": 0.5}}, "imbalance: expected .*got tulip"),
        ({"imbalance": {"setosa": 0.0}}, "shares above 0 and up to 1, got {'setosa': 0.0}"),
        ({"imbalance": {"setosa": 1.5}}, "shares above 0 and up to 1"),
        ({"imbalance": {"setosa": math.nan}}, "shares above 0 and up to 1"),
        ({"val_fraction": 0.0}, "must be above 0 .* got 0.0 and 0.2"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave rows to train on, got 0.6 and 0.4"),
        ({"test_fraction": math.nan}, "got 0.2 and nan"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ready(IrisDataModule(**options))


@pytest.mark.parametrize("options", [{"imbalance": {"setosa": 0.02}}, {"val_fraction": 0.001}])
def test_a_class_with_too_few_rows_to_split_is_refused_by_name(options):
    with pytest.raises(ValueError, match=r"class 'setosa' keeps .* rows?, too few for every split; raise its share"):
        ready(IrisDataModule(**options)).points("train")


@pytest.mark.parametrize("share", [0.1, 0.12, 0.15, 0.2, 0.5])
@pytest.mark.parametrize(("val", "test"), [(0.2, 0.2), (0.25, 0.2), (0.5, 0.3), (0.3, 0.5)])
def test_options_that_are_not_refused_give_every_class_in_every_split(share, val, test):
    data = ready(IrisDataModule(imbalance={"setosa": share}, val_fraction=val, test_fraction=test))
    try:
        data.points("train")
    except ValueError as error:
        assert "class 'setosa' keeps" in str(error)
        return
    assert all(min(counts(data, split)) >= 1 for split in SPLITS)
