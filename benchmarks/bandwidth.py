"""The limit: what share of the memory bandwidth does a bare step reach?

The bandwidth is measured in turns with the steps: copying 256 MB, which reads and writes each byte once. Bytes that a
step must move, with n non-zeros in the batch of N rows and numbers of 4 bytes:

  forward    read a row of W for each non-zero                          n·K
  backward   write the gradient of those rows                           n·K
  update     read it, read the rows of W, write them                    3·n·K
  logits     write and read them and their gradient                     4·N·K
  batch      read a column and a value for each non-zero                2·n

On CLINC150 W has 6 MB and may stay in a processor's cache, so that shares above 1 are possible; at D = 10⁶ it has
604 MB and does not fit. Batches are gathered beforehand.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import measure

if TYPE_CHECKING:
    from datamodules.batches import BatchedDataModule

QUESTION = "The limit: bytes a bare step must move, over the memory bandwidth"
COPIED = 256_000_000  # bytes


def bytes_moved(num_samples: int, non_zeros: float, num_classes: int) -> float:
    """The sum of the table above, for a batch of `num_samples` rows with `non_zeros` in total."""
    return 4 * (5 * non_zeros * num_classes + 4 * num_samples * num_classes + 2 * non_zeros)


def copy_bandwidth(device: str = "cpu", times: int = 3) -> Callable[[], float]:
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


def bare_steps(data: "BatchedDataModule", device: str = "cpu", times: int = 20) -> tuple[Callable[[], float], float]:
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


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    from benchmarks import loops

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    steps = {
        "CLINC150, D = 10⁴, batch 1,024": bare_steps(loops.clinc150()),
        "synthetic rows, D = 10⁶, batch 256": bare_steps(loops.SyntheticData(10_000, 1_000_000, 151, 256)),
        "synthetic rows, D = 10⁶, batch 8,192": bare_steps(loops.SyntheticData(50_000, 1_000_000, 151, 8192), times=5),
    }
    contestants = {"copy": copy_bandwidth()} | {name: measure_steps for name, (measure_steps, _) in steps.items()}
    values = measure.interleaved(contestants, arguments.rounds)
    measurements = [measure.summarize("memory bandwidth, copying", "GB/s", [rate / 1e9 for rate in values["copy"]])]
    goals = []
    for name, (_, moved) in steps.items():
        times = values[name]
        measurements.append(measure.summarize(f"step: {name}", "ms", [1e3 * t for t in times], f"{moved / 1e6:.1f} MB"))
        share = measure.ratio([moved / t for t in times], values["copy"])
        goals.append(measure.Goal(f"share of the bandwidth: {name}", share, at_least=0.5))
    measure.publish("bandwidth", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
