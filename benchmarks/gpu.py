"""GPU: step time, and the share of the GPU's memory bandwidth, where one is at hand; else this says so and ends.

  bare step   batches on the GPU beforehand; bytes as in `bandwidth.py`
  Trainer     SoftmaxRegression under a Trainer with everything off that can be: batches cut on the CPU and sent over

on CLINC150 (batch 256), and on made-up rows with D = 10⁶ and batches of 8,192.
"""

import statistics
import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import bandwidth, measure

if TYPE_CHECKING:
    from benchmarks.loops import MadeUpRows
    from datamodules import CLINC150DataModule

QUESTION = "On a GPU: step time, and the share of its memory bandwidth"
CLASSES = 151


def main() -> None:
    """Measure, print, write; without a GPU only say so."""
    arguments = measure.options(__doc__).parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    from benchmarks import loops

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    measure_on("cuda", loops.clinc150(), loops.MadeUpRows(200_000, 1_000_000, CLASSES, 8192), arguments)


def measure_on(device: str, clinc150: "CLINC150DataModule", made_up: "MadeUpRows", arguments: Namespace) -> None:
    """All of it, on that device."""
    race: dict[str, Callable[[], float]] = {"copy": bandwidth.copies(device, times=20)}
    jobs: dict[str, CLINC150DataModule | MadeUpRows] = {
        "CLINC150, D = 10⁴, batch 256": clinc150,
        "made-up rows, D = 10⁶, batch 8,192": made_up,
    }
    moved = {}
    for name, data in jobs.items():
        race[f"bare step: {name}"], moved[name] = bandwidth.steps(data, CLASSES, device)
        race[f"Trainer: {name}"] = _under_a_trainer(device, data)
    taken = measure.interleaved(race, arguments.rounds)

    figures = [measure.figure("memory bandwidth, copying", "GB/s", [rate / 1e9 for rate in taken.pop("copy")])]
    figures += [measure.figure(name, "ms", [1e3 * t for t in times]) for name, times in taken.items()]
    for name, size in moved.items():
        shares = [size / t / 1e9 / figures[0].median for t in taken[f"bare step: {name}"]]
        figures.append(measure.figure(f"share of the bandwidth: {name}", "", shares, f"{size / 1e6:.0f} MB a step"))
    measure.publish("gpu", QUESTION, figures, [], arguments.out)


def _under_a_trainer(device: str, data: "CLINC150DataModule | MadeUpRows") -> Callable[[], float]:
    def run() -> float:
        from benchmarks.fits import slim_fit
        from logreg import SoftmaxRegression

        model = SoftmaxRegression(data.num_features, CLASSES, lr=1.0, l2=1e-7)
        watch = slim_fit(model, data, max_epochs=4, accelerator=device, devices=1)
        return statistics.median(watch.epochs[1:]) / (watch.num_steps / watch.num_epochs)

    return run


if __name__ == "__main__":
    main()
