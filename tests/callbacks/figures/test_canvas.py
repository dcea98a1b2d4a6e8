"""Pictures look alike whatever the user's matplotlibrc says, and one that fails costs a line."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from callbacks.figures.canvas import paint


def line(figure):
    figure.add_subplot().set(title="$1 a $", xlabel="天气", ylabel="y")


@pytest.mark.parametrize(
    "own", [{"text.usetex": True}, {"font.family": "no such font"}, {"figure.autolayout": True, "axes.facecolor": "k"}]
)
def test_the_users_options_do_not_matter_and_are_left_alone(tmp_path, own):
    expected, precious = paint(tmp_path / "expected.png", line), tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "own.png").symlink_to(precious)
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        assert np.array_equal(paint(tmp_path / "own.png", line), expected)
        assert dict(matplotlib.rcParams) == before
    with Image.open(tmp_path / "own.png") as image:
        assert np.array_equal(np.asarray(image), expected)
    assert precious.read_text() == "keep"  # a link is replaced, not followed


def test_a_picture_that_fails_costs_one_line(tmp_path, capsys):
    def fail(figure):
        raise RuntimeError("Failed to process string with tex\nmore")

    assert paint(tmp_path / "a.png", fail) is None
    assert capsys.readouterr().out == "left out a.png: RuntimeError: Failed to process string with tex more\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_no_failure(tmp_path):
    def stop(figure):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path / "a.png", stop)
