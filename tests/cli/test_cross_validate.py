"""Every row is judged once, by a model that has not seen it; the table is what the rows say."""

import csv
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from cli import cross_validate
from cli.folds import Sample, judge
from cli.refit import Refit

CUSTOMERS = Path("tests/data/customers.csv")


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def validated(tmp_path):
    """`validated("iris_binary", ...)`: lines of cross_validation.csv and of out_of_fold.csv."""

    def run(config, *options):
        if not Path(f"configs/{config}.yaml").is_file():
            pytest.skip("the config was deleted with its task (docs/template.md)")
        place = ("--trainer.default_root_dir", str(tmp_path))
        cross_validate.main(["--config", f"configs/{config}.yaml", *place, *options])
        return read_csv(tmp_path / "cross_validation.csv"), read_csv(tmp_path / "out_of_fold.csv")

    return run


def test_folds_are_scikit_learns_and_the_table_is_what_the_rows_say(validated, capsys):
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


def test_the_probabilities_are_those_of_scikit_learn_fitted_on_the_other_folds():
    pytest.importorskip("datamodules.table.iris")
    refit = Refit(["--config", "configs/iris_binary.yaml", "--model.l2", "0.01", "--trainer.max_epochs", "60"])
    sample = Sample(refit)
    divided = sample.divide(2, seed=0)
    for (seen, held_out), fold in zip(divided, judge(refit, sample, divided), strict=True):
        scaler = StandardScaler().fit(sample.x[seen])
        peer = LogisticRegression(C=1 / (2 * len(seen) * 0.01)).fit(
            scaler.transform(sample.x[seen]), sample.labels[seen]
        )
        expected = peer.predict_proba(scaler.transform(sample.x[held_out]))
        np.testing.assert_allclose(fold.proba, expected, atol=0.02)
        assert fold.target.tolist() == sample.labels[held_out].tolist()


def test_rows_of_a_table_come_with_their_own_columns_and_those_of_the_test_stay_out(validated):
    _, rows = validated("table_csv", "--folds", "2", "--trainer.max_epochs", "3")
    assert list(rows[0]) == [
        *("split", "row", "age", "months", "plan", "town"),
        *("fold", "label", "predicted", "p_label", "p_predicted"),
    ]
    given = Counter((row["age"], row["months"], row["plan"], row["town"], row["leaves"]) for row in read_csv(CUSTOMERS))
    found = Counter((row["age"], row["months"], row["plan"], row["town"], row["label"]) for row in rows)
    assert found < given
    assert len(rows) == 128  # of 160; a fifth is the test's


def test_columns_with_the_names_of_the_report_keep_their_values(validated, tmp_path):
    pytest.importorskip("logreg.softmax")  # with which table_csv's model and the customers are deleted
    own = {"age": "row", "months": "fold", "plan": "label", "town": "predicted"}
    file = tmp_path / "customers.csv"
    header, *lines = CUSTOMERS.read_text().splitlines()
    file.write_text("\n".join([",".join(own.get(name, name) for name in header.split(",")), *lines]))
    _, rows = validated("table_csv", "--folds", "2", "--trainer.max_epochs", "2", "--data.train_file", str(file))
    assert list(rows[0]) == [
        *("split", "cv_row", "row", "fold", "label", "predicted"),
        *("cv_fold", "cv_label", "cv_predicted", "p_label", "p_predicted"),
    ]
    given = {tuple(row.values()) for row in read_csv(CUSTOMERS)}
    assert {(*(row[name] for name in own.values()), row["cv_label"]) for row in rows} < given


def test_texts_with_an_out_of_scope_label_are_judged_by_all_metrics_without_a_threshold_of_their_own(validated):
    table, rows = validated("text_csv", "--folds", "3", "--trainer.max_epochs", "8", "--model.calibrate", "true")
    assert {"loss", "accuracy", "macro_f1", "in_scope_accuracy", "oos_recall", "nll"} < set(table[0])
    assert not [name for name in table[0] if name.startswith(("val_at_threshold", "val_calibrated"))]
    in_scope = [row for row in rows if row["label"] != "other" and row["fold"] == "1"]
    share = np.mean([row["label"] == row["predicted"] for row in in_scope])
    assert float(table[0]["in_scope_accuracy"]) == pytest.approx(share, abs=1e-5)


def test_a_threshold_that_is_a_number_is_judged_too(validated):
    table, _ = validated("text_csv", "--folds", "2", "--trainer.max_epochs", "2", "--model.threshold", "0.4")
    assert float(table[0]["val_at_threshold/threshold"]) == pytest.approx(0.4)


def sentences(counts):
    return [f"{label} {word}" for label, n in counts.items() for word in ("one", "two", "three", "four", "five")[:n]]


@pytest.fixture
def sample(tmp_path):
    """`sample({"a": 2, ...})`: texts with as many rows of each label."""
    pytest.importorskip("datamodules.text.sentences")

    def make(counts):
        lines = [f"{text},{text.split()[0]}" for text in sentences(counts)]
        for name, rows in (("train", lines), ("val", lines[:1]), ("test", lines[:1])):
            (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
        files = [w for name in ("train", "val", "test") for w in (f"--data.{name}_file", str(tmp_path / f"{name}.csv"))]
        return Sample(Refit(["--config", "configs/text_csv.yaml", "--data.oos_label", "null", *files]))

    return make


def test_few_rows_lower_the_number_of_folds_and_are_said(sample, capsys):
    divided = sample({"rain": 2, "jazz": 3}).divide(5, seed=0)  # and a row of "rain" for validation
    assert len(divided) == 3
    assert "no label has more than 3 rows: 3 folds instead of 5" in capsys.readouterr().err
    divided = sample({"rain": 5, "jazz": 3}).divide(5, seed=0)
    assert len(divided) == 5
    assert "fewer rows than folds, so not in every fold: 'jazz'" in capsys.readouterr().err


def test_the_only_row_of_a_label_is_learned_from_and_never_judged(sample, capsys):
    rows = sample({"rain": 5, "jazz": 1})
    only = rows.names.index("jazz")
    divided = rows.divide(5, seed=0)
    assert all(only in seen for seen, _ in divided)
    assert sorted(np.concatenate([judged for _, judged in divided])) == [n for n in range(7) if n != only]
    assert all(set(seen) | set(judged) == set(range(7)) and not set(seen) & set(judged) for seen, judged in divided)
    assert "a single row, so learned from and never judged: 'jazz'" in capsys.readouterr().err


def test_a_runs_own_config_is_judged_as_well(cli, tmp_path):
    pytest.importorskip("datamodules.table.iris")
    quick = ("--trainer.max_epochs", 2, "--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false")
    cli("fit", "--config", "configs/iris_binary.yaml", *quick, "--trainer.default_root_dir", tmp_path / "run")
    cross_validate.main(["--config", str(tmp_path / "run/config.yaml"), "--folds", "2"])


def test_what_cannot_be_divided_is_refused(sample):
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        sample({"rain": 5, "jazz": 5}).divide(1, seed=0)
    rows = sample({"rain": 1, "jazz": 1})
    rows.names = ["rain", "jazz"]
    with pytest.raises(ValueError, match=r"expected two rows of a label, .* got one of each"):
        rows.divide(2, seed=0)


def test_a_fit_that_diverges_is_one_line(validated, tmp_path):
    with pytest.raises(ValueError, match="the fit diverged, its probabilities are no numbers"):
        validated("iris_binary", "--model.optimizer.lr", "1e38", "--trainer.max_epochs", "3")
    assert list(tmp_path.iterdir()) == []
