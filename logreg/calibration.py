"""Temperature scaling (Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599): probabilities that can be trusted.

Of all predictions with probability 0.8, four in five should be right. One number T, fitted on validation rows, brings
probabilities closer to that: p becomes p^(1/T), divided by its sum over the classes. For softmax regression and the
binary logit that divides the logits by T. The order of the classes stays, and so does the most probable one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from logreg.evaluation import Sampled
from logreg.functional import log_softmax

NUM_BINS = 15  # of the expected calibration error, as in Guo et al.
LOWEST, HIGHEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max  # T: beyond, p is 0, 1 or all alike


def best_temperature(log_proba: Tensor, target: Tensor) -> float:
    """The T with the smallest negative log-likelihood of the rows, found by Newton's method on β = 1/T.

    Where all rows are right, the likelihood grows with β for ever. So β has a prior, the gamma distribution of shape 2
    and rate 1, whose mode is T = 1: it weighs about as much as one row, and keeps T above 0. The sum
    Σ −log p(target) + β − log β is convex in β.

    Args:
        log_proba: (N, K).
        target: class numbers, (N,).

    Returns:
        T above 0; 1 where there is no row, or a number that is not finite.
    """
    if not log_proba.isfinite().all():
        return 1.0
    own = log_proba.gather(1, target.unsqueeze(1)).sum()
    beta = 1.0
    for _ in range(100):
        proba = log_softmax(beta * log_proba).exp()
        mean = (proba * log_proba).sum(dim=1)
        slope = float(mean.sum() - own) + 1 - 1 / beta
        curvature = float((proba * log_proba.square()).sum() - mean.square().sum()) + beta**-2
        before, beta = beta, min(max(beta - slope / curvature, beta / 2), 2 * beta)
        if abs(beta - before) < 1e-6 * before:
            break
    return 1 / beta


class CalibrationMetrics(Sampled):
    """Mean −log p(target) and expected calibration error, of rows that T can be fitted on.

    They come from sums over all rows, as trained and at the T of `update`; at any other T from the rows of the sample.

    Args:
        oos_class: number of the out-of-scope class, with which there are metrics of the in-scope rows alone, too: its
            share often differs between the splits, and no T can know.
    """

    columns = ("log_proba", "target")
    sums: Tensor

    def __init__(self, oos_class: int | None = None) -> None:
        super().__init__()
        self.oos_class, self.temperature = oos_class, 1.0
        self.add_state("sums", default=torch.zeros(2, 2, 4, NUM_BINS + 1), dist_reduce_fx="sum")  # as trained, and at T

    def update(self, log_proba: Tensor, target: Tensor, temperature: float = 1.0) -> None:
        """Add rows: log-probabilities as trained (N, K) and true classes (N,); and the T that they are used at."""
        log_proba, self.temperature = log_proba.float(), temperature
        self.add(log_proba, target)
        self.sums += torch.stack([self._binned(log_proba, target, T) for T in (1.0, temperature)])

    def compute(self) -> dict[str, Tensor]:
        """Metrics of the probabilities as trained."""
        return self._of_sums(self.sums[0])

    def compute_at(self, temperature: float) -> dict[str, Tensor]:
        """Metrics of the probabilities at T."""
        with self.sync_context(should_sync=self._to_sync):
            if temperature == self.temperature:
                return self._of_sums(self.sums[1])
            log_proba, target = self.rows()
            return self._of_sums(self._binned(log_proba, target, temperature))

    def _binned(self, log_proba: Tensor, target: Tensor, temperature: float) -> Tensor:
        """Of rows in and out of scope, by bins of confidence: number, sums of confidence, right predictions, −log p.

        (2, 4, NUM_BINS + 1); as in torchmetrics, a confidence of 1 has a bin of its own.
        """
        if temperature != 1:
            log_proba = log_softmax(log_proba / temperature)
        confidence, label = log_proba.exp().max(dim=1)
        edges = torch.linspace(0, 1, NUM_BINS + 1, dtype=log_proba.dtype, device=log_proba.device)
        nll = -log_proba.gather(1, target.unsqueeze(1)).squeeze(1)
        columns = torch.stack([torch.ones_like(nll), confidence, (label == target).to(nll.dtype), nll])
        bins = torch.bucketize(confidence, edges, right=True) - 1
        if self.oos_class is not None:
            bins = bins + (NUM_BINS + 1) * (target == self.oos_class)
        sums = columns.new_zeros(4, 2 * (NUM_BINS + 1)).index_add_(1, bins, columns)
        return sums.reshape(4, 2, NUM_BINS + 1).transpose(0, 1)

    def _of_sums(self, sums: Tensor) -> dict[str, Tensor]:
        """The mean −log p(target), and |accuracy − mean confidence| averaged over the bins."""
        metrics: dict[str, Tensor] = {}
        groups = {"": sums.sum(dim=0)} if self.oos_class is None else {"": sums.sum(dim=0), "in_scope_": sums[0]}
        for prefix, (count, confidence, right, nll) in groups.items():
            if count.any():
                ece = (right - confidence).abs().sum() / count.sum()
                metrics |= {f"{prefix}nll": nll.sum() / count.sum(), f"{prefix}ece": ece}
        return metrics


class TemperatureScaling(nn.Module):
    """From log-probabilities to probabilities, with a T that is fitted after every validation; a checkpoint keeps it.

    Args:
        calibrate: whether T is fitted; otherwise it is 1, or the number given here.

    Raises:
        ValueError: a T that is not above 0, or none that float32 can divide by.
    """

    def __init__(self, calibrate: bool | float) -> None:
        super().__init__()
        if not isinstance(calibrate, bool) and not LOWEST <= calibrate <= HIGHEST:
            raise ValueError(f"calibrate must be true, false or a temperature above 0, got {calibrate}")
        self.calibrate = calibrate is True
        self.given = 1.0 if isinstance(calibrate, bool) else float(calibrate)
        self.temperature = self.given

    def forward(self, log_proba: Tensor) -> Tensor:
        """Probabilities at T: (N, K) to (N, K), rows sum to 1."""
        return (log_proba if self.temperature == 1 else log_softmax(log_proba / self.temperature)).exp()

    def fit(self, metrics: Any) -> None:
        """Fit T on validation rows, which a `CalibrationMetrics` has collected, or on its sample of them.

        An `OutOfScopeMetrics` beside it gets these rows anew, with their probabilities at T.
        """
        self.temperature = self.given
        if self.calibrate:
            rows = metrics["calibration"]
            self.temperature = best_temperature(*rows.gather())
            if "out_of_scope" in metrics:
                metrics["out_of_scope"].reset()
                for log_proba, target in zip(rows.log_proba, rows.target, strict=True):
                    metrics["out_of_scope"].update(self(log_proba), target)

    def get_extra_state(self) -> Tensor:
        """T; 1 where it was not fitted."""
        return torch.tensor(self.temperature, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.temperature = float(state)
