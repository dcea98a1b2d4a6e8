"""XOR: the four corners, their noise, and the column that separates them."""

import math

import pytest
import torch

from datamodules import XORDataModule
from tests.tools.ready import ready

SPLITS = ("train", "val", "test")


def test_by_default_each_split_is_the_four_corners_whose_two_columns_are_centred_and_scaled():
    data = ready(XORDataModule())
    assert data.num_features == 2
    for split in SPLITS:
        x, target = data.points(split)
        assert x.tolist() == [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        assert target.tolist() == [0, 1, 1, 0]
        assert data.transform(x).tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_rows_per_corner_and_noise_make_clouds_around_the_corners():
    data = ready(XORDataModule(rows_per_corner=500, noise=0.1))
    x, target = data.points("train")
    assert x.shape == (2000, 2)
    assert data.class_counts == [1000, 1000]
    for corner in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]):
        cloud = x[(x - torch.tensor(corner)).norm(dim=1) < 0.5]
        assert len(cloud) == 500
        torch.testing.assert_close(cloud.mean(dim=0), torch.tensor(corner), rtol=0, atol=0.02)
        assert float((cloud - torch.tensor(corner)).square().mean().sqrt()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(target, ((x[:, 0] > 0.5) != (x[:, 1] > 0.5)).long())


def test_noise_depends_on_the_seed_alone_and_differs_between_splits():
    def draw(seed):
        data = ready(XORDataModule(noise=0.2, seed=seed))
        return [data.points(split)[0] for split in SPLITS]

    first = draw(1)
    torch.manual_seed(123)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(1), strict=True))
    assert not torch.equal(first[0], draw(2)[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_interaction_adds_the_product_of_the_centred_coordinates():
    data = ready(XORDataModule(interaction=True))
    assert data.num_features == 3
    corners, target = data.points("train")
    assert corners.shape == (4, 2)  # raw rows, and so the pictures, stay two-dimensional
    x = data.transform(corners)
    assert x.shape == (4, 3)
    assert data.add_features(corners)[:, 2].tolist() == [0.25, -0.25, -0.25, 0.25]
    assert torch.equal((x[:, 2] < 0).long(), target)  # one threshold separates the classes now


def test_state_with_the_interaction_does_not_fit_a_datamodule_without_it():
    state = ready(XORDataModule(interaction=True)).state_dict()
    with pytest.raises(ValueError, match=r"the checkpoint was trained on .*use the run's own config.yaml"):
        ready(XORDataModule()).load_state_dict(state)


def test_given_points_are_two_raw_coordinates_also_with_the_interaction():
    data = ready(XORDataModule(interaction=True, predict_inputs=[[0.0, 1.0]]))
    assert len(data.dataset("predict")) == 1
    assert data.describe([0], "predict") == [{"x1": 0.0, "x2": 1.0}]
    with pytest.raises(ValueError, match=r"expected rows of 2 numbers \(x1, x2\), got \[0.0, 1.0, 0.0\] in row 0"):
        ready(XORDataModule(interaction=True, predict_inputs=[[0.0, 1.0, 0.0]])).dataset("predict")


@pytest.mark.parametrize("options", [{"rows_per_corner": 0}, {"noise": -0.1}, {"noise": math.nan}, {"noise": math.inf}])
def test_no_rows_and_impossible_noise_are_refused(options):
    ((name, value),) = options.items()
    expected = f"rows_per_corner of at least 1 and noise of at least 0, got .*{name}={value}"
    with pytest.raises(ValueError, match=expected):
        XORDataModule(**options)
