"""Weights and odds ratios of a model of two classes, as coefficients.csv.

D features. With z = b + Σ w x the log-odds of the second class, exp(w) is the factor by which its odds change where x
rises by one (Hosmer, Lemeshow and Sturdivant 2013, "Applied Logistic Regression", chapter 3).
"""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from callbacks.linear import class_scores
from callbacks.protocols import SCALED_DATA, datamodule_of, lack, offers, optional_of
from callbacks.run.checkpoint_io import weights_of
from callbacks.run.checkpoints import own_checkpoint
from callbacks.tables import atomic_write_csv

HEADER = ("feature", "weight_standardised", "weight_raw", "odds_ratio_standardised", "odds_ratio_raw")


class CoefficientsWriter(L.Callback):
    """After `fit` on two classes: coefficients.csv in the run directory, of the state in best.ckpt.

    One line for each feature and one for the intercept: the weight where a standard deviation is the unit, the weight
    in the column's own unit, and exp of both. A model whose log-odds are no straight line gets no file.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = datamodule_of(trainer)
        if not trainer.is_global_zero or trainer.fast_dev_run or lack(data, SCALED_DATA):  # type: ignore[attr-defined]
            return
        mean, scale = (column.double() for column in data.scaling())
        if len(data.class_names) != 2 or len(data.feature_names) != len(mean):
            return
        best = own_checkpoint(trainer)
        saved = best.best_model_path if best is not None else ""
        with weights_of(saved, pl_module) if saved else nullcontext():
            coefficients = log_odds(pl_module)
        if coefficients is None:
            return
        w, b = coefficients
        raw = w / scale
        rows = [(name, float(v), float(u)) for name, v, u in zip(data.feature_names, w, raw, strict=True)]
        rows.append(("(intercept)", b, b - float((raw * mean).sum())))
        path = Path(trainer.default_root_dir) / "coefficients.csv"
        atomic_write_csv(path, HEADER, ((name, *map(_short, (v, u, _exp(v), _exp(u)))) for name, v, u in rows))


def log_odds(model: Any) -> tuple[Tensor, float] | None:
    """w (D,) and b of the log-odds x @ w + b of the second of two classes, in float64; None where they are no line."""
    if not offers(model, "coefficients") or offers(model, "predict_proba_per_class"):
        return None
    temperature = optional_of(model, "temperature") or 1.0
    W, b = (coefficients.detach().cpu().double() / temperature for coefficients in model.coefficients())
    return class_scores(model, W)[:, 1], float(class_scores(model, b[None])[0, 1])


def _exp(weight: float) -> float:
    return math.exp(weight) if weight < 700 else math.inf


def _short(value: float) -> str:
    return f"{value:.6g}"
