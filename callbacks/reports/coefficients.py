"""What people fit a logistic regression for: a weight and an odds ratio for each feature.

D features. With z = b + Σ w x the log-odds of the second class, exp(w) is the factor by which its odds change where x
rises by one (Hosmer, Lemeshow and Sturdivant 2013, "Applied Logistic Regression", chapter 3).
"""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from callbacks.files import atomic_write_csv
from callbacks.protocols import LogitClassifier, ScaledData, datamodule_of, lack
from callbacks.run.checkpoints import own_checkpoint, weights_of

HEADER = ("feature", "weight_standardised", "weight_raw", "odds_ratio_standardised", "odds_ratio_raw")


class CoefficientsWriter(L.Callback):
    """After `fit` on two classes: coefficients.csv in the run directory, of the state in best.ckpt.

    One line for each feature and one for the intercept: the weight where a standard deviation is the unit, the weight
    in the column's own unit, and exp of both. A model whose log-odds are no straight line gets no file.
    """

    @staticmethod
    def unmet(model: object, datamodule: object) -> str | None:
        """What is lacking of model or datamodule, in one line with signatures; None if it applies."""
        return lack(model, LogitClassifier) or lack(datamodule, ScaledData)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = datamodule_of(trainer)
        if not trainer.is_global_zero or trainer.fast_dev_run or self.unmet(pl_module, data):  # type: ignore[attr-defined]
            return
        mean, scale = (column.double() for column in cast(ScaledData, data).scaling())
        if len(data.class_names) != 2 or len(data.feature_names) != len(mean):
            return
        best = own_checkpoint(trainer)
        saved = best.best_model_path if best is not None else ""
        with weights_of(saved, pl_module) if saved else nullcontext():
            coefficients = log_odds(pl_module, len(mean))
        if coefficients is None:
            return
        w, b = coefficients
        raw = w / scale
        rows = [(name, float(v), float(u)) for name, v, u in zip(data.feature_names, w, raw, strict=True)]
        rows.append(("(intercept)", b, b - float((raw * mean).sum())))
        path = Path(trainer.default_root_dir) / "coefficients.csv"
        atomic_write_csv(path, HEADER, ((name, *map(_short, (v, u, _exp(v), _exp(u)))) for name, v, u in rows))
        print(
            f"coefficients of {data.class_names[1]!r} against {data.class_names[0]!r} in {path}; they are penalised, "
            "and have no standard errors: for those, fit statsmodels.api.Logit without a penalty"
        )


@torch.no_grad()
def log_odds(model: Any, num_features: int) -> tuple[Tensor, float] | None:
    """w (D,) and b of the log-odds w·x + b of the second of two classes, in float64; None if they are no line.

    Args:
        model: a `LogitClassifier`.
        num_features: D.
    """
    parameter = next(model.parameters())

    def logit(x: Tensor) -> Tensor:
        logits = model(x.to(parameter.device, parameter.dtype)).cpu().double()
        return logits if logits.ndim == 1 else logits[:, 1] - logits[:, 0]

    was_training = model.training
    model.eval()
    b = logit(torch.zeros(1, num_features))
    w = torch.cat([logit(part) - b for part in torch.eye(num_features).split(1024)])
    x = torch.randn(64, num_features, generator=torch.Generator().manual_seed(0))
    proba = model.predict_proba(x.to(parameter.device, parameter.dtype)).cpu().double()
    model.train(was_training)
    is_line = torch.allclose(torch.sigmoid(x.double() @ w + b), proba[:, 1], atol=1e-3)
    return (w, float(b)) if is_line else None


def _exp(weight: float) -> float:
    return math.exp(weight) if weight < 700 else math.inf


def _short(value: float) -> str:
    return f"{value:.6g}"
