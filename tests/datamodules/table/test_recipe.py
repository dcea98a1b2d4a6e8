"""What follows from a table's training rows: the penalty, the rate, batches and epochs."""

import csv
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from datamodules.table.recipe import STRENGTHS, best_strength, chosen_penalty, penalty, stable_rate
from datamodules.table.tabular import TabularDataModule
from tests.tools.ready import ready

CONFIG = "configs/table_csv.yaml"
QUIET = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")


def noise(rows, columns, told):
    """Rows (N, D) of which one column tells the class, in a share of them that is `told`."""
    random = np.random.default_rng(0)
    x, target = random.standard_normal((rows, columns)), random.integers(0, 2, rows)
    x[:, 0] += np.where(random.random(rows) < told, 4 * (2 * target - 1), 0)
    return torch.from_numpy(x).float(), torch.from_numpy(target)


def test_noise_gets_a_strong_penalty_and_what_is_separable_a_weak_one():
    assert STRENGTHS[0] <= best_strength(*noise(100, 60, 0.0), seed=0) < 0.01
    assert 10 < best_strength(*noise(100, 3, 1.0), seed=0) <= STRENGTHS[-1]


def test_rows_too_few_to_hold_any_out_get_scikit_learns_default():
    assert best_strength(torch.eye(2), torch.tensor([0, 1]), seed=0) == 1


def test_a_rare_class_of_many_rows_takes_part(monkeypatch):
    monkeypatch.setattr("datamodules.table.recipe.MOST_ROWS", 50)
    x, target = noise(2_000, 3, 1.0)
    target[:] = 0
    target[[5, 6]] = 1
    assert chosen_penalty(lambda rows: rows, x, target, 0) != penalty(1.0, 2_000)  # what stands for no choice


@pytest.mark.parametrize("rows", [4, 100, 5_000])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e3])
def test_no_rate_overshoots_the_penalty(rows, scale):
    x, target = noise(rows, 3, 0.0)
    rate, l2 = (choose(lambda given: given * scale, x, target, 0) for choose in (stable_rate, chosen_penalty))
    assert 2 * rate * l2 < 1


def test_more_columns_than_rows_take_the_penalty_of_their_products():
    x, target = noise(40, 6, 0.5)
    rotation, _ = torch.linalg.qr(torch.randn(300, 300, generator=torch.Generator().manual_seed(0)))
    assert best_strength(x @ rotation[:6], target, seed=0) == pytest.approx(best_strength(x, target, seed=0), rel=0.01)


def test_a_row_whose_class_no_other_fold_has_is_not_judged_by():
    x, target = noise(100, 3, 1.0)
    target[0] = 2
    assert best_strength(x, target, seed=0) > 1


def test_over_several_tables_the_chosen_strength_is_about_as_good_as_the_best_single_one():
    """Each table alone favours another: wine 100, breast cancer 1."""
    losses = []
    for load, seed in product((load_wine, load_iris, load_breast_cancer), range(3)):
        x, x_test, target, target_test = train_test_split(*load(return_X_y=True), test_size=60, random_state=seed)
        scaler = StandardScaler().fit(x)
        x, x_test = scaler.transform(x), scaler.transform(x_test)
        chosen = best_strength(torch.from_numpy(x).float(), torch.from_numpy(target), seed=seed)
        fits = [LogisticRegression(C=C, max_iter=1_000).fit(x, target) for C in (chosen, 0.1, 1, 10, 100)]
        losses.append([log_loss(target_test, fit.predict_proba(x_test)) for fit in fits])
    ours, *peers = np.mean(losses, axis=0)
    assert ours <= 1.05 * min(peers) + 0.005


def write_wine(path, rows):
    dataset = load_wine()
    with open(path, "w", newline="") as file:
        csv.writer(file).writerow([*dataset.feature_names, "label"])
        csv.writer(file).writerows((*dataset.data[n], dataset.target_names[dataset.target[n]]) for n in rows)
    return path


@pytest.mark.slow
def test_the_default_is_about_as_good_as_scikit_learns_default_on_all_rows(cli, tmp_path):
    order = np.random.default_rng(1).permutation(178)
    files = write_wine(tmp_path / "train.csv", order[60:]), write_wine(tmp_path / "test.csv", order[:60])
    place = ("--data.train_file", files[0], "--data.test_file", files[1], "--data.label_column", "label")
    cli("fit", "--config", CONFIG, *QUIET, "--refit", "true", *place, "--trainer.default_root_dir", tmp_path / "run")
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert all(config["model"]["init_args"][name] is not None for name in ("l2", "lr"))
    again = yaml.safe_load((tmp_path / "run/version_0/config.yaml").read_text())
    assert again["model"]["init_args"]["l2"] == config["model"]["init_args"]["l2"]
    dataset = load_wine()
    x, target = dataset.data, dataset.target
    classifier = pytest.importorskip("deploy.classifier").Classifier.load(tmp_path / "run")
    found = classifier.predict_proba(x[order[:60]]).astype(float)
    found /= found.sum(axis=1, keepdims=True)  # they sum to 1 in float32 only
    mean, scale = x[order[60:]].mean(axis=0), x[order[60:]].std(axis=0)
    x = (x - mean) / scale
    peer = LogisticRegression(max_iter=1_000).fit(x[order[60:]], target[order[60:]])
    expected = log_loss(target[order[:60]], peer.predict_proba(x[order[:60]]))
    assert log_loss(target[order[:60]], found) <= 1.05 * expected + 0.005


class Flowers(TabularDataModule):
    def load_splits(self):
        self.feature_names, self.class_names = ["a", "b", "c"], ["x", "y"]
        x, target = noise(200, 3, 1.0)
        return {"train": (x[:120], target[:120]), "val": (x[120:160], target[120:160]), "test": (x[160:], target[160:])}


def test_nothing_is_chosen_where_it_is_given_and_never_again_after_a_checkpoint():
    data = ready(Flowers(batch_size=None))
    assert (data.batch_size, data.recipe["trainer.max_epochs"]) == (16, 100)
    assert callable(data.recipe["model.l2"])
    data.recipe["model.l2"] = data.recipe["model.l2"]()
    again = Flowers(batch_size=None)
    again.load_state_dict(data.state_dict())
    assert again.recipe["model.l2"] == data.recipe["model.l2"]


def test_a_recipe_in_a_checkpoint_is_numbers_and_no_other_option():
    state = ready(Flowers()).state_dict()
    state["recipe"] |= {"model.net": "os.system", "model.l2": "text", "trainer.max_epochs": 7}
    again = Flowers()
    again.load_state_dict(state)
    assert "model.net" not in again.recipe
    assert isinstance(again.recipe["model.l2"](), float)
    assert again.recipe["trainer.max_epochs"] == 7


def test_any_finite_number_has_finite_probabilities():
    data = ready(Flowers())
    x = data.encode([[3e38, -3e38, 1.0]])
    assert torch.isfinite(x).all()
    assert torch.isfinite(x @ torch.full((3, 2), 1e3)).all()
