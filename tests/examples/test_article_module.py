"""The article as a LightningModule is the article's loop and the production module, and docs/learn.md shows it."""

import inspect
import re
import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from examples import article_module
from examples.article_module import ArticleModule
from examples.from_scratch import shuffled, toy_points, train
from logreg.softmax import SoftmaxRegression
from tests.tools.runs import quiet_trainer

ROOT = Path(__file__).parents[2]
SOURCE = inspect.getsource(ArticleModule)
pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


def trained(model, batches):
    trainer = quiet_trainer(None, max_epochs=1, enable_checkpointing=False)
    trainer.fit(model, DataLoader(batches, batch_size=None))
    return model


def test_it_equals_the_loop_by_hand_and_the_production_module_on_the_same_batches():
    batches = list(shuffled(*toy_points(), batch_size=100, epochs=10, seed=42))
    options = {"lr": 0.5, "seed": 42}
    *_, step = train(batches, 3, 3, l2=1e-2, **options)
    article = trained(ArticleModule(3, 3, l2_lambda=1e-2, **options), batches)
    production = trained(SoftmaxRegression(3, 3, l2=1e-2, **options), batches)
    assert article.W.norm() > 1  # it has moved
    for W, b in ((step.W, step.b), (production.W.dense(), production.b)):
        torch.testing.assert_close(article.W.detach(), W.detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(article.b.detach(), b.detach(), rtol=0, atol=1e-6)


def test_it_predicts_the_class_of_the_largest_logit():
    model = ArticleModule(2, 3)
    with torch.no_grad():
        model.b[1] = 5
    assert model.predict_step([torch.zeros(4, 2)], 0).tolist() == [1, 1, 1, 1]


def test_it_is_short_and_names_the_articles_files_and_steps_in_their_order():
    assert len([line for line in SOURCE.splitlines() if line.strip()]) <= 27
    assert re.findall(r"# (\d)\. (\w+)", SOURCE) == [
        *(("1", "shuffle"), ("2", "forward"), ("3", "loss"), ("4", "backward"), ("5", "update"), ("6", "zero")),
    ]
    files = {"config", "init", "forward", "softmax_intuition", "cross_entropy", "l2_penalty", "train_loop", "predict"}
    assert set(re.findall(r"(\w+)\.py", SOURCE)) == files


def test_the_page_on_learning_shows_it_as_it_stands():
    page = (ROOT / "docs/learn.md").read_text(encoding="utf-8")
    assert re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE) == [SOURCE]


def test_its_steps_are_those_of_the_production_form():
    def steps(source):
        return re.findall(r"# (\d)\. (\w+)", source)

    assert steps(inspect.getsource(SoftmaxRegression.training_step)) == steps(SOURCE)


def test_its_command_trains_and_prints_what_came_of_it(capsys):
    warnings.simplefilter("ignore")  # Lightning's advice on workers and logging
    runpy.run_path(article_module.__file__, run_name="__main__")
    objective, accuracy = re.search(r"objective ([\d.]+), training accuracy ([\d.]+)", capsys.readouterr().out).groups()
    assert float(objective) < 0.3
    assert float(accuracy) > 0.95
