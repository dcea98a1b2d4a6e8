"""Decision boundary: how many milliseconds does a picture add to a fit?

Iris with two features, once with a single line (BinaryLogit) and once with three classifiers (OneVsAll). A picture is
what the callback does at the end of an epoch with its defaults: evaluating a 200 × 200 grid, drawing, writing the PNG.
The grid alone is measured too, and the GIF made of three pictures at the end of the fit.
"""

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import measure

QUESTION = "DecisionBoundary on Iris: cost of a picture"
PICTURES = 3


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    import torch

    from benchmarks.fits import minimal_fit
    from callbacks.figures.boundary import DecisionBoundary, boundary_grid
    from datamodules.table.iris import IrisDataModule
    from logreg.binary import BinaryLogit
    from logreg.one_vs_all import OneVsAll

    other_times: dict[str, list[float]] = {}  # measured in the same fits

    class TimedDecisionBoundary(DecisionBoundary):
        """Records how long its hooks take."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            self.picture_seconds: list[float] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            hook = super().on_train_epoch_end
            self.picture_seconds.append(measure.seconds(lambda: hook(trainer, pl_module)))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            hook = super().on_train_end
            self.gif_seconds = measure.seconds(lambda: hook(trainer, pl_module))

    def fit(name: str, make_model: Callable[[], Any], classes: list[str]) -> float:
        data, model = IrisDataModule(classes=classes, features=["petal length", "petal width"]), make_model()
        callback = TimedDecisionBoundary(every_n_epochs=1)
        with tempfile.TemporaryDirectory() as folder:
            minimal_fit(model, data, callback, max_epochs=PICTURES, default_root_dir=folder)
        x = torch.cat([data.points(split)[0] for split in ("train", "val")])
        predict = torch.no_grad()(lambda points: model.predict_proba(data.transform(points).float()))
        other_times.setdefault(f"{name}: grid alone", []).append(measure.seconds(lambda: boundary_grid(x, predict)))
        other_times.setdefault(f"{name}: GIF of {PICTURES}", []).append(callback.gif_seconds)
        return statistics.median(callback.picture_seconds)

    sgd = partial(torch.optim.SGD, lr=0.5)
    two, three = ["versicolor", "virginica"], ["setosa", "versicolor", "virginica"]
    contestants = {
        "BinaryLogit": lambda: fit("BinaryLogit", lambda: BinaryLogit(2, optimizer=sgd), two),
        "OneVsAll": lambda: fit("OneVsAll", lambda: OneVsAll(2, 3, optimizer=sgd), three),
    }
    values = measure.interleaved(contestants, arguments.rounds)
    values = {f"{name}: a picture": times for name, times in values.items()}
    values |= {name: times[-arguments.rounds :] for name, times in other_times.items()}  # without the warm-up
    measurements = [measure.summarize(name, "ms", [1e3 * t for t in times]) for name, times in sorted(values.items())]
    measure.publish("boundary", QUESTION, measurements, [], arguments.out)


if __name__ == "__main__":
    main()
