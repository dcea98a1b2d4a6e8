"""Step time: what does a training step cost, from article 2's dense loop to the Trainer with everything on?

All on CLINC150 with the features, batch size, rate and L2 of configs/clinc150.yaml, in turns:

  dense loop       article 2's, word for word: rows dense, L2 in the loss, autograd over all of W
  bare loop        the same arithmetic on sparse rows in twenty lines; L2's shrinking kept as one number, or of all of W
  Trainer, slim    SoftmaxRegression under a Trainer with everything off that can be
  Trainer, as shipped   python train.py fit on a terminal: bar, TensorBoard, CSV, validation, checkpoints

Sparse rows are cut out of the matrix anew in every step, by the same code for all. They are measured with the shipped
feature dropout, and without any; dense rows have none. Per step means an epoch's training divided by its steps; per
epoch means the whole fit, validation and checkpoints included, divided by its epochs.
"""

import statistics
import warnings
from collections.abc import Callable

import torch

from benchmarks import measure

QUESTION = "Step time on CLINC150: 10,000 features, 151 classes, batch of 256"
EPOCHS = 5  # of each fit


def main() -> None:
    """Measure, print, write."""
    arguments = measure.options(__doc__).parse_args()
    from benchmarks import fits, loops  # takes seconds, which --help need not wait for
    from benchmarks.loops import MODEL
    from datamodules.batches import EpochBatches
    from logreg import SoftmaxRegression

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    data = loops.clinc150()
    rows, D, K, lr, l2 = data.rows("train"), data.num_features, data.num_classes, MODEL["lr"], MODEL["l2"]
    X = rows.cut(next(iter(EpochBatches(len(rows), len(rows))))).to_dense()  # (N, D), 604 MB
    epochs: dict[str, list[float]] = {}  # measured on the side: seconds of a whole epoch

    def dense() -> float:
        step, epoch = loops.dense_epoch(X, rows.target, K, data.batch_size, lr=0.1, l2=1e-4)
        epochs.setdefault("dense", []).append(epoch)
        return step

    def bare(dropout: float, lazy: bool) -> Callable[[], float]:
        def run() -> float:
            data.feature_dropout = dropout
            loop, thinned = loops.BareLoop(D, K, lazy), data.rows("train")
            batches = EpochBatches(len(rows), data.batch_size, shuffle=True, seed=data.seed)
            return statistics.median(loop.epoch(thinned, batches, epoch, lr, l2) for epoch in range(EPOCHS))

        return run

    def slim(dropout: float) -> Callable[[], float]:
        def run() -> float:
            data.feature_dropout = dropout
            watch = fits.slim_fit(SoftmaxRegression(D, K, **MODEL), data, max_epochs=EPOCHS)
            return statistics.median(watch.epochs) / (watch.num_steps / watch.num_epochs)

        return run

    def shipped(dropout: float) -> Callable[[], float]:
        def run() -> float:
            watch = fits.shipped_fit("--data.feature_dropout", str(dropout), "--trainer.max_epochs", str(EPOCHS))
            epochs.setdefault(f"shipped {dropout}", []).append(watch.fit / watch.num_epochs)
            return statistics.median(watch.epochs) / (watch.num_steps / watch.num_epochs)

        return run

    race = {"dense loop": dense}
    for dropout in (loops.FEATURE_DROPOUT, 0.0):
        race |= {
            f"bare loop, dropout {dropout:g}": bare(dropout, lazy=True),
            f"bare loop, dropout {dropout:g}, all of W shrunk": bare(dropout, lazy=False),
            f"Trainer, slim, dropout {dropout:g}": slim(dropout),
            f"Trainer, as shipped, dropout {dropout:g}": shipped(dropout),
        }
    taken = measure.interleaved(race, arguments.rounds)
    epochs = {name: figures[-arguments.rounds :] for name, figures in epochs.items()}  # less the first round's

    figures = [measure.figure(f"a step: {name}", "ms", [1e3 * t for t in times]) for name, times in taken.items()]
    figures.append(measure.figure("an epoch: dense loop", "ms", [1e3 * t for t in epochs["dense"]], "with its shuffle"))
    goals = []
    for dropout in (loops.FEATURE_DROPOUT, 0.0):
        whole = epochs[f"shipped {dropout}"]
        name = f"an epoch: Trainer, as shipped, dropout {dropout:g}"
        figures.append(measure.figure(name, "ms", [1e3 * t for t in whole], "validation and checkpoints included"))
        times = measure.ratio(epochs["dense"], whole)
        goals.append(measure.Goal(f"as shipped, times faster per epoch than dense, dropout {dropout:g}", times, 20))
        ours, theirs = taken[f"Trainer, as shipped, dropout {dropout:g}"], taken[f"bare loop, dropout {dropout:g}"]
        over = measure.ratio(ours, theirs)
        goals.append(measure.Goal(f"as shipped / bare loop, per step, dropout {dropout:g}", over, at_most=1.5))
    measure.publish("step_time", QUESTION, figures, goals, arguments.out, torch_threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
