"""Pictures are the same for every user, and cost no training."""

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

pytest.importorskip("datamodules.table.iris", reason="deleted with its task")
FIT = ("fit", "--config", "configs/iris_binary.yaml", "--trainer.max_epochs", 1, "--figures.enabled", "true")
FIT += ("--trainer.enable_progress_bar", "false")
STYLE = {"text.usetex": True, "axes.facecolor": "black", "font.size": 30, "figure.dpi": 300, "savefig.bbox": "tight"}


@pytest.fixture(scope="module")
def usual(cli, tmp_path_factory):
    run = tmp_path_factory.mktemp("usual")
    cli(*FIT, "--trainer.default_root_dir", run)
    return run


def pictures(run):
    return {path.name: path.read_bytes() for path in (run / "figures").iterdir()}


def test_a_style_of_ones_own_changes_no_picture(cli, usual, tmp_path):
    with matplotlib.rc_context(STYLE):
        cli(*FIT, "--trainer.default_root_dir", tmp_path)
        assert matplotlib.rcParams["font.size"] == 30
    assert {"boundary_epoch_00001.png", "boundary_best.png", "loss_surface.png", "val_confusion.png"} <= {
        *pictures(usual)
    }
    assert pictures(tmp_path) == pictures(usual)


def test_a_picture_that_fails_costs_a_line_and_not_the_training(cli, usual, monkeypatch, capsys, tmp_path):
    def fail(canvas):
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr(FigureCanvasAgg, "draw", fail)
    cli(*FIT, "--trainer.default_root_dir", tmp_path)
    printed = capsys.readouterr().out.splitlines()
    names = {*pictures(usual)} - {"boundary.gif"}
    assert {line for line in printed if "left out" in line} == {
        f"left out {n}: RuntimeError: no font at all" for n in names
    }
    assert f"run directory: {tmp_path}" in printed
    cli("test", *FIT[1:], "--ckpt_path", tmp_path / "checkpoints/best.ckpt")
    assert (tmp_path / "test_metrics.json").is_file()
    assert not list(tmp_path.glob("**/*.png"))


def test_one_picture_that_fails_leaves_the_others(cli, usual, monkeypatch, capsys, tmp_path):
    def fail(*arguments, **options):
        raise ValueError("no such colour")

    monkeypatch.setattr("sklearn.metrics.ConfusionMatrixDisplay.plot", fail)
    cli(*FIT, "--trainer.default_root_dir", tmp_path)
    assert "left out val_confusion.png: ValueError: no such colour" in capsys.readouterr().out.splitlines()
    assert {*pictures(usual)} - {*pictures(tmp_path)} == {"val_confusion.png"}
