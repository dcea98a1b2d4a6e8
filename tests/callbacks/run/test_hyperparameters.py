"""The options of a run, flat, and the runs that its loggers have of their own."""

import yaml

from callbacks.run.hyperparameters import options_of

CONFIG = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 2, "precision": None, "devices": "auto"},
    "model": {"class_path": "mine.Model", "init_args": {"lr": 0.5, "clip_norm": None}},
    "data": {"class_path": "mine.Data", "init_args": {"words": {"ngram_range": [1, 2]}, "shuffle": True}},
}
OPTIONS = {
    "seed_everything": 7,
    "trainer.max_epochs": 2,
    "model": "Model",
    "model.lr": 0.5,
    "data": "Data",
    "data.words.ngram_range": "[1, 2]",
    "data.shuffle": True,
}


def test_options_are_flat_and_classes_go_by_their_names(tmp_path):
    assert options_of(tmp_path) == {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    assert options_of(tmp_path) == OPTIONS
