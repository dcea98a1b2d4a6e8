"""GPU: time per step, and share of the GPU's memory bandwidth; without a GPU it says so and ends.

  bare step   batches on the GPU beforehand; bytes as in `bandwidth.py`
  Trainer     SoftmaxRegression under a minimal Trainer: batches are gathered on the CPU and copied to the GPU

on CLINC150 (batch 256), and on synthetic rows with D = 10⁶ and batches of 8,192.
"""

import statistics
import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import bandwidth, measure

if TYPE_CHECKING:
    from datamodules.batches import BatchedDataModule

QUESTION = "On a GPU: time per step, and share of its memory bandwidth"


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no GPU found: nothing measured")
        return
    from benchmarks import loops

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    measure_on("cuda", loops.clinc150(), loops.SyntheticData(200_000, 1_000_000, 151, 8192), arguments)


def measure_on(
    device: str, clinc150: "BatchedDataModule", synthetic: "BatchedDataModule", arguments: Namespace
) -> None:
    """Measure on "cuda", or on "cpu" to test this file."""
    contestants: dict[str, Callable[[], float]] = {"copy": bandwidth.copy_bandwidth(device, times=20)}
    moved = {}
    for name, data in {
        "CLINC150, D = 10⁴, batch 256": clinc150,
        "synthetic rows, D = 10⁶, batch 8,192": synthetic,
    }.items():
        contestants[f"bare step: {name}"], moved[name] = bandwidth.bare_steps(data, device)
        contestants[f"Trainer: {name}"] = _trainer_step(device, data)
    values = measure.interleaved(contestants, arguments.rounds)

    copied = values.pop("copy")
    measurements = [measure.summarize("memory bandwidth, copying", "GB/s", [rate / 1e9 for rate in copied])]
    measurements += [measure.summarize(name, "ms", [1e3 * t for t in times]) for name, times in values.items()]
    for name, size in moved.items():
        shares = [size / t / 1e9 / measurements[0].median for t in values[f"bare step: {name}"]]
        measurements.append(
            measure.summarize(f"share of the bandwidth: {name}", "", shares, f"{size / 1e6:.0f} MB a step")
        )
    measure.publish("gpu", QUESTION, measurements, [], arguments.out)


def _trainer_step(device: str, data: "BatchedDataModule") -> Callable[[], float]:
    """A function that measures the seconds per step under a minimal Trainer."""

    def run() -> float:
        from benchmarks.fits import minimal_fit
        from logreg.softmax import SoftmaxRegression

        model = SoftmaxRegression(data.num_features, data.num_classes, lr=1.0, l2=1e-7)
        timer = minimal_fit(model, data, max_epochs=4, log_every_n_steps=10, accelerator=device, devices=1)
        return statistics.median(timer.epoch_seconds[1:]) / (timer.num_steps / timer.num_epochs)

    return run


if __name__ == "__main__":
    main()
