"""The limit: what share of the memory bandwidth does a bare step reach?

The bandwidth is measured on the spot, between the steps: copying 256 MB, which reads and writes each byte once. Bytes
that a step must move, with n non-zeros in the batch of N rows and numbers of 4 bytes:

  forward    read a row of W for each non-zero                          n·K
  backward   write the gradient of those rows                           n·K
  update     read it, read the rows of W, write them                    3·n·K
  around it  write and read the logits, and their gradient              4·N·K
  the batch  read a column and a value for each non-zero                2·n

On CLINC150 W has 6 MB and may stay in a processor's cache, so that more than the whole bandwidth of the memory is
possible; at D = 10⁶ it has 604 MB and may not. Batches are cut beforehand.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import measure

if TYPE_CHECKING:
    from benchmarks.loops import MadeUpRows
    from datamodules import CLINC150DataModule

QUESTION = "The limit: bytes a bare step must move, over the memory bandwidth"
COPIED = 256_000_000  # bytes


def bytes_moved(rows: int, non_zeros: float, classes: int) -> float:
    """The sum of the table above."""
    return 4 * (5 * non_zeros * classes + 4 * rows * classes + 2 * non_zeros)


def copies(device: str = "cpu", times: int = 3) -> Callable[[], float]:
    """Measures bytes read and written per second when memory is copied."""
    import torch

    source, target = (torch.zeros(COPIED // 4, device=device) for _ in range(2))

    def run() -> float:
        def work() -> None:
            for _ in range(times):
                target.copy_(source)
            synchronize(device)

        return 2 * COPIED * times / measure.seconds(work)

    return run


def steps(
    data: "CLINC150DataModule | MadeUpRows", classes: int, device: str = "cpu", times: int = 20
) -> tuple[Callable[[], float], float]:
    """What measures the seconds of a bare step, batches at hand; and the bytes that a step must move."""
    from benchmarks.loops import BareLoop
    from datamodules.batches import EpochBatches

    rows = data.rows("train")
    draws = [
        draw for draw in EpochBatches(len(rows), data.batch_size, shuffle=True) if len(draw.rows) == data.batch_size
    ]
    batches = [(x.to(device), y.to(device)) for x, y, _ in (rows[draw] for draw in draws[:times])]
    loop = BareLoop(data.num_features, classes, device=device)

    def run() -> float:
        def work() -> None:
            for x, y in batches:
                loop.step(x, y, lr=1.0, l2=1e-7)
            synchronize(device)

        return measure.seconds(work) / len(batches)

    non_zeros = sum(x.values().numel() for x, _ in batches) / len(batches)
    return run, bytes_moved(data.batch_size, non_zeros, classes)


def synchronize(device: str) -> None:
    """Wait until a GPU is done."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def main() -> None:
    """Measure, print, write."""
    arguments = measure.options(__doc__).parse_args()
    from benchmarks import loops

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    jobs = {
        "CLINC150, D = 10⁴, batch 256": steps(loops.clinc150(), 151),
        "made-up rows, D = 10⁶, batch 256": steps(loops.MadeUpRows(10_000, 1_000_000, 151, 256), 151),
        "made-up rows, D = 10⁶, batch 8,192": steps(loops.MadeUpRows(50_000, 1_000_000, 151, 8192), 151, times=5),
    }
    race = {"copy": copies()} | {name: run for name, (run, _) in jobs.items()}
    taken = measure.interleaved(race, arguments.rounds)
    figures = [measure.figure("memory bandwidth, copying", "GB/s", [rate / 1e9 for rate in taken["copy"]])]
    goals = []
    for name, (_, moved) in jobs.items():
        figures.append(measure.figure(f"step: {name}", "ms", [1e3 * t for t in taken[name]], f"{moved / 1e6:.1f} MB"))
        rates = [moved / t for t in taken[name]]
        goals.append(measure.Goal(f"share of the bandwidth: {name}", measure.ratio(rates, taken["copy"]), at_least=0.5))
    measure.publish("bandwidth", QUESTION, figures, goals, arguments.out)


if __name__ == "__main__":
    main()
