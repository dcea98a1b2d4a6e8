"""Step time: what does a training step cost, from the article's dense loop to the whole command line?

All on CLINC150 with the features, batch size, rate and L2 of configs/clinc150.yaml, in turns:

  dense loop        examples/from_scratch.py: dense rows, L2 in the loss, autograd over all of W
  bare loop         the arithmetic of SoftmaxRegression on sparse rows; L2 shrinks one factor, or all of W
  minimal Trainer   SoftmaxRegression under a Trainer with everything optional off
  train.py fit      on a terminal: progress bar, TensorBoard, CSV, validation, checkpoints

Every step gathers its sparse rows from the matrix, with the same code, the same order and the same feature dropout;
dense rows have no dropout. All but the dense loop take one thread, as train.py does: with two, the rounds of one run
gave a bare step of 0.66 ms and one of 1.43. Time per step is an epoch's training over its number of steps; time per
epoch is the whole fit, validation and checkpoints included, over its number of epochs.
"""

import statistics
import warnings
from collections.abc import Callable
from functools import partial

from benchmarks import measure

QUESTION = "Step time on CLINC150: 10,000 features, 151 classes, batch of 1,024"
EPOCHS = 5  # of each fit


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    from benchmarks import fits, loops  # takes seconds, and --help doesn't need it
    from datamodules.sampler import ResumableBatchSampler
    from datamodules.text.sparse_rows import as_tensor
    from logreg.softmax import SoftmaxRegression

    warnings.filterwarnings("ignore", ".*Sparse CSR tensor support is in beta.*")
    data, options = loops.clinc150(), loops.model_options()
    log_every_n_steps = loops.config()["trainer"]["log_every_n_steps"]
    dataset, D, K = data.dataset("train"), data.num_features, data.num_classes
    X = as_tensor(data.vectorize(data.load_splits()["train"][0]), 0, len(dataset)).to_dense()  # (N, D), 604 MB
    epoch_times: dict[str, list[float]] = {}  # seconds of a whole epoch, measured along with the steps

    def dense() -> float:
        step, epoch = loops.dense_epoch(X, dataset.target, K, data.batch_size, lr=0.1, l2=1e-4)
        epoch_times.setdefault("dense loop", []).append(epoch)
        return step

    def bare(lazy: bool) -> float:
        loop, rows = loops.BareLoop(D, K, lazy), data.dataset("train")
        strata = rows.target if data.stratified_batches else None
        sampler = ResumableBatchSampler(len(rows), data.batch_size, shuffle=True, seed=data.seed, strata=strata)
        with fits.threads(1):
            return statistics.median(
                loop.epoch(rows, sampler, epoch, options["lr"], options["l2"]) for epoch in range(EPOCHS)
            )

    def minimal() -> float:
        model = SoftmaxRegression(D, K, **options)
        with fits.threads(1):
            timer = fits.minimal_fit(model, data, max_epochs=EPOCHS, log_every_n_steps=log_every_n_steps)
        return timer.seconds_per_step

    def cli() -> float:
        timer = fits.cli_fit("--trainer.max_epochs", str(EPOCHS))
        epoch_times.setdefault("train.py fit", []).append(timer.fit_seconds / timer.num_epochs)
        return timer.seconds_per_step

    contestants: dict[str, Callable[[], float]] = {
        "dense loop": dense,
        "bare loop": partial(bare, lazy=True),
        "bare loop, shrinking all of W": partial(bare, lazy=False),
        "minimal Trainer": minimal,
        "train.py fit": cli,
    }
    values = measure.interleaved(contestants, arguments.rounds)
    epoch_times = {name: times[-arguments.rounds :] for name, times in epoch_times.items()}  # without the warm-up

    measurements = [measure.summarize(f"a step: {name}", "ms", [1e3 * t for t in v]) for name, v in values.items()]
    notes = {"dense loop": "with its shuffle", "train.py fit": "validation and checkpoints included"}
    for name, note in notes.items():
        measurements.append(measure.summarize(f"an epoch: {name}", "ms", [1e3 * t for t in epoch_times[name]], note))
    speedup = measure.ratio(epoch_times["dense loop"], epoch_times["train.py fit"])
    overhead = measure.ratio(values["train.py fit"], values["bare loop"])
    goals = [
        measure.Goal("dense loop / train.py fit, per epoch", speedup, at_least=12),
        measure.Goal("train.py fit / bare loop, per step", overhead, at_most=1.4),
    ]
    measure.publish("step_time", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
