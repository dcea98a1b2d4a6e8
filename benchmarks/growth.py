"""Growth: what do more features, rows, classes and larger batches cost, in time per step and in memory?

Synthetic sparse rows of 14 non-zeros, every feature equally likely, which is the worst case for the caches.
SoftmaxRegression with an L2 penalty under a minimal Trainer; from a base of D = 10⁴ features, N = 10⁴ rows, K = 151
classes and batches of 256, one number changes at a time. Every measurement runs in a process of its own, in turns:

  step     median time from the start of one step to the start of the next
  epoch    time of an epoch over its number of steps: includes the metrics logged at every tenth step
  memory   peak memory of the process, minus its memory after importing
"""

import math
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import NamedTuple

from benchmarks import measure

QUESTION = "Growth: SoftmaxRegression with L2 on, 14 non-zeros per row, one number changed at a time"
BASE = {"D": 10_000, "N": 10_000, "K": 151, "batch": 256}
CHANGES = {
    "D": (100_000, 1_000_000),
    "N": (1_000_000,),
    "K": (1_000,),
    "batch": (64, 8_192),
}
STEPS = 40  # of an epoch at most


class Cost(NamedTuple):
    """Seconds of the median step, seconds of the median epoch over its number of steps, bytes of memory."""

    step: float
    epoch: float
    memory: float


def measure_cost(size: dict[str, int]) -> Cost:
    """Fit on data of this size: D, N, K and batch."""
    import resource

    from benchmarks import fits, loops
    from logreg.softmax import SoftmaxRegression

    imported = measure.peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    data = loops.SyntheticData(max(size["N"], 8 * size["batch"]), size["D"], size["K"], size["batch"])
    model = SoftmaxRegression(size["D"], size["K"], lr=1.0, l2=1e-5)
    timer = fits.minimal_fit(model, data, max_epochs=3, limit_train_batches=STEPS, log_every_n_steps=10)
    epoch_length = timer.num_steps // timer.num_epochs
    starts = timer.step_starts[epoch_length:]  # the first epoch warms up
    steps = [end - start for k, (start, end) in enumerate(pairwise(starts), 1) if k % epoch_length]
    epoch = statistics.median(timer.epoch_seconds[1:]) / epoch_length
    memory = measure.peak_memory(resource.getrusage(resource.RUSAGE_SELF)) - imported
    return Cost(statistics.median(steps), epoch, memory)


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    sizes = {"base": BASE} | {f"{n} = {v:,}": BASE | {n: v} for n, values in CHANGES.items() for v in values}
    costs: dict[str, list[Cost]] = {name: [] for name in sizes}
    # Each process is forked from one that has imported everything and computed nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.fits", "logreg.softmax"])
    for _ in range(arguments.rounds):
        for name, size in sizes.items():
            with ProcessPoolExecutor(1, mp_context=context) as process:
                costs[name].append(process.submit(measure_cost, size).result())

    measurements, goals = [], []
    for name, measured in costs.items():
        label = "D = 10,000, N = 10,000, K = 151, batch = 256" if name == "base" else name
        measurements += [
            measure.summarize(f"{label}: step", "ms", [1e3 * cost.step for cost in measured]),
            measure.summarize(f"{label}: epoch / steps", "ms", [1e3 * cost.epoch for cost in measured]),
            measure.summarize(f"{label}: memory", "MB", [cost.memory / 1e6 for cost in measured]),
        ]
    base, most_features = costs["base"], costs["D = 1,000,000"]
    step_ratio = measure.ratio([cost.step for cost in most_features], [cost.step for cost in base])
    epoch_ratio = measure.ratio([cost.epoch for cost in most_features], [cost.epoch for cost in base])
    goals.append(measure.Goal("a step, D = 10⁶ / D = 10⁴, L2 on", step_ratio, at_most=1.3))
    goals.append(measure.Goal("an epoch / its steps, D = 10⁶ / D = 10⁴, L2 on", epoch_ratio, at_most=1.5))
    largest = statistics.median(cost.memory for cost in most_features) / (1e6 * BASE["K"] * 4)
    goals.append(measure.Goal("memory at D = 10⁶ / W", largest, at_most=1.2))
    goals += [_exponent(costs, name, values) for name, values in CHANGES.items() if name != "D"]
    memory = statistics.median(cost.memory for cost in costs["N = 1,000,000"])
    share = memory / (BASE["D"] * 1e6 * 4)
    goals.append(measure.Goal("memory at N = 10⁶, as a share of N·D numbers of 4 bytes", share, at_most=0.05))
    measure.publish("growth", QUESTION, measurements, goals, arguments.out)


def _exponent(costs: dict[str, list[Cost]], name: str, values: tuple[int, ...]) -> measure.Goal:
    """The exponent p in time ∝ number^p, from the base to the largest value: 1 is linear."""
    largest = max(values)
    ratio = measure.ratio([cost.step for cost in costs[f"{name} = {largest:,}"]], [cost.step for cost in costs["base"]])
    exponent = math.log(ratio) / math.log(largest / BASE[name])
    return measure.Goal(f"a step ∝ {name}^p up to {name} = {largest:,}: p", exponent, at_most=1.0)


if __name__ == "__main__":
    main()
