"""Growth: what do more features, rows, classes and larger batches cost, in time per step and in memory?

Made-up sparse rows of 14 non-zeros, every feature equally likely, which is hardest on the caches. SoftmaxRegression
with L2 on under a Trainer with everything else off; from a base of D = 10⁴ features, N = 10⁴ rows, K = 151 classes and
batches of 256, one number changes at a time. Every measurement is taken in a process of its own, in turns:

  step     median time from one step's beginning to the next one's
  epoch    an epoch's time divided by its steps: with the points of the curves and with what L2 costs at its end
  memory   the most that the process ever had in memory, less what it had after importing
"""

import math
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import Any

from benchmarks import measure

QUESTION = "Growth: SoftmaxRegression with L2 on, 14 non-zeros per row, one number changed at a time"
BASE = {"D": 10_000, "N": 10_000, "K": 151, "batch": 256}
CHANGES = {
    "D": (100_000, 1_000_000),
    "N": (100_000, 1_000_000),
    "K": (10, 1_000),
    "batch": (64, 1_024, 8_192),
}
STEPS = 40  # of an epoch at most


def one(point: dict[str, int]) -> tuple[float, float, float]:
    """Seconds of a step, seconds of an epoch per step, bytes."""
    import resource

    from benchmarks import fits, loops
    from logreg import SoftmaxRegression

    before = _peak(resource)
    rows = max(point["N"], 8 * point["batch"])
    data = loops.MadeUpRows(rows, point["D"], point["K"], point["batch"])
    model = SoftmaxRegression(point["D"], point["K"], lr=1.0, l2=1e-5)
    watch = fits.slim_fit(model, data, max_epochs=3, limit_train_batches=STEPS)
    per_epoch = watch.num_steps // watch.num_epochs
    starts = watch.steps[per_epoch:]  # the first epoch warms up
    within = [b - a for k, (a, b) in enumerate(pairwise(starts), 1) if k % per_epoch]
    return statistics.median(within), statistics.median(watch.epochs[1:]) / per_epoch, _peak(resource) - before


def _peak(resource: Any) -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure, print, write."""
    arguments = measure.options(__doc__).parse_args()
    points = {"base": BASE} | {f"{n} = {v:,}": BASE | {n: v} for n, vs in CHANGES.items() for v in vs}
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in points}
    # Each process is forked from one that has imported everything and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.fits", "logreg"])
    for _ in range(arguments.rounds):
        for name, point in points.items():
            with ProcessPoolExecutor(1, mp_context=context) as process:
                taken[name].append(process.submit(one, point).result())

    figures, goals = [], []
    for name, measured in taken.items():
        label = "D = 10,000, N = 10,000, K = 151, batch = 256" if name == "base" else name
        step, epoch, peak = zip(*measured, strict=True)
        figures.append(measure.figure(f"{label}: step", "ms", [1e3 * t for t in step]))
        figures.append(measure.figure(f"{label}: epoch / steps", "ms", [1e3 * t for t in epoch]))
        figures.append(measure.figure(f"{label}: memory", "MB", [b / 1e6 for b in peak]))
    for part, what in enumerate(("a step", "an epoch / its steps")):
        over = measure.ratio([t[part] for t in taken["D = 1,000,000"]], [t[part] for t in taken["base"]])
        goals.append(measure.Goal(f"{what}, D = 10⁶ / D = 10⁴, L2 on", over, at_most=1.3))
    goals += [_growth(taken, name, values) for name, values in CHANGES.items() if name != "D"]
    most = statistics.median(t[2] for t in taken["N = 1,000,000"]) / (BASE["D"] * 1e6 * 4)
    goals.append(measure.Goal("memory at N = 10⁶, as a share of N·D numbers of 4 bytes", most, at_most=0.05))
    measure.publish("growth", QUESTION, figures, goals, arguments.out)


def _growth(taken: dict[str, list[Any]], name: str, values: tuple[int, ...]) -> measure.Goal:
    """The exponent p in time ∝ number^p, from the base to the largest value: 1 is linear."""
    largest = max(values)
    over = measure.ratio([t[0] for t in taken[f"{name} = {largest:,}"]], [t[0] for t in taken["base"]])
    exponent = math.log(over) / math.log(largest / BASE[name])
    return measure.Goal(f"a step ∝ {name}^p up to {name} = {largest:,}: p", exponent, at_most=1.0)


if __name__ == "__main__":
    main()
