"""The digits: split like any table, and scaled by one number for all pixels."""

import torch
from sklearn.datasets import load_digits

from datamodules import DigitsDataModule
from tests.tools.ready import ready


def test_pixels_are_from_0_to_1_and_in_the_order_of_their_picture():
    data = ready(DigitsDataModule())
    raw = torch.cat([data.points(split)[0] for split in ("train", "val", "test")])
    expected = torch.from_numpy(load_digits().images).float().flatten(1)
    assert sorted(raw.tolist()) == sorted(expected.tolist())
    assert data.image_shape == load_digits().images.shape[1:]
    torch.testing.assert_close(data.transform(raw), raw / 16)


def test_every_split_has_all_ten_digits():
    data = ready(DigitsDataModule(seed=3))
    for split, rows in (("train", 1079), ("val", 359), ("test", 359)):
        counts = data.points(split)[1].bincount(minlength=10)
        assert counts.sum() == rows
        assert counts.max() - counts.min() <= rows // 100 + 1
