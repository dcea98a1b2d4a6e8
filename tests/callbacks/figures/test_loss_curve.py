"""The curves in a metrics.csv, and the sentence that their ends make."""

import math

import pytest
from matplotlib.figure import Figure

from callbacks.figures.loss_curve import conclusion, draw, loss_curves


def written(path, header, *rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_an_epoch_has_the_mean_of_its_batches_and_its_validation_loss(tmp_path):
    rows = ("0,0,4.0,", "0,1,2.0,", "0,1,,3.5", ",2,,", "1,2,1.0,", "1,3,,2.5")
    curves = loss_curves(written(tmp_path / "metrics.csv", "epoch,step,train/loss,val/loss", *rows))
    assert curves == {"training": {1: 3.0, 2: 1.0}, "validation": {1: 3.5, 2: 2.5}}


def test_where_nothing_was_logged_there_is_no_curve(tmp_path):
    assert loss_curves(tmp_path / "metrics.csv") == {}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("train_loss_step,train_loss_epoch,val_loss", {"training": {1: 2.0}, "validation": {1: 3.0}}),
        ("train/objective,train/loss,val/objective", {"training": {1: 2.0}}),
        ("train/kl_loss,train/reconstruction_loss,valid_loss", {"validation": {1: 3.0}}),
        ("a,b,c", {}),
    ],
)
def test_names_of_metrics_are_those_of_any_module_and_what_has_several_losses_has_no_curve(tmp_path, columns, expected):
    assert loss_curves(written(tmp_path / "metrics.csv", f"epoch,{columns}", "0,1.0,2.0,3.0")) == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 0.5, 0.3, 0.4, 0.6], "Validation loss rises again after epoch 6"),
        ([1.0, 0.8, 0.6, 0.4, 0.2], "Validation loss is still falling after 10 epochs"),
        ([1.0, 0.5, 0.31, 0.3, 0.302], "Validation loss has settled at 0.302"),
        ([0.3, 0.5], "Validation loss rises again after epoch 2"),
        ([1.0, 0.6, 0.52, 0.4, 0.56, 0.5, 0.54, 0.46], "Validation loss has settled at 0.5"),  # by noise alone
        (
            [*(1 / n for n in range(1, 21)), *[0.051] * 3],
            "Validation loss has settled at 0.0511",
        ),  # lowest before its end
        ([0.25], "Validation loss after epoch 2: 0.25"),
    ],
)
def test_the_title_says_how_the_curve_ends(losses, expected):
    assert conclusion("validation", losses, range(2, 2 * len(losses) + 1, 2)) == expected


def test_the_lowest_loss_of_the_validation_is_marked_whatever_is_no_number():
    figure = Figure(layout="constrained")
    draw({"training": {1: 3.0, 2: math.inf}, "validation": {1: 0.5, 2: 0.25, 3: math.nan}}, figure)
    (ax,) = figure.axes
    lowest = next(line for line in ax.lines if line.get_marker() == "D")
    assert lowest.get_xydata().tolist() == [[2.0, 0.25]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        *("training, mean of logged batches", "validation", "lowest: 0.25 after epoch 2")
    ]
