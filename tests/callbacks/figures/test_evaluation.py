"""The pictures of a test: which are drawn, what they show, and the files beside them."""

import lightning as L
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_curve, roc_curve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_calibration_error

from callbacks.figures.canvas import paint
from callbacks.figures.curves import interval
from callbacks.figures.evaluation import Figures
from callbacks.figures.plots import EvaluatedRows, pictures
from callbacks.run.loggers import EvaluationBoard
from tests.tools.runs import quiet_trainer, read_csv

N = 300


def rows_of(classes, seed=0):
    """Probabilities and targets of N rows, four in five of them right; the last class is a little rarer."""
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([0.2] * classes, N).astype(np.float32)
    target = np.where(generator.random(N) < 0.8, proba.argmax(axis=1), generator.integers(0, classes, N))
    return proba, target


def drawn(classes, scores=None, chosen=None, **options):
    proba, target = rows_of(classes)
    names = options.pop("names", [f"class {k}" for k in range(classes)])
    predicted = options.pop("predicted", proba.argmax(axis=1))
    features = [] if scores is None else [f"word {j}" for j in range(len(scores))]
    rows = EvaluatedRows(target, predicted, proba, names, scores=scores, feature_names=features, **options)
    figures = {name: Figure(layout="constrained") for name in pictures(rows, chosen)}
    for name, draw in pictures(rows, chosen).items():
        draw(figures[name])
    return figures, target, proba


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_few_classes_have_a_confusion_matrix_with_scikit_learns_counts():
    figures, target, proba = drawn(20)
    assert list(figures) == ["confusion", "reliability", "risk_coverage"]
    (ax,) = figures["confusion"].axes
    counts = confusion_matrix(target, proba.argmax(axis=1))
    assert [text or "0" for text in texts(ax)] == [str(count) for count in counts.flatten()]
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"class {k}" for k in range(20)]
    low, high = interval(counts.trace(), N)
    assert ax.get_title() == f"{counts.trace()} of {N} rows right\n95% interval {low:.1%} to {high:.1%}"


def test_many_classes_have_bars_of_their_most_confused_pairs_and_a_matrix_of_their_groups():
    figures, target, proba = drawn(21, groups=[f"group {k % 3}" for k in range(21)])
    assert list(figures)[:2] == ["confused_pairs", "confusion_of_groups"]
    (ax,) = figures["confused_pairs"].axes
    matrix = confusion_matrix(target, proba.argmax(axis=1), labels=range(21))
    np.fill_diagonal(matrix, 0)
    expected = sorted(matrix.flatten(), reverse=True)[:12]
    assert [bar.get_width() for bar in ax.patches] == expected
    assert len(ax.get_yticklabels()) == 12
    for label, width in zip(ax.get_yticklabels(), expected, strict=True):
        truth, answer = (int(name.removeprefix("class ")) for name in label.get_text().split("  →  "))
        assert matrix[truth, answer] == width
    (ax,) = figures["confusion_of_groups"].axes
    counts = confusion_matrix(target % 3, proba.argmax(axis=1) % 3)
    assert texts(ax) == [str(count) for count in counts.flatten()]


def test_a_confused_pair_has_its_surest_row_as_an_example():
    figures, target, proba = drawn(21, example=lambda place: f"row {place}")
    (ax,) = figures["confused_pairs"].axes
    predicted = proba.argmax(axis=1)
    assert len(ax.texts) == 12
    for label, text in zip(ax.get_yticklabels(), texts(ax), strict=True):
        truth, answer = (int(name.removeprefix("class ")) for name in label.get_text().split("  →  "))
        of_pair = np.flatnonzero((target == truth) & (predicted == answer))
        surest = max(of_pair, key=lambda place: proba[place, answer])
        assert text == f"{len(of_pair)}   “row {surest}”"


def test_fewer_rows_than_a_hundred_have_counts_and_no_curve():
    proba, target = rows_of(3)
    for number, more in ((99, []), (100, ["reliability", "risk_coverage", "threshold"])):
        rows = EvaluatedRows(target[:number], target[:number], proba[:number], ["a", "b", "c"], oos_class=2)
        assert [*pictures(rows)] == ["confusion", *more]
    rows = EvaluatedRows(target[:99] % 2, target[:99] % 2, proba[:99, :2], ["a", "b"])
    assert [*pictures(rows)] == ["confusion"]


def test_no_axis_has_a_label_for_each_of_151_classes():
    groups = [f"group {k % 11}" for k in range(151)]
    figures, *_ = drawn(151, torch.randn(300, 151), groups=groups, oos_class=150, threshold=0.4)
    expected = ["confused_pairs", "confusion_of_groups", "reliability", "risk_coverage", "threshold", "top_features"]
    assert list(figures) == expected
    for figure in figures.values():
        for ax in figure.axes:
            assert max(len(ax.get_xticklabels()), len(ax.get_yticklabels())) <= 20


@pytest.mark.parametrize("kind", [2, 3, 22])
def test_names_that_look_like_formulas_or_have_letters_of_any_script_are_drawn_as_they_are(tmp_path, kind):
    odd = ["$", "$$", "$$$", "$_$", r"$\frac$", "$25% to $50%", "天气", "อากาศ", "a\nb", "\\", "{", "%", "#", "_^"]
    names = [*odd, *map(str, range(22 - len(odd)))][-kind if kind > 14 else 0 :][:kind]
    proba, target = rows_of(kind)
    features, oos = [*odd, *["$$"] * 16], kind - 1 if kind > 2 else None
    scores = {"scores": torch.randn(30, kind), "feature_names": features}
    rows = EvaluatedRows(target, proba.argmax(axis=1), proba, names, groups=names, oos_class=oos, **scores)
    drawn = pictures(rows)
    assert len(drawn) >= 4
    for name, draw in drawn.items():
        assert paint(tmp_path / f"{name}.png", draw) is not None
    assert {path.stem for path in tmp_path.iterdir()} == set(drawn)


def test_without_errors_there_are_no_pairs_to_show():
    _, target = rows_of(30)
    assert "confused_pairs" not in drawn(30, predicted=target)[0]


def test_the_chosen_threshold_is_marked_where_it_cuts():
    figures, target, proba = drawn(5, oos_class=4, threshold=0.6)
    (ax,) = figures["threshold"].axes
    score, label, oos = proba[:, :4].max(axis=1), proba[:, :4].argmax(axis=1), target == 4
    answer = np.where(score < 0.6, 4, label)
    chosen = next(line for line in ax.lines if line.get_marker() == "D")
    accuracy, recall = (answer == target)[~oos].mean(), (answer == 4)[oos].mean()
    np.testing.assert_allclose(chosen.get_xydata(), [[recall, accuracy]])
    title = figures["threshold"].get_suptitle()
    assert title == f"At 0.600: {accuracy:.1%} in scope right, {recall:.1%} out of scope found"
    curve = ax.lines[0].get_ydata()
    assert accuracy - 0.1 <= curve.min() <= accuracy <= curve.max()


def test_without_a_threshold_the_one_with_the_best_sum_is_marked():
    (ax,) = drawn(5, oos_class=4)[0]["threshold"].axes
    (marked,) = next(line for line in ax.lines if line.get_marker() == "D").get_xydata()
    sums = ax.lines[0].get_xydata().sum(axis=1)
    assert marked.sum() == pytest.approx(sums.max())


def test_a_binary_model_has_both_curves_with_the_half_and_the_best_f1_marked():
    figures, target, proba = drawn(2)
    left, right = figures["precision_recall_roc"].axes
    said = proba[:, 1] >= 0.5
    hits, alarms = said[target == 1].mean(), said[target == 0].mean()
    half = [next(line for line in ax.lines if line.get_marker() == "o") for ax in (left, right)]
    np.testing.assert_allclose(half[0].get_xydata(), [[hits, (target == 1)[said].mean()]])
    np.testing.assert_allclose(half[1].get_xydata(), [[alarms, hits]])
    precision, recall, thresholds = precision_recall_curve(target, proba[:, 1])
    np.testing.assert_allclose(left.lines[0].get_xydata(), np.stack([recall, precision], axis=1))
    false_rate, true_rate, _ = roc_curve(target, proba[:, 1])
    np.testing.assert_allclose(right.lines[0].get_xydata(), np.stack([false_rate, true_rate], axis=1))
    best = max(f1_score(target, proba[:, 1] >= threshold) for threshold in thresholds)
    (marked,) = next(line for line in left.lines if line.get_marker() == "D").get_xydata()
    assert 2 * marked.prod() / marked.sum() == pytest.approx(best)
    assert any(line.get_marker() == "D" for line in right.lines)


def test_reliability_shows_both_sides_of_temperature_scaling_and_all_rows_below():
    above, below = drawn(4, temperature=2.0)[0]["reliability"].axes
    labels = [text.get_text().split(":")[0] for text in above.get_legend().get_texts()]
    assert labels == ["as often right as confident", "as trained", "at T = 2.00"]
    assert sum(bar.get_height() for bar in below.patches) == 2 * N


def test_the_title_of_the_rows_that_a_person_takes_is_what_the_others_get_right():
    figures, target, proba = drawn(4)
    order = (-proba.max(axis=1)).argsort(kind="stable")
    right = (proba.argmax(axis=1) == target)[order]
    said = f"{right.mean():.1%} are right; if a person takes 10%, {right[: round(0.9 * N)].mean():.1%} of the rest"
    assert figures["risk_coverage"].get_suptitle() == said


def test_reliability_is_scikit_learns_curve_and_the_calibration_error_that_of_torchmetrics():
    figures, target, proba = drawn(4)
    above, below = figures["reliability"].axes
    right, confidence = proba.argmax(axis=1) == target, proba.max(axis=1)
    (container,) = above.containers
    seen, bars = container.lines[0], container.lines[2][0].get_segments()
    np.testing.assert_allclose(seen.get_xydata()[:, ::-1].T, calibration_curve(right, confidence, n_bins=10))
    rows = [((confidence > low) & (confidence <= low + 0.1)).sum() for low in np.linspace(0, 0.9, 10)]
    assert [bar.get_height() for bar in below.patches] == rows
    for share, bar, number in zip(seen.get_ydata(), bars, filter(None, rows), strict=True):
        assert bar[:, 1] == pytest.approx(interval(share * number, number))
    error = multiclass_calibration_error(torch.from_numpy(proba), torch.from_numpy(target), 4, n_bins=15)
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels[1:] == [f"as trained: calibration error {float(error):.3f}"]


def test_rows_that_are_all_right_or_all_sure_have_a_reliability_too():
    target = np.arange(120) % 3
    for proba in (torch.eye(3).numpy()[target], np.full((120, 3), 1 / 3, np.float32)):
        pictures(EvaluatedRows(target, target, proba, ["a", "b", "c"]))["reliability"](Figure(layout="constrained"))


def test_the_strongest_features_are_of_the_classes_asked_for_or_of_those_with_the_most_errors():
    coefficients = torch.zeros(10, 9)
    coefficients[3, 7], coefficients[5, 7] = 2.0, -3.0
    (ax,) = drawn(9, coefficients, chosen=["class 7"])[0]["top_features"].axes
    assert ax.get_title() == "class 7"
    assert [bar.get_width() for bar in ax.patches if bar.get_width()] == [2.0, -3.0]
    assert ax.get_yticklabels()[0].get_text() == "word 3"
    assert ax.get_xlabel() == "logit"
    figures, target, proba = drawn(9, coefficients)
    errors = np.bincount(target[target != proba.argmax(axis=1)], minlength=9)
    shown = {int(ax.get_title().removeprefix("class ")) for ax in figures["top_features"].axes}
    assert len(shown) == 6
    assert min(errors[k] for k in shown) >= max(errors[k] for k in range(9) if k not in shown)


def test_features_that_are_standardised_have_no_unit_and_two_classes_have_log_odds():
    proba, target = rows_of(2)
    rows = EvaluatedRows(target, target, proba, ["no", "yes"], scores=torch.tensor([[-1.0, 1.0], [2.0, -2.0]]))
    rows.feature_names, rows.standardised = ["petal length (cm)", "b"], True
    pictures(rows)["top_features"](figure := Figure(layout="constrained"))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["petal length", "b"]
    assert ax.get_xlabel() == "log-odds per standard deviation"


def test_weights_that_are_all_but_zero_have_no_picture():
    assert "top_features" not in drawn(3, torch.full((4, 3), 1e-4))[0]


# The callback


class Oracle(L.LightningModule):
    """Feature 0 of a row is its number, by which its probabilities are known."""

    proba = torch.from_numpy(rows_of(3)[0])

    def predict_proba(self, x):
        return self.proba[x[:, 0].long()]

    def predict_label(self, proba):
        return proba.argmax(dim=1)

    def coefficients(self):
        return torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.5, -1.0]]), torch.zeros(3)

    def test_step(self, batch, batch_idx):
        return self.predict_proba(batch[0])


class Answers(L.LightningDataModule):
    class_names, feature_names = ("red", "green", "blue"), ("number",)
    target = torch.from_numpy(rows_of(3)[1])

    def test_dataloader(self):
        indices = torch.arange(N).flip(0)
        return DataLoader([(i[:, None].float(), self.target[i], i) for i in indices.split(128)], batch_size=None)

    def describe(self, indices, split):
        return [{"row": index} for index in indices]


def run_test(folder, callback, model=None, data=None, **options):
    quiet_trainer(folder, callback, **options).test(model or Oracle(), data or Answers(), verbose=False)


def test_files_pictures_and_tensorboard_hold_the_same(tmp_path):
    for _ in range(2):  # the second test replaces what the first has written
        run_test(tmp_path, Figures(), logger=EvaluationBoard(str(tmp_path)))
    names = {"confusion", "reliability", "risk_coverage", "top_features"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == names
    events = EventAccumulator(str(tmp_path / "test"), size_guidance={"images": 0}).Reload()
    assert set(events.Tags()["images"]) == names
    for name in names:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
            (event,) = events.Images(name)
            assert (event.width, event.height) == image.size
    matrix, classes = confusion_matrix(Answers.target, Oracle.proba.argmax(dim=1)), Answers.class_names
    lines = read_csv(tmp_path / "confusions.csv")
    assert {(line["target"], line["predicted"]): int(line["rows"]) for line in lines} == {
        (classes[i], classes[j]): matrix[i, j] for i in range(3) for j in range(3) if i != j
    }
    assert [int(line["rows"]) for line in lines] == sorted((int(line["rows"]) for line in lines), reverse=True)
    of_class = matrix[classes.index(lines[0]["target"])].sum()
    assert float(lines[0]["share"]) == pytest.approx(int(lines[0]["rows"]) / of_class, abs=1e-4)
    top = [line for line in read_csv(tmp_path / "top_features.csv") if line["label"] == "green"]
    assert [(line["feature"], float(line["coefficient"])) for line in top] == [("column 2", 2.0), ("number", -1.0)]


def test_of_many_rows_the_pictures_show_a_sample_and_say_so_and_the_confusions_are_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr("callbacks.rows.SAMPLE", 200)
    shown = []
    monkeypatch.setattr("callbacks.figures.evaluation.pictures", lambda rows, classes: shown.append(rows) or {})
    run_test(tmp_path, Figures())
    assert 80 < len(shown[0].target) == len(shown[0].proba) <= 200
    assert shown[0].caption == f"{len(shown[0].target)} of 300 test rows, at random"
    wrong = int((Answers.target != Oracle.proba.argmax(dim=1)).sum())
    assert sum(int(line["rows"]) for line in read_csv(tmp_path / "confusions.csv")) == wrong


def test_a_linear_model_of_features_without_names_gets_a_line_in_place_of_the_strongest(tmp_path, capsys):
    class Hashed(L.LightningDataModule):
        class_names, test_dataloader, describe = Answers.class_names, Answers.test_dataloader, Answers.describe
        target = Answers.target

    run_test(tmp_path, Figures(), data=Hashed())
    assert "without the strongest features of each class: the features have no names" in capsys.readouterr().out
    assert not (tmp_path / "top_features.csv").exists()


@pytest.mark.parametrize("options", [{"enabled": False}, {"fast_dev_run": True}])
def test_switched_off_nothing_is_written(tmp_path, options):
    run_test(tmp_path, Figures(options.pop("enabled", True)), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_or_data_without_what_a_picture_needs_is_left_alone(tmp_path):
    class Plain(L.LightningModule):
        def test_step(self, batch, batch_idx):
            pass

    class Scoring(Oracle):
        def test_step(self, batch, batch_idx):
            return super().test_step(batch, batch_idx).log()

    for model in (Plain(), Scoring()):
        run_test(tmp_path, Figures(), model=model)
    assert list(tmp_path.iterdir()) == []


def test_groups_that_cannot_be_downloaded_cost_one_picture_and_a_line(tmp_path, capsys):
    class Offline(Answers):
        @property
        def class_groups(self):
            raise OSError("cannot download domains.json")

    run_test(tmp_path, Figures(), data=Offline())
    assert "without groups of classes: cannot download domains.json" in capsys.readouterr().out
    assert (tmp_path / "figures/confusion.png").is_file()
