"""The grid, the picture and the callback of callbacks/figures/boundary.py, on a one-layer model."""

import io
import random
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import matplotlib
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.figures import boundary as decision_boundary
from callbacks.figures import canvas
from callbacks.figures.boundary import DecisionBoundary, boundary_grid, draw
from callbacks.figures.canvas import COLOURS
from callbacks.run.checkpoints import RelocatableModelCheckpoint
from tests.tools.runs import quiet_trainer


class TinyData(L.LightningDataModule):
    """Two features in unlike units, K classes in a row along the diagonal; `transform` scales."""

    def __init__(self, num_features=2, num_classes=2):
        super().__init__()
        self.feature_names = [f"feature {i} (cm)" for i in range(num_features)]
        self.class_names = [f"class {k}" for k in range(num_classes)]
        generator = torch.Generator().manual_seed(0)
        target = torch.arange(16) % num_classes
        x = target[:, None] + 0.4 * torch.randn(16, num_features, generator=generator)
        x[:, 1] *= 100
        self.splits = {"train": (x[:12], target[:12]), "val": (x[12:], target[12:])}

    def points(self, split):
        return self.splits[split]

    def transform(self, x):
        return x / torch.tensor([1.0, 100.0])

    def train_dataloader(self):
        x, target = self.points("train")
        return DataLoader(TensorDataset(self.transform(x), target), batch_size=6, shuffle=True)

    def val_dataloader(self):
        x, target = self.points("val")
        return DataLoader(TensorDataset(self.transform(x), target), batch_size=4)


class TinyModel(L.LightningModule):
    """Softmax regression behind dropout, so that training uses the random generator and the mode matters."""

    def __init__(self, num_features=2, num_classes=2):
        super().__init__()
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, x):
        return self.linear(self.dropout(x))

    def predict_proba(self, x):
        return self(x).softmax(dim=1)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch[0].to(self.dtype)), batch[1])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0].to(self.dtype)), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


class OneVersusAll(TinyModel):
    def predict_proba_per_class(self, x):
        return self(x).sigmoid()

    def predict_proba(self, x):
        return self.predict_proba_per_class(x) / self.predict_proba_per_class(x).sum(dim=1, keepdim=True)


def fit(run, callback, epochs=1, data=None, model=None, ckpt_path=None, **options):
    callbacks = [c for c in (callback, *options.pop("callbacks", ())) if c is not None]
    options = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "max_epochs": epochs} | options
    model = model or TinyModel()
    quiet_trainer(run, *callbacks, **options).fit(model, datamodule=data or TinyData(), ckpt_path=ckpt_path)
    return model


def epochs_drawn(run):
    return [int(path.stem[-5:]) for path in sorted(Path(run, "figures").glob("*.png"))]


def lines(weight, bias=0.0):
    """A binary model whose border is the line weight · x + bias = 0."""

    def predict(x):
        p = (x.double() @ torch.tensor(weight, dtype=torch.float64) + bias).sigmoid()
        return torch.stack([1 - p, p], dim=1)

    return predict


def picture(predict, x, target, per_class=None, num_classes=2):
    """Draw the rows as the train split on a fresh Axes."""
    ax = Figure(figsize=(7.5, 5), layout="constrained").add_subplot()
    names = ["a (cm)", "b (cm)"], [f"class {k}" for k in range(num_classes)]
    dashed = per_class and boundary_grid(x, per_class, 40)
    draw(ax, boundary_grid(x, predict, 40), {"train": (x, target, predict(x))}, *names, "Epoch 3", dashed)
    return ax


def borders(ax, style="solid"):
    """The vertices (V, 2) of each contour drawn in the given line style."""

    def style_of(contour):
        pattern = contour.get_linestyles()[0][1]
        return "solid" if pattern is None else "dashed" if pattern[0] > pattern[1] else "dotted"

    chosen = [c for c in ax.collections if isinstance(c, ContourSet) and style_of(c) == style]
    return [np.concatenate([path.vertices for path in c.get_paths()]) for c in chosen]


def marks(ax, edge=None):
    """Offsets, faces and edges of all scattered points, or only of those with the given edge colour."""
    scatters = [c for c in ax.collections if not isinstance(c, ContourSet) and len(c.get_offsets())]
    if edge is not None:
        scatters = [c for c in scatters if np.allclose(c.get_edgecolors()[0][:3], to_rgb(edge))]
    return scatters


# The grid


def test_grid_reaches_beyond_every_point_by_the_margin_and_has_width_along_a_feature_that_never_varies():
    grid = boundary_grid(torch.tensor([[0.0, 100.0], [10.0, 300.0]]), lines([1.0, 0.0]), resolution=5, margin=0.1)
    assert grid.x1.tolist() == [-1.0, 2.0, 5.0, 8.0, 11.0]
    assert grid.x2.tolist() == [80.0, 140.0, 200.0, 260.0, 320.0]
    grid = boundary_grid(torch.tensor([[3.0, 0.0], [3.0, 1.0]]), lines([1.0, 1.0]), resolution=3)
    assert grid.x1[0] < 3.0 < grid.x1[-1]


def test_grid_probabilities_are_those_of_the_model_at_each_place():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    predict = lines([1.5, -0.5], bias=0.2)
    grid = boundary_grid(x, predict, resolution=4)
    assert grid.values.shape == (4, 4, 2)
    for row, x2 in enumerate(grid.x2):
        for column, x1 in enumerate(grid.x1):
            direct = predict(torch.stack([x1, x2])[None])[0]
            torch.testing.assert_close(grid.values[row, column], direct)


# The picture


def test_points_stay_in_their_place_and_only_the_misclassified_are_ringed():
    x = torch.tensor([[-2.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
    ax = picture(lines([3.0, 0.0]), x, torch.tensor([0, 1, 1, 1]))
    rings = marks(ax, canvas.INK)
    assert [ring.get_offsets().tolist() for ring in rings] == [[[-1.0, 1.0]]]
    assert ax.get_title() == "Epoch 3: 1 of 4 rows misclassified"
    points = [mark for mark in marks(ax) if mark not in rings]
    assert rings[0].get_sizes() > 2 * points[0].get_sizes().max()
    assert sorted(place for mark in points for place in mark.get_offsets().tolist()) == x.tolist()


def test_uncertain_points_are_hollow_and_confident_ones_filled_in_the_colour_of_their_class():
    x = torch.tensor([[-5.0, 0.0], [0.1, 0.0], [5.0, 1.0]])  # probabilities 0.99, 0.52 and 0.99
    ax = picture(lines([1.0, 0.0]), x, torch.tensor([0, 1, 1]))
    (points,) = marks(ax)
    blue, orange, white = to_rgb(COLOURS[0]), to_rgb(COLOURS[1]), (1.0, 1.0, 1.0)
    np.testing.assert_allclose(points.get_facecolors()[:, :3], [blue, white, orange], atol=1e-6)
    np.testing.assert_allclose(points.get_edgecolors()[:, :3], [white, orange, white], atol=1e-6)


def test_rows_of_two_classes_on_one_spot_are_both_visible():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    ax = picture(lines([1.0, 0.0], bias=5.0), x, torch.tensor([0, 1, 1]))
    points = [mark for mark in marks(ax) if mark not in marks(ax, canvas.INK)]
    (below, size_below), (above, size_above) = [(m.get_facecolors()[0, :3], m.get_sizes()[0]) for m in points]
    np.testing.assert_allclose([below, above], [to_rgb(COLOURS[1]), to_rgb(COLOURS[0])], atol=1e-6)
    assert size_below > 2 * size_above


@pytest.mark.parametrize(
    ("weight", "bias", "tolerance"),
    [([1.0, 2.0], -4.0, 4e-7), ([40.0, 90.0], -165.0, 0.001)],  # the latter's probabilities alone would give 0.008
)
def test_border_is_where_the_probability_is_one_half(weight, bias, tolerance):
    ax = picture(lines(weight, bias), torch.tensor([[0.0, 0.0], [4.0, 2.0]]), torch.tensor([0, 1]))
    (border,) = borders(ax)
    np.testing.assert_allclose((border @ weight + bias) / np.hypot(*weight), 0.0, atol=tolerance)


@pytest.mark.parametrize("classes", [2, 3])
def test_dotted_lines_are_where_a_class_becomes_confident(classes):
    weight = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]).T.double()[:, :classes]

    def predict(rows):
        return (rows.double() @ weight).softmax(dim=1)

    x = torch.tensor([[-4.0, -4.0], [0.0, 4.0], [4.0, -4.0]])
    dotted = borders(picture(predict, x, torch.tensor([0, 1, 0]), num_classes=classes), "dotted")
    assert len(dotted) == classes
    for k, line in enumerate(dotted):
        np.testing.assert_allclose(predict(torch.tensor(line))[:, k], 0.75, atol=0.01)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_plane_where_no_side_is_taken_says_so_and_has_no_line_or_ring(classes):
    def predict(x):
        rounding = 9e-4 * torch.sin(1000 * x[:, 0].double())
        return torch.stack([1 / classes - rounding, 1 / classes + rounding, *[0 * rounding + 1 / 3] * (classes - 2)], 1)

    ax = picture(predict, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]), num_classes=classes)
    assert [borders(ax, style) for style in ("solid", "dotted")] == [[], []]
    assert marks(ax, canvas.INK) == []
    assert ax.get_title() == f"Epoch 3: a coin toss, p = 1/{classes}"
    assert [text.get_text() for text in ax.texts] == [f"every p is within 0.001 of 1/{classes}:\nno side is taken"]


def test_a_model_that_has_diverged_is_drawn_without_regions():
    ax = picture(lines([float("nan"), 0.0]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]))
    assert borders(ax) == []
    assert (ax.images[0].get_array() == 1.0).all()  # white


def test_interaction_makes_the_border_a_curve():
    def predict(x):  # XOR's answer: x1 and x2 on different sides of 1/2
        p = (-20 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5) - 0.1).sigmoid()
        return torch.stack([1 - p, p], dim=1)

    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    (border,) = borders(picture(predict, corners, torch.tensor([0, 1, 1, 0])))
    np.testing.assert_allclose(predict(torch.tensor(border)), 0.5, atol=0.02)
    assert np.linalg.matrix_rank(border - border.mean(axis=0), tol=0.1) == 2  # no straight line holds it


def test_one_versus_all_gets_a_dashed_line_for_each_classifier_besides_the_borders_of_the_regions():
    weight = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]).T
    x = torch.tensor([[-2.0, -2.0], [0.0, 2.0], [2.0, -2.0]])

    def per_class(rows):
        return (rows @ weight - torch.tensor([0.5, 0.2, 0.1])).sigmoid()

    def predict(rows):
        return per_class(rows) / per_class(rows).sum(dim=1, keepdim=True)

    ax = picture(predict, x, torch.tensor([0, 1, 2]), per_class=per_class, num_classes=3)
    assert len(borders(ax)) == 3
    for k, line in enumerate(borders(ax, "dashed")):
        np.testing.assert_allclose(per_class(torch.tensor(line).float())[:, k], 0.5, atol=1e-3)
    assert len(borders(ax, "dashed")) == 3
    assert len(borders(picture(predict, x, torch.tensor([0, 1, 2]), num_classes=3), "dashed")) == 0


def test_legends_name_classes_and_marks_and_lie_beside_the_data():
    ax = picture(lines([1.0, 0.0]), torch.tensor([[-1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]))
    ax.figure.draw_without_rendering()
    legends = [child for child in ax.get_children() if isinstance(child, matplotlib.legend.Legend)]
    texts = [text.get_text() for legend in legends for text in legend.get_texts()]
    assert {"class 0", "class 1", "train", "misclassified", "border, p = 0.5", "p = 0.75"} <= set(texts)
    for legend in legends:
        box = legend.get_window_extent()
        assert ax.get_window_extent().x1 <= box.x0 < box.x1 <= ax.figure.bbox.x1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a (cm)", "b (cm)")


# The callback


@pytest.mark.parametrize(
    ("name", "bad"),
    [("every_n_epochs", 0), ("resolution", 1), ("resolution", 2001)]
    + [("margin", value) for value in (-0.1, 10.1, float("nan"))],
)
def test_options_out_of_range_are_refused(name, bad):
    with pytest.raises(ValueError, match=f"expected {name} of at least .*, got {bad}"):
        DecisionBoundary(**{name: bad})


class Plain(L.LightningModule):
    training_step = validation_step = TinyModel.training_step
    configure_optimizers = TinyModel.configure_optimizers


def unplottable():
    rows = TensorDataset(torch.zeros(2, 2))
    data = L.LightningDataModule.from_datasets(rows, rows)
    data.feature_names, data.class_names = ["a", "b"], ["c", "d"]
    return data


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            *(TinyModel(4), TinyData(num_features=4)),
            r"draws exactly 2 features, got 4 \(feature 0 \(cm\), .*\): set data.init_args.features to two names",
        ),
        (TinyModel(2, 9), TinyData(num_classes=9), "colours for 2 to 8 classes, got 9"),
        (Plain(), TinyData(), r"Plain has no predict_proba\(x: Tensor\) -> Tensor"),
        (
            *(TinyModel(), unplottable()),
            r"LightningDataModule has no points\(split: str\) -> .*, transform\(x: Tensor\) -> Tensor; add it, or ",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_training(tmp_path, model, data, message):
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, DecisionBoundary(), data=data, model=model)
    assert all(map(torch.equal, model.parameters(), before))
    assert list(tmp_path.iterdir()) == []


def test_where_it_is_not_required_it_draws_two_features_and_no_more_in_one_fit_after_another():
    callback = DecisionBoundary(required=False)
    for num_features in (2, 4, 2):
        run = SimpleNamespace(datamodule=TinyData(num_features), is_global_zero=True, fast_dev_run=False)
        callback.setup(run, TinyModel(num_features), "fit")
        assert callback.draws is (num_features == 2)


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(2, 4, [0, 2, 4]), (2, 5, [0, 2, 4, 5]), (2, 1, [0, 1]), (None, 14, [0, 1, 2, 3, 5, 8, 13, 14])],
)
def test_pictures_come_on_schedule_and_after_the_last_epoch_but_never_twice(tmp_path, every, epochs, expected):
    fit(tmp_path, DecisionBoundary(every), epochs, num_sanity_val_steps=2)
    assert epochs_drawn(tmp_path) == expected
    with Image.open(tmp_path / "figures" / "boundary.gif") as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
        assert gif.n_frames == len(expected)
        assert gif.info["loop"] == 0  # for ever
    assert durations[-1] > 2 * max([0, *durations[:-1]])


def test_tensorboard_has_the_pixels_of_the_files_at_the_steps_of_the_loss(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit(tmp_path, DecisionBoundary(every_n_epochs=2), 5, logger=logger)
    logger.experiment.flush()
    events = event_accumulator.EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()
    images = events.Images("decision_boundary")
    losses = {event.step: event.value for event in events.Scalars("val/loss")}
    assert [image.step for image in images] == [0, 3, 7, 9]  # two steps an epoch, counted from 0
    assert {3, 7, 9} <= set(losses)
    for image, path in zip(images, sorted(tmp_path.glob("figures/*.png")), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB"))
        assert np.array_equal(pixels, np.asarray(Image.open(path)))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("is_zero", [True, False])
def test_a_dry_run_and_other_processes_leave_no_file(tmp_path, monkeypatch, is_zero):
    monkeypatch.setattr(L.Trainer, "is_global_zero", property(lambda trainer: is_zero))
    fit(tmp_path, DecisionBoundary(every_n_epochs=1), 2, logger=is_zero, fast_dev_run=is_zero)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_other_precisions_are_drawn(tmp_path, precision):
    fit(tmp_path, DecisionBoundary(), precision=precision)
    assert epochs_drawn(tmp_path) == [0, 1]


@pytest.fixture
def scenes(monkeypatch):
    """What is drawn: grid, points, names of features and classes, state, grid of each class."""
    drawn = []
    monkeypatch.setattr(decision_boundary, "draw", lambda ax, *scene: drawn.append(scene))
    return drawn


def test_one_versus_all_model_is_drawn_with_its_classifiers(tmp_path, scenes):
    data = TinyData(2, 3)
    model = fit(tmp_path, DecisionBoundary(resolution=7), data=data, model=OneVersusAll(2, 3)).eval()
    grid, *_, per_class = scenes[-1]
    corner = data.transform(torch.stack([per_class.x1[0], per_class.x2[0]])[None])
    with torch.no_grad():
        torch.testing.assert_close(per_class.values[0, 0].float(), model.predict_proba_per_class(corner)[0])
        torch.testing.assert_close(grid.values[0, 0].float(), model.predict_proba(corner)[0])


def test_training_is_bit_for_bit_the_same_with_and_without_the_pictures(tmp_path):
    weights = []
    for callback in (None, DecisionBoundary(every_n_epochs=1)):
        L.seed_everything(7, verbose=False)
        weights.append(fit(tmp_path, callback, 3).linear.weight)
    assert torch.equal(weights[0], weights[1])


def test_drawing_leaves_random_generators_modes_gradients_and_matplotlib_as_they_were(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)

    class State(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.dropout.eval()  # one submodule frozen, the rest training: neither may be touched
            numpy_state = np.random.get_state()
            self.state = {
                "torch": torch.get_rng_state().tolist(),
                "numpy": (numpy_state[1].tolist(), numpy_state[2]),
                "python": random.getstate(),
                "gradients": torch.is_grad_enabled(),
                "rcParams": dict(matplotlib.rcParams.copy()),
                "pyplot": "matplotlib.pyplot" in sys.modules,
            }
            self.modes = [module.training for module in pl_module.modules()]

    class After(State):
        def on_train_epoch_end(self, trainer, pl_module):
            self.found = [module.training for module in pl_module.modules()]
            super().on_train_epoch_end(trainer, pl_module)

    before, after = State(), After()
    fit(tmp_path, None, callbacks=[before, DecisionBoundary(every_n_epochs=1), after])
    assert before.modes == after.found == [True, False, True]
    assert after.state == before.state
    assert epochs_drawn(tmp_path) == [0, 1]


def test_gif_of_a_resumed_run_keeps_the_frames_before_and_drops_those_of_the_lost_future(tmp_path):
    checkpoints = {"callbacks": [ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)], "enable_checkpointing": True}
    fit(tmp_path, DecisionBoundary(every_n_epochs=1), 4, **checkpoints)
    assert epochs_drawn(tmp_path) == [0, 1, 2, 3, 4]

    # Paint the first run's pictures in shades of grey, to tell them from the second's.
    for path, shade in zip(sorted(tmp_path.glob("figures/*.png")), [0, 10, 20, 30, 40], strict=True):
        with Image.open(path) as image:
            Image.new("RGB", image.size, (shade, shade, shade)).save(path)
    fit(tmp_path, DecisionBoundary(every_n_epochs=2), 5, ckpt_path=tmp_path / "epoch=1.ckpt", **checkpoints)
    with Image.open(tmp_path / "figures/boundary.gif") as gif:
        corners = [frame.convert("RGB").getpixel((0, 0))[0] for frame in ImageSequence.Iterator(gif)]
    assert corners == [0, 10, 20, 255, 255]  # the old 0, 1 and 2, the new 4 and 5; the old 3 led nowhere


def test_a_resumed_run_ends_with_the_gif_of_the_unbroken_one(tmp_path):
    """Also where the run was killed between a frame and the checkpoint of its epoch."""

    class Kill(ModelCheckpoint):  # before the checkpoint of that epoch
        kill_at = None

        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch + 1 == self.kill_at:
                raise SystemError("killed")
            super().on_train_epoch_end(trainer, pl_module)

    def run(folder, epochs, kill_at=None, ckpt_path=None):
        L.seed_everything(7, verbose=False)
        kill, data, model = Kill(folder, "last", enable_version_counter=False), TinyData(), TinyModel()
        kill.kill_at, model.dropout.p = kill_at, 0.0
        data.train_dataloader = lambda: DataLoader(TensorDataset(*data.points("train")), batch_size=6)
        options = {"callbacks": [kill], "enable_checkpointing": True, "data": data, "model": model}
        with suppress(SystemError):
            fit(folder, DecisionBoundary(2, resolution=9), epochs, ckpt_path=ckpt_path, **options)

    run(tmp_path / "straight", 5)
    for kill_at in (3, 4):
        folder = tmp_path / f"killed_at_{kill_at}"
        run(folder, 5, kill_at)
        run(folder, 5, ckpt_path=folder / "last.ckpt")
        for name in ("boundary.gif", *(f"boundary_epoch_0000{epoch}.png" for epoch in (0, 2, 4, 5))):
            assert (folder / "figures" / name).read_bytes() == (tmp_path / "straight/figures" / name).read_bytes()


def test_a_frame_is_on_the_disk_before_the_checkpoint_of_its_epoch(tmp_path):
    found = []

    class Watching(RelocatableModelCheckpoint):
        def on_train_epoch_end(self, trainer, pl_module):
            found.append(epochs_drawn(tmp_path))

    fit(tmp_path, DecisionBoundary(every_n_epochs=1), 3, callbacks=[Watching()], enable_checkpointing=True)
    assert found == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]


def kept_best(run, epochs, resumed=False, **options):
    """Fit with checkpoints of which the first epoch is the best: a loss that rises."""

    class Worse(TinyModel):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", float(self.current_epoch))

    checkpoints = {"callbacks": [RelocatableModelCheckpoint()], "enable_checkpointing": True}
    ckpt_path = run / "checkpoints/last.ckpt" if resumed else None
    return fit(run, DecisionBoundary(2, resolution=9), epochs, model=Worse(), ckpt_path=ckpt_path, **checkpoints)


def test_the_best_state_is_drawn_by_itself_and_the_model_keeps_its_own(tmp_path, scenes):
    model = kept_best(tmp_path, epochs=3)
    assert [scene[4] for scene in scenes] == ["Epoch 0", "Epoch 2", "Epoch 3", "Best, epoch 1"]
    best, last = (
        torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"] for name in ("best", "last")
    )
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())
    model.load_state_dict(best)
    x, _, proba = scenes[-1][1]["train"]
    with torch.no_grad():
        assert torch.equal(proba, model.eval().predict_proba(TinyData().transform(x)).double())


def test_a_run_killed_once_it_was_trained_gets_its_last_pictures_from_a_resume(tmp_path):
    kept_best(tmp_path, epochs=3)
    figures = tmp_path / "figures"
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    late = {"boundary.gif", "boundary_best.png"}
    assert set(before) == late | {f"boundary_epoch_0000{epoch}.png" for epoch in (0, 2, 3)}
    for name in late:
        (figures / name).unlink()
    kept_best(tmp_path, epochs=3, resumed=True)
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before
