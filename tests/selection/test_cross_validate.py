"""Every row is judged once, by a model that has not seen it; the table is what the rows say."""

import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from datamodules.splits import stratified_folds
from selection import cross_validate
from selection.configured import Configured
from selection.sample import Sample
from tests.selection.helpers import config_file, read_csv

CUSTOMERS = Path("tests/data/customers.csv")
OOS = ("--data.oos_label", "other")
NUMBERS = {
    **{"data.preset": "null", "data.words": "{ngram_range: [1, 2]}", "data.batch_size": "128"},
    **{"data.feature_dropout": "0.3", "model.lr": "240", "trainer.max_epochs": "30"},
}


@pytest.fixture
def validated(tmp_path):
    """`validated("iris_binary", ...)`: lines of cross_validation.csv and of out_of_fold.csv."""

    def run(config, *options):
        place = ("--trainer.default_root_dir", str(tmp_path))
        cross_validate.main(["--config", config_file(config), *place, *options])
        return read_csv(tmp_path / "cross_validation.csv"), read_csv(tmp_path / "out_of_fold.csv")

    return run


def test_folds_are_scikit_learns_and_the_table_is_what_the_rows_say(validated, capsys, tmp_path):
    table, rows = validated("iris_binary", "--folds", "3", "--trainer.max_epochs", "5")
    assert [(row["split"], row["row"]) for row in rows] == [
        *(("train", str(n)) for n in range(60)),
        *(("val", str(n)) for n in range(20)),
    ]
    labels = [row["label"] for row in rows]
    for number, (_, held_out) in enumerate(StratifiedKFold(3, shuffle=True, random_state=42).split(labels, labels), 1):
        mine = [row for row in rows if row["fold"] == str(number)]
        assert [rows.index(row) for row in mine] == held_out.tolist()
        target, predicted = ([row[name] for row in mine] for name in ("label", "predicted"))
        assert float(table[number - 1]["accuracy"]) == pytest.approx(accuracy_score(target, predicted), abs=1e-5)
        macro_f1 = f1_score(target, predicted, average="macro")
        assert float(table[number - 1]["macro_f1"]) == pytest.approx(macro_f1, abs=1e-5)
        nll = -np.log([float(row["p_label"]) for row in mine]).mean()
        assert float(table[number - 1]["nll"]) == pytest.approx(nll, abs=1e-4)
        assert float(table[number - 1]["loss"]) == pytest.approx(nll, abs=1e-4)  # no class weights
    assert [line["fold"] for line in table] == ["1", "2", "3", "mean", "std"]
    accuracies = [float(line["accuracy"]) for line in table]
    mean, deviation = statistics.fmean(accuracies[:3]), statistics.stdev(accuracies[:3])
    assert accuracies[3:] == pytest.approx([mean, deviation], abs=1e-5)
    assert f"{mean:.4f} ± {deviation:.4f}" in capsys.readouterr().out
    pytest.importorskip("callbacks.figures.canvas")
    with Image.open(tmp_path / "cross_validation.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10


def test_the_probabilities_are_those_of_scikit_learn_fitted_on_the_other_folds():
    pytest.importorskip("datamodules.table.iris")
    short = ("--model.l2", "0.01", "--trainer.max_epochs", "60")
    sample = Sample(Configured(["--config", "configs/iris_binary.yaml", *short]), "train", "val")
    divided = stratified_folds(sample.names, 2, seed=0)
    x, labels = sample.x.numpy(), sample.target
    for seen, held_out in divided:
        fold = sample.judge(seen, held_out)
        scaler = StandardScaler().fit(x[seen])
        peer = LogisticRegression(C=1 / (2 * len(seen) * 0.01)).fit(scaler.transform(x[seen]), labels[seen])
        np.testing.assert_allclose(fold.proba, peer.predict_proba(scaler.transform(x[held_out])), atol=0.02)
        assert fold.rows.tolist() == held_out.tolist()


@pytest.mark.parametrize(
    ("own", "judged"),
    [
        (("age", "months", "plan", "town"), ("fold", "label", "predicted", "p_label", "p_predicted")),
        (("row", "fold", "label", "predicted"), ("cv_fold", "cv_label", "cv_predicted", "p_label", "p_predicted")),
    ],
    ids=["of others", "of the report"],
)
def test_rows_of_a_table_come_with_their_own_columns_whatever_their_names(validated, tmp_path, own, judged):
    pytest.importorskip("logreg.softmax")  # with which table_csv's model and the customers are deleted
    file = tmp_path / "customers.csv"
    file.write_text("\n".join([",".join([*own, "leaves"]), *CUSTOMERS.read_text().splitlines()[1:]]))
    _, rows = validated("table_csv", "--folds", "2", "--trainer.max_epochs", "2", "--data.train_file", str(file))
    assert list(rows[0]) == ["split", "cv_row" if "row" in own else "row", *own, *judged]
    given = Counter(tuple(row.values()) for row in read_csv(CUSTOMERS))
    assert Counter((*(row[name] for name in own), row[judged[1]]) for row in rows) < given
    assert len(rows) == 128  # of 160; a fifth is the test's


def test_texts_with_an_out_of_scope_label_are_judged_by_all_metrics_without_a_threshold_of_their_own(validated):
    table, rows = validated("text_csv", *OOS, "--folds", "3", "--trainer.max_epochs", "8", "--model.calibrate", "true")
    assert {"loss", "accuracy", "macro_f1", "in_scope_accuracy", "oos_recall", "nll"} < set(table[0])
    assert not [name for name in table[0] if name.startswith(("val_at_threshold", "val_calibrated"))]
    in_scope = [row for row in rows if row["label"] != "other" and row["fold"] == "1"]
    share = np.mean([row["label"] == row["predicted"] for row in in_scope])
    assert float(table[0]["in_scope_accuracy"]) == pytest.approx(share, abs=1e-5)


def test_a_threshold_that_is_a_number_is_judged_too(validated):
    table, _ = validated("text_csv", *OOS, "--folds", "2", "--trainer.max_epochs", "2", "--model.threshold", "0.4")
    assert float(table[0]["val_at_threshold/threshold"]) == pytest.approx(0.4)


def test_without_the_folder_of_figures_one_line_replaces_the_picture(validated, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cli.capabilities.find_spec", lambda name: None)
    validated("iris_binary", "--folds", "2", "--trainer.max_epochs", "1")
    assert "no cross_validation.png: it needs the folder callbacks/figures/\n" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"cross_validation.csv", "out_of_fold.csv"}


def test_a_runs_own_config_is_judged_as_well(cli, tmp_path):
    pytest.importorskip("datamodules.table.iris")
    quick = ("--trainer.max_epochs", 2, "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false")
    cli("fit", "--config", "configs/iris_binary.yaml", *quick, "--trainer.default_root_dir", tmp_path / "run")
    cross_validate.main(["--config", str(tmp_path / "run/config.yaml"), "--folds", "2"])


def test_a_fit_that_diverges_is_one_line(validated, tmp_path):
    with pytest.raises(ValueError, match="the fit diverged, its weights are no numbers"):
        validated("iris_binary", "--model.optimizer.lr", "1e38", "--trainer.max_epochs", "3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(
            "iris_ova",
            {"nll": (0.272852, 0.040198), "accuracy_versicolor": (0.633333, 0.045644)},
            marks=pytest.mark.slow,
        ),
        ("text_csv", {"nll": (0.189798, 0.077961), "oos_recall": (0.3, 0.273861)}),
    ],
)
def test_the_figures_are_those_of_a_loop_by_hand(validated, config, expected):
    options = [*OOS, *(f"--{name}={value}" for name, value in NUMBERS.items())] if config == "text_csv" else []
    mean, deviation = validated(config, *options)[0][-2:]  # as they were before scikit-learn did the loop
    assert (mean["fold"], deviation["fold"]) == ("mean", "std")
    assert {name: (float(mean[name]), float(deviation[name])) for name in expected} == expected
