"""GPU: time per step, share of its memory bandwidth, launches and waits; without a GPU it says so and ends.

  bare step   batches on the GPU beforehand; share of the bandwidth, measured by copying 256 MB
  Trainer     SoftmaxRegression under a minimal Trainer: batches are gathered on the CPU and copied to the GPU; also as
              bf16-mixed
  launches    of kernels in a step under the Trainer, by torch's profiler; waits are calls that return once the GPU is
              done, of which a step should have none

on CLINC150 (batch 1,024; left out where its file is not), and on synthetic rows with D = 10⁶ and batches of 8,192.
Bytes that a step must move, with n non-zeros in the batch of N rows and numbers of 4 bytes:

  forward    read a row of W for each non-zero                          n·K
  backward   write the gradient of those rows                           n·K
  update     read it, read the rows of W, write them                    3·n·K
  logits     write and read them and their gradient                     4·N·K
  batch      read a column and a value for each non-zero                2·n

The tests marked gpu are the other half: `.ci/gpu` runs both in less than 10 minutes.
"""

import statistics
import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import measure

if TYPE_CHECKING:
    from benchmarks.fits import FitTimer
    from datamodules.batches import BatchedDataModule

QUESTION = "On a GPU: time per step, share of its memory bandwidth"
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
COPIED = 256_000_000  # bytes
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no GPU found: nothing measured")
        return
    from benchmarks import loops

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    data: dict[str, BatchedDataModule] = {
        "synthetic rows, D = 10⁶, batch 8,192": loops.SyntheticData(200_000, 1_000_000, 151, 8192)
    }
    try:
        data = {"CLINC150, D = 10⁴, batch 1,024": loops.clinc150()} | data
    except OSError as error:
        print(f"without CLINC150: {error}")
    measure_on("cuda", data, arguments)


def measure_on(device: str, data_by_name: "dict[str, BatchedDataModule]", arguments: Namespace) -> None:
    """Measure on "cuda", or on "cpu" to test this file."""
    contestants: dict[str, Callable[[], float]] = {"copy": copy_bandwidth(device)}
    moved, counts = {}, {}
    for name, data in data_by_name.items():
        contestants[f"bare step: {name}"], moved[name] = bare_steps(data, device)
        contestants[f"Trainer: {name}"] = _trainer_step(device, data)
        contestants[f"Trainer, bf16-mixed: {name}"] = _trainer_step(device, data, precision="bf16-mixed")
        counts[name] = calls_per_step(device, data)
    values = measure.interleaved(contestants, arguments.rounds)

    copied = values.pop("copy")
    measurements = [measure.summarize("memory bandwidth, copying", "GB/s", [rate / 1e9 for rate in copied])]
    measurements += [measure.summarize(name, "ms", [1e3 * t for t in times]) for name, times in values.items()]
    for name, size in moved.items():
        shares = [size / t / 1e9 / measurements[0].median for t in values[f"bare step: {name}"]]
        measurements.append(
            measure.summarize(f"share of the bandwidth: {name}", "", shares, f"{size / 1e6:.0f} MB a step")
        )
    for name, found in counts.items():
        measurements += [measure.summarize(f"{what}: {name}", "a step", [count]) for what, count in found.items()]
    measure.publish("gpu", QUESTION, measurements, [], arguments.out)


def bytes_moved(num_samples: int, non_zeros: float, num_classes: int) -> float:
    """The sum of the table above, for a batch of `num_samples` rows with `non_zeros` in total."""
    return 4 * (5 * non_zeros * num_classes + 4 * num_samples * num_classes + 2 * non_zeros)


def copy_bandwidth(device: str, times: int = 20) -> Callable[[], float]:
    """A function that measures the bytes read and written per second while memory is copied."""
    import torch

    source, target = (torch.zeros(COPIED // 4, device=device) for _ in range(2))

    def measure_copies() -> float:
        def copy() -> None:
            for _ in range(times):
                target.copy_(source)
            synchronize(device)

        return 2 * COPIED * times / measure.seconds(copy)

    return measure_copies


def bare_steps(data: "BatchedDataModule", device: str, times: int = 20) -> tuple[Callable[[], float], float]:
    """Prepare `times` steps of the bare loop, on batches gathered beforehand.

    Returns:
        A function that measures the seconds per step, and the bytes that a step must move.
    """
    from benchmarks.loops import BareLoop
    from datamodules.sampler import ResumableBatchSampler

    dataset = data.dataset("train")
    sampler = ResumableBatchSampler(len(dataset), data.batch_size, shuffle=True)
    full = [batch for batch in sampler if len(batch.indices) == data.batch_size]
    batches = [(x.to(device), y.to(device)) for x, y, _ in (dataset[batch] for batch in full[:times])]
    loop = BareLoop(data.num_features, data.num_classes, device=device)

    def measure_steps() -> float:
        def train() -> None:
            for x, y in batches:
                loop.step(x, y, lr=1.0, l2=1e-7)
            synchronize(device)

        return measure.seconds(train) / len(batches)

    non_zeros = sum(x.values().numel() for x, _ in batches) / len(batches)
    return measure_steps, bytes_moved(data.batch_size, non_zeros, data.num_classes)


def synchronize(device: str) -> None:
    """Wait until a GPU has finished its work."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def calls_per_step(device: str, data: "BatchedDataModule") -> dict[str, float]:
    """Launches and waits of a step: those in which two fits differ, over the steps in which they do."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    few, many = 5, 15  # within an epoch
    found = []
    for steps in (few, few, many):  # the first is the warm-up
        with profile(activities=activities) as profiled:
            _fit(device, data, max_steps=steps, max_epochs=-1, log_every_n_steps=1_000)
        calls = {event.key: event.count for event in profiled.key_averages()}
        found.append([sum(calls.get(name, 0) for name in names) for names in (LAUNCHES, WAITS)])
    launches, waits = ((after - before) / (many - few) for before, after in zip(*found[1:], strict=True))
    return {"launches": launches, "waits": waits}


def _trainer_step(device: str, data: "BatchedDataModule", **options: str) -> Callable[[], float]:
    """A function that measures the seconds per step under a minimal Trainer."""

    def run() -> float:
        timer = _fit(device, data, max_epochs=4, log_every_n_steps=10, **options)
        return statistics.median(timer.epoch_seconds[1:]) / (timer.num_steps / timer.num_epochs)

    return run


def _fit(device: str, data: "BatchedDataModule", **options: "int | str") -> "FitTimer":
    from benchmarks.fits import minimal_fit
    from logreg.softmax import SoftmaxRegression

    model = SoftmaxRegression(data.num_features, data.num_classes, lr=1.0, l2=1e-7)
    return minimal_fit(model, data, accelerator=device, devices=1, **options)


if __name__ == "__main__":
    main()
