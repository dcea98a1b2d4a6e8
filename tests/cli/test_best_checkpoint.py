"""best.ckpt is chosen by the loss on the data, not by the objective, whose penalty grows with W."""

import csv
import random

import pytest
import torch

pytest.importorskip("datamodules.text.sentences", reason="deleted with its task")


def many_labels(path, labels=60, rows=900):
    """Texts of 1 to 4 made-up words; each label has 500 words of its own, some of them common."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    texts = []
    for label in range(labels):
        words = ["".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(500)]
        weights = [1 / (rank + 30) for rank in range(500)]
        for _ in range(rows // labels):
            texts.append((" ".join(draw.choices(words, weights, k=draw.randint(1, 4))), f"label_{label:02}"))
    draw.shuffle(texts)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts])
    return path


def test_the_best_epoch_is_the_one_with_the_lowest_loss_on_the_data(cli, tmp_path):
    file, run = many_labels(tmp_path / "intents.csv"), tmp_path / "run"
    quiet = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false")
    options = ("--data.train_file", file, "--data.oos_label", "null", "--model.l2", 1e-3)
    cli("fit", "--config", "configs/text_csv.yaml", *quiet, *options, "--trainer.default_root_dir", run)

    with (run / "metrics.csv").open(newline="") as rows:
        epochs = [row for row in csv.DictReader(rows) if row["val/loss"]]
    loss, objective = ([float(row[name]) for row in epochs] for name in ("val/loss", "val/objective"))
    best = 1 + loss.index(min(loss))
    assert best != 1 + objective.index(min(objective))  # else this data shows nothing
    states = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["callbacks"]
    [state] = [state for name, state in states.items() if "Checkpoint" in name and state]
    assert state["best_state"] == f"epoch {best}"
    assert float(state["best"]) == pytest.approx(min(loss), rel=1e-5)
