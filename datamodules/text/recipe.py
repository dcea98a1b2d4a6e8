"""Defaults of a fit on sentences, by the number of its rows and labels: n-grams, batches, rate, epochs.

Chosen by test figures on 100 to 1,000,000 rows of 2 to 150 labels (benchmarks/own_data.py, benchmarks/race.py), and on
public sets: TREC, SST, SUBJ, MPQA, customer and film reviews, SMS spam, Snips, AG News, BANKING77.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datamodules.text.features import ALL_WORDS, Ngrams

NUMBERS = ("refit", "data.batch_size", "model.lr", "trainer.max_epochs")  # the options of a recipe
# Up to so many rows: batch size, rate, epochs. N-grams of characters, of which a text has a hundred, want lower rates,
# and so do few classes, each of which has more of the gradient: at 120 the steps of a fit of two are noise.
SIZES: dict[float, tuple[int, float, int]] = {
    5_000: (128, 200.0, 30),
    20_000: (128, 200.0, 20),
    50_000: (256, 200.0, 12),
    300_000: (1024, 800.0, 5),
    math.inf: (1024, 1_600.0, 1),
}
FEW = 50_000  # rows, up to which n-grams of characters and a second fit on all rows are worth their time
MANY = 22  # classes, from which on the rates are as above
# Thai, Lao, Myanmar, Khmer, kana, Han.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def is_unspaced(texts: Sequence[str]) -> bool:
    """Whether most letters are of scripts that put no spaces between words, in a thousand of the texts."""
    sample = "".join(texts[:: -(-len(texts) // 1_000)])
    return 2 * len(UNSPACED.findall(sample)) > len(re.findall(r"\w", sample))


def ngrams_for(texts: Sequence[str]) -> dict[str, Ngrams]:
    """The n-grams for N training texts: words and characters; of many texts words alone; without spaces characters."""
    few = len(texts) <= FEW
    limits: dict[str, Any] = {"sublinear_tf": True} | ({} if few else {"min_df": 2, "max_features": 100_000})
    if is_unspaced(texts):
        return {"chars": Ngrams("char_wb", (1, 3), **limits)}
    words = {"words": Ngrams("word", (1, 2), token_pattern=ALL_WORDS, **limits)}
    return words | ({"chars": Ngrams("char_wb", (2, 4), min_df=2, sublinear_tf=True)} if few else {})


def as_options(ngrams: dict[str, Ngrams]) -> dict[str, Any]:
    """The options of a datamodule that give it these n-grams, by their names."""
    own = {f"data.{name}": asdict(options) for name, options in ngrams.items()}
    return {"data.words": None, "data.chars": None, "data.preset": None} | own


def numbers_of(recipe: Mapping[str, Any]) -> dict[str, float]:
    """What a checkpoint keeps of a recipe, and what counts of one that a checkpoint holds."""
    return {name: recipe[name] for name in NUMBERS if isinstance(recipe.get(name), int | float)}


def recipe(rows: int, classes: int, batch_size: int | None = None) -> dict[str, Any]:
    """Options for so many training rows and classes, by their names; the rate goes with a batch size that is given.

    >>> recipe(1_000, 2)["model.lr"], recipe(1_000, 150)["model.lr"], recipe(1_000_000, 2)["model.lr"]
    (60.3, 200.0, 1600.0)
    """
    size, lr, epochs = next(numbers for most, numbers in SIZES.items() if rows <= most)
    batch_size = batch_size or size
    if rows <= FEW:
        lr *= min(1.0, math.sqrt(classes / MANY))
    lr = float(f"{lr * batch_size / size:.3g}")
    return dict(zip(NUMBERS, (rows <= FEW, batch_size, lr, epochs), strict=True))
