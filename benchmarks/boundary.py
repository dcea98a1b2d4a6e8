"""Decision boundary: how many milliseconds does a picture cost a training run?

Iris, two features, once with a single line (BinaryLogit) and once with three members (OneVsAll). A picture is what the
callback does at the end of an epoch with every default: 200 × 200 grid, drawing, PNG. The grid alone is measured too,
and the GIF that is made of five pictures at the end.
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
    arguments = measure.options(__doc__).parse_args()
    import torch

    from benchmarks.fits import slim_fit
    from callbacks import DecisionBoundary
    from callbacks.decision_boundary import boundary_grid
    from datamodules import IrisDataModule
    from logreg import BinaryLogit, OneVsAll

    on_the_side: dict[str, list[float]] = {}

    class Timed(DecisionBoundary):
        """Notes how long each hook took."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            self.pictures: list[float] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            whole = super().on_train_epoch_end
            self.pictures.append(measure.seconds(lambda: whole(trainer, pl_module)))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            whole = super().on_train_end
            self.gif = measure.seconds(lambda: whole(trainer, pl_module))

    def fit(name: str, make: Callable[..., Any], classes: list[str]) -> float:
        data = IrisDataModule(classes=classes, features=["petal length", "petal width"])
        model = make(data)
        callback = Timed(every_n_epochs=1)
        with tempfile.TemporaryDirectory() as folder:
            slim_fit(model, data, callback, max_epochs=PICTURES, default_root_dir=folder)
        x = torch.cat([data.points(split)[0] for split in ("train", "val")])
        predict = torch.no_grad()(lambda rows: model.predict_proba(data.transform(rows).float()))
        on_the_side.setdefault(f"{name}: grid alone", []).append(measure.seconds(lambda: boundary_grid(x, predict)))
        on_the_side.setdefault(f"{name}: GIF of {PICTURES}", []).append(callback.gif)
        return statistics.median(callback.pictures)

    sgd = partial(torch.optim.SGD, lr=0.5)
    two, three = ["versicolor", "virginica"], ["setosa", "versicolor", "virginica"]
    race = {
        "BinaryLogit": lambda: fit("BinaryLogit", lambda data: BinaryLogit(2, optimizer=sgd), two),
        "OneVsAll": lambda: fit("OneVsAll", lambda data: OneVsAll(2, 3, optimizer=sgd), three),
    }
    taken = measure.interleaved(race, arguments.rounds)
    taken = {f"{name}: a picture": times for name, times in taken.items()}
    taken |= {name: times[-arguments.rounds :] for name, times in on_the_side.items()}
    figures = [measure.figure(name, "ms", [1e3 * t for t in times]) for name, times in sorted(taken.items())]
    measure.publish("boundary", QUESTION, figures, [], arguments.out)


if __name__ == "__main__":
    main()
