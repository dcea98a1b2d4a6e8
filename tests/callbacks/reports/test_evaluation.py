"""The files of `test` and `predict`, for a model whose probabilities are given."""

import json
import re

import lightning as L
import pytest
import torch
from sklearn.metrics import f1_score
from torch.utils.data import DataLoader

from callbacks.figures.evaluation import Figures
from callbacks.reports.evaluation import EvaluationReport
from callbacks.reports.predictions import PredictionWriter
from callbacks.run.outputs import MetricsWriter
from tests.tools.runs import quiet_trainer, read_csv

PROBA = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.0, 0.05, 0.95]])
TARGET = torch.tensor([0, 2, 2, 1, 0])  # rows 1, 3 and 4 are misclassified, row 4 with the highest probability


def x_of(batch):
    return batch if isinstance(batch, torch.Tensor) else batch["x" if isinstance(batch, dict) else 0]


class Oracle(L.LightningModule):
    """Feature 0 of a row is its number i, and PROBA[i] its probabilities."""

    def predict_proba(self, x):
        return PROBA[x[:, 0].long()].to(self.dtype)

    def predict_label(self, proba):
        return proba.argmax(dim=1)

    def test_step(self, batch, batch_idx):
        self.log("test/loss", 0.25, batch_size=1)
        self.log("other", 1.0, batch_size=1)
        return self.predict_step(batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        return self.predict_proba(x_of(batch))


class Explained(Oracle):
    """Feature k of row i, which follow its number, contributes AMOUNTS[i, k] to its label, by one-vs-all's rule."""

    def coefficients(self):
        return torch.cat([torch.zeros(1, 3), torch.ones(4, 3)]), torch.zeros(3)

    def predict_proba_per_class(self, x):
        raise AssertionError("asked for")


AMOUNTS = torch.tensor([[3.0, -1.0, 0.0, 2.0], [-5.0, 1.0, -7.0, -6.0], [0.0] * 4, [0.0004, 1.0, 2.0, 3.0], [1.0] * 4])


class Answers(L.LightningDataModule):
    """Batches of one or two rows out of order, as several processes would leave them."""

    class_names = ("red", "green", "blue, or so")
    order = ([4, 1], [0, 3], [2])

    def batch(self, indices):
        return torch.tensor(indices)[:, None].float(), TARGET[indices], torch.tensor(indices)

    def loader(self):
        return DataLoader([self.batch(indices) for indices in self.order], batch_size=None)

    test_dataloader = predict_dataloader = loader

    def describe(self, indices, split):
        return [{"name": f"{split} {index}"} for index in indices]


def test_test_metrics_are_a_flat_map_from_name_to_number(tmp_path):
    quiet_trainer(tmp_path, MetricsWriter()).test(Oracle(), Answers(), verbose=False)
    assert json.loads((tmp_path / "test_metrics.json").read_text()) == {"test/loss": 0.25, "other": 1.0}


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """The reports of two tests by one Trainer."""
    folder = tmp_path_factory.mktemp("tested")
    trainer = quiet_trainer(folder, EvaluationReport())
    for _ in range(2):
        trainer.test(Oracle(), Answers(), verbose=False)
    return folder


def test_every_class_has_its_own_line_of_metrics(tested):
    lines = read_csv(tested / "per_class.csv")
    assert [line["label"] for line in lines] == ["red", "green", "blue, or so"]
    assert [line["rows"] for line in lines] == ["2", "1", "2"]
    expected = f1_score(TARGET, PROBA.argmax(dim=1), average=None, zero_division=0)
    assert [float(line["f1"]) for line in lines] == pytest.approx(expected, abs=1e-4)


def test_errors_list_the_misclassified_rows_the_most_confident_first(tested):
    assert read_csv(tested / "errors.csv") == [
        {"name": "test 4", "target": "red", "predicted": "blue, or so", "probability": "0.9500"},
        {"name": "test 3", "target": "green", "predicted": "red", "probability": "0.6000"},
        {"name": "test 1", "target": "blue, or so", "predicted": "green", "probability": "0.5000"},
    ]


def test_predictions_come_in_the_order_of_the_rows_with_the_likeliest_classes_first(tmp_path, capsys):
    predict(tmp_path, writer=PredictionWriter(top_k=2, num_printed=2))
    lines = predictions(tmp_path)
    assert [line["name"] for line in lines] == [f"predict {row}" for row in range(5)]
    assert [line["label"] for line in lines] == ["red", "green", "blue, or so", "red", "blue, or so"]
    assert [line["probability"] for line in lines] == [0.9, 0.5, 0.7, 0.6, 0.95]
    assert lines[1]["top_k"] == [{"label": "green", "probability": 0.5}, {"label": "blue, or so", "probability": 0.3}]
    printed = capsys.readouterr().out
    assert "predict 1" in printed
    assert "predict 2" not in printed
    assert "... and 3 more; 5 predictions in" in printed


def test_a_dry_run_writes_nothing(tmp_path):
    quiet_trainer(tmp_path, EvaluationReport(), fast_dev_run=True).test(Oracle(), Answers(), verbose=False)
    predict(tmp_path, fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def predict(folder, model=None, data=None, writer=None, **options):
    trainer = quiet_trainer(folder, writer or PredictionWriter(), **options)
    return trainer.predict(model or Oracle(), data or Answers(), return_predictions=False)


# Batches of other kinds


class TwoParts(Answers):
    """(x, target) without indices, in order, as from DataLoader(TensorDataset(x, y))."""

    order = ([0, 1], [2, 3], [4])

    def batch(self, indices):
        return list(super().batch(indices)[:2])


class OnePart(TwoParts):
    """A bare x."""

    def batch(self, indices):
        return super().batch(indices)[0]


@pytest.mark.parametrize("kind", [TwoParts, OnePart])
def test_rows_without_indices_are_numbered_in_the_order_they_come(tmp_path, kind):
    predict(tmp_path, data=kind())
    assert [line["name"] for line in predictions(tmp_path)] == [f"predict {row}" for row in range(5)]
    assert [line["probability"] for line in predictions(tmp_path)] == [0.9, 0.5, 0.7, 0.6, 0.95]


def test_errors_are_found_without_indices(tmp_path):
    quiet_trainer(tmp_path, EvaluationReport()).test(Oracle(), TwoParts(), verbose=False)
    assert [line["name"] for line in read_csv(tmp_path / "errors.csv")] == ["test 4", "test 3", "test 1"]


def test_a_test_without_targets_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected batches \(x, target\) or \(x, target, indices\), got x alone"):
        quiet_trainer(tmp_path, EvaluationReport()).test(Oracle(), OnePart(), verbose=False)


def test_a_batch_of_another_kind_is_refused(tmp_path):
    class Dictionaries(Answers):
        def batch(self, indices):
            return {"x": super().batch(indices)[0]}

    with pytest.raises(ValueError, match=r"expected a batch x, \(x, target\) or .*, got a dict"):
        predict(tmp_path, data=Dictionaries())


def test_several_processes_cannot_number_rows_without_indices(tmp_path, monkeypatch):
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    with pytest.raises(ValueError, match=r"expected batches .*, got no indices, .*--trainer.devices 1"):
        predict(tmp_path, data=TwoParts())


def test_nothing_to_predict_is_an_empty_file(tmp_path):
    class Nothing(Answers):
        order = ([],)

    predict(tmp_path, data=Nothing())
    assert (tmp_path / "predictions.jsonl").read_text() == ""


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_probabilities_are_computed_in_the_trainers_precision(tmp_path, precision):
    class Network(Oracle):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(1, 3)

        def predict_proba(self, x):
            logits = self.linear(x)
            assert logits.dtype == (torch.float64 if precision == "64-true" else torch.bfloat16)
            assert x.dtype == (torch.float32 if precision == "bf16-mixed" else logits.dtype)
            return logits.softmax(dim=1)

    predict(tmp_path, Network(), precision=precision)
    quiet_trainer(tmp_path, EvaluationReport(), precision=precision).test(Network(), Answers(), verbose=False)
    assert sum(line["probability"] > 1 / 3 for line in predictions(tmp_path)) == 5


# What a model and a datamodule must offer


class Plain(L.LightningModule):
    def test_step(self, batch, batch_idx):
        raise AssertionError("ran")

    predict_step = test_step


@pytest.mark.parametrize("kind", [EvaluationReport, PredictionWriter])
def test_what_is_missing_is_refused_before_anything_runs_and_left_to_ask_for(tmp_path, kind):
    expected = "Plain has no predict_proba(x: Tensor) -> Tensor, predict_label(proba: Tensor) -> Tensor"
    assert kind.unmet(Plain(), Answers()) == expected
    assert "LightningDataModule has no class_names: Sequence[str]" in kind.unmet(Oracle(), L.LightningDataModule())
    assert kind.unmet(Oracle(), Answers()) is None
    trainer = quiet_trainer(tmp_path, kind())
    for run in (trainer.test, trainer.predict):
        with pytest.raises(
            ValueError, match=r"does not apply: Plain has no .*, predict_label\(proba: Tensor\) -> Tensor"
        ):
            run(Plain(), Answers())
    with pytest.raises(ValueError, match="a run without a datamodule has no class_names"):
        quiet_trainer(tmp_path, kind()).test(Oracle(), Answers().loader())


class Scoring(Oracle):
    """A model as in Lightning's documentation, with anything but probabilities from its steps."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def predict_step(self, batch, batch_idx):
        return self.outputs(super().predict_step(batch, batch_idx))


@pytest.mark.filterwarnings("ignore:predict returned None")
@pytest.mark.parametrize(
    ("outputs", "got"),
    [
        (lambda proba: None, "got None"),
        (lambda proba: {"loss": proba.sum()}, "got a dict"),
        (lambda proba: proba.sum(), r"got a tensor of \(\), torch.float32"),
        (lambda proba: proba[:, 1], r"got a tensor of \(2,\), torch.float32"),
        (lambda proba: proba.argmax(dim=1), r"got a tensor of \(2,\), torch.int64"),
        (lambda proba: proba[:, :2], r"got a tensor of \(2, 2\), torch.float32"),
        (lambda proba: proba.log().clamp(min=-9), "got numbers below 0, or rows whose sum is not 1"),
        (lambda proba: 2 * proba, "got numbers below 0, or rows whose sum is not 1"),
    ],
)
def test_a_step_that_returns_no_probabilities_gets_no_report_and_a_line_that_says_why(tmp_path, capsys, outputs, got):
    quiet_trainer(tmp_path, EvaluationReport()).test(Scoring(outputs), Answers(), verbose=False)
    predict(tmp_path, Scoring(outputs))
    assert {path.name for path in tmp_path.iterdir()} <= {"predictions.pt"}
    test, predicted, *saved = capsys.readouterr().out.splitlines()
    assert len(saved) == (tmp_path / "predictions.pt").is_file() == (got != "got None")
    expected = r": expected {} to return probabilities \(N, K\), here \(2, 3\), " + got
    assert re.fullmatch("`test` leaves out per_class.csv and errors.csv" + expected.format("test_step"), test)
    assert re.fullmatch("`predict` leaves out its predictions" + expected.format("predict_step"), predicted)


def test_the_model_runs_once_a_batch(tmp_path):
    class Counting(Oracle):
        ran = 0

        def predict_proba(self, x):
            self.ran += 1
            return super().predict_proba(x)

    model = Counting()
    quiet_trainer(tmp_path, EvaluationReport(), Figures()).test(model, Answers(), verbose=False)
    assert model.ran == len(Answers.order)
    assert (tmp_path / "figures/confusion.png").is_file()


# Contributions


class NamedAnswers(Answers):
    feature_names = ("number", "a", "b", "c", "d")
    oos_class = 2

    def batch(self, indices):
        x, *rest = super().batch(indices)
        return torch.cat([x, AMOUNTS[indices]], dim=1), *rest


def test_predictions_list_the_features_that_contributed_most(tmp_path):
    predict(tmp_path, Explained(), NamedAnswers(), PredictionWriter(num_features=2))
    words = [(line["words_for"], line["words_against"]) for line in predictions(tmp_path)]
    assert words[:4] == [
        ([["a", 3.0], ["d", 2.0]], [["b", -1.0]]),
        ([["b", 1.0]], [["c", -7.0], ["d", -6.0]]),
        ([], []),
        ([["d", 3.0], ["c", 2.0]], []),
    ]
    assert [line["out_of_scope"] for line in predictions(tmp_path)] == [False, False, True, False, True]


@pytest.mark.parametrize(("model", "data"), [(Oracle(), NamedAnswers()), (Explained(), Answers())])
def test_without_contributions_or_names_no_features_are_listed(tmp_path, model, data):
    predict(tmp_path, model, data)
    assert list(predictions(tmp_path)[0])[:4] == ["name", "label", "probability", "top_k"]
    assert not {"words_for", "words_against"} & set(predictions(tmp_path)[0])


# Columns of the user's with our names


OWN = {"label": "mine", "probability": 7, "top_k": "all", "out_of_scope": "maybe", "predicted_label": "earlier"}


class SameNames(NamedAnswers):
    """Rows with columns that answers are called by, too."""

    predict_file = "rows.csv"

    def describe(self, indices, split):
        return [OWN | {"target": "mine too"} for _ in indices]

    def input_rows(self, indices):
        return self.describe(indices, "predict")

    def is_empty(self, index):
        return index == 3


def test_columns_of_the_same_names_as_answers_keep_their_values(tmp_path):
    predict(tmp_path, Explained(), SameNames(), PredictionWriter(top_k=1))
    records, lines = predictions(tmp_path), read_csv(tmp_path / "predictions.csv")
    for found in (*records, *lines):
        assert {name: str(found[name]) for name in OWN} == {name: str(value) for name, value in OWN.items()}
    labels = ["red", "green", "blue, or so", None, "blue, or so"]
    assert [record["predicted_predicted_label"] for record in records] == labels
    assert [line["predicted_predicted_label"] or None for line in lines] == labels
    assert [record["predicted_probability"] for record in records] == [0.9, 0.5, 0.7, None, 0.95]
    assert records[0]["predicted_top_k"] == [{"label": "red", "probability": 0.9}]
    assert records[3]["predicted_top_k"] == records[3]["words_for"] == []
    header = (tmp_path / "predictions.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header))


def test_columns_that_only_some_rows_of_the_file_have_come_before_the_answers(tmp_path):
    class Ragged(SameNames):
        def input_rows(self, indices):
            return [{"a": 1} if index < 2 else {"b": [index], "a": "x\ny"} for index in indices]

    predict(tmp_path, data=Ragged())
    lines = read_csv(tmp_path / "predictions.csv")
    assert list(lines[0])[:3] == ["a", "b", "label"]
    assert [(line["a"], line["b"]) for line in lines] == [("1", "")] * 2 + [("x\ny", f"[{i}]") for i in (2, 3, 4)]
    assert [line["label"] for line in lines] == ["red", "green", "blue, or so", "", "blue, or so"]
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.jsonl", "predictions.csv"}


def test_the_terminal_shows_both_columns_of_a_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    predict(tmp_path, Explained(), SameNames())
    printed = capsys.readouterr().out
    first = next(line for line in printed.splitlines() if "mine" in line)
    assert re.split(r" {2,}", first.strip())[:7] == ["mine", "7", "all", "…", "red", "0.900", "no"]
    assert all(
        name in printed for name in (" label ", " probability ", " … 3 more ", " predicted_predicted_label ", " p ")
    )


def test_errors_keep_the_users_own_columns_and_a_formula_among_them_is_disarmed_for_spreadsheets(tmp_path):
    class Formula(SameNames):
        def describe(self, indices, split):
            return [row | {"text": "=cmd()"} for row in super().describe(indices, split)]

    quiet_trainer(tmp_path, EvaluationReport()).test(Oracle(), Formula(), verbose=False)
    (first, *_) = read_csv(tmp_path / "errors.csv")
    assert first["text"] == "'=cmd()"
    assert (first["target"], first["test_target"], first["predicted"]) == ("mine too", "red", "blue, or so")
    assert (first["probability"], first["test_probability"]) == ("7", "0.9500")


@pytest.mark.parametrize("name", ["predictions.csv", "predictions.jsonl", "link.csv"])
def test_predictions_do_not_replace_the_file_that_they_are_of(tmp_path, name):
    (tmp_path / "predictions.csv").write_text("the user's rows")
    (tmp_path / "link.csv").symlink_to("predictions.csv")
    data = SameNames()
    data.predict_file = str(tmp_path / name)
    with pytest.raises(ValueError, match=r"predict_file: expected another file than .*: rename it, and give that name"):
        predict(tmp_path, data=data)
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", "link.csv"}
    assert (tmp_path / "predictions.csv").read_text() == "the user's rows"


# On the terminal


def test_control_characters_and_markup_are_shown_and_not_obeyed(tmp_path, capsys):
    class Hostile(Answers):
        class_names = ("[red]r[/red]", "\x1b]0;title\x07", "\u202eevil")

        def describe(self, indices, split):
            return [{"te\x1bxt": f"\x1b[2J{index}"} for index in indices]

    predict(tmp_path, data=Hostile())
    printed = capsys.readouterr().out
    assert not set("\x1b\x07\u202e") & set(printed)
    assert "[red]r[/red]" in printed
    assert r"\x1b[2J0" in printed
    assert predictions(tmp_path)[1]["label"] == "\x1b]0;title\x07"  # exact in the file
    assert predictions(tmp_path)[2]["te\x1bxt"] == "\x1b[2J2"


def test_many_columns_are_counted_and_not_squeezed(tmp_path, capsys):
    class Wide(Answers):
        def describe(self, indices, split):
            return [{f"feature_{k}": float(k) for k in range(13)} for _ in indices]

    predict(tmp_path, data=Wide())
    printed = capsys.readouterr().out
    assert [f"feature_{k}" in printed for k in range(5)] == [True, True, True, False, False]
    assert "… 10 more" in printed and "green" in printed
    assert all(f"feature_{k}" in predictions(tmp_path)[0] for k in range(13))


class Long(Answers):
    """Many batches in order."""

    order = tuple([[index % 5] for index in range(200)])

    def batch(self, indices):
        return super().batch(indices)[:2]


def test_many_predictions_are_written_piece_by_piece(tmp_path):
    class Many(Long):
        order = ([index % 5 for index in range(9_000)],)

        def describe(self, indices, split):
            assert len(indices) <= 4096
            return super().describe(indices, split)

    predict(tmp_path, data=Many())
    assert [line["name"] for line in predictions(tmp_path)] == [f"predict {row}" for row in range(9_000)]


def test_lines_are_written_as_rows_come_and_appear_all_at_once(tmp_path):
    class Watching(Oracle):
        def predict_step(self, batch, batch_idx):
            (file,) = tmp_path.iterdir()
            assert file.name.startswith(".predictions.jsonl.")
            if batch_idx == 199:
                assert file.stat().st_size > 10_000
            return super().predict_step(batch, batch_idx)

    predict(tmp_path, model=Watching(), data=Long())
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert len(predictions(tmp_path)) == 200


def test_an_error_half_way_leaves_the_earlier_predictions_as_they_were(tmp_path):
    class Failing(Oracle):
        def predict_step(self, batch, batch_idx):
            if batch_idx == 150:
                raise self.error
            return super().predict_step(batch, batch_idx)

    predict(tmp_path)
    before = (tmp_path / "predictions.jsonl").read_bytes()
    for Failing.error, raised in ((OSError("no data"), OSError), (KeyboardInterrupt(), SystemExit)):
        with pytest.raises(raised):
            predict(tmp_path, model=Failing(), data=Long())
        assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]
        assert (tmp_path / "predictions.jsonl").read_bytes() == before
