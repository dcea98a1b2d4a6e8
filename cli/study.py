"""Optuna: an optional package, and its file of trials."""

from pathlib import Path
from typing import Any


def load_optuna() -> Any:
    """The package, told to be quiet; a ValueError where it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError('a search needs Optuna: pip install -e ".[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_study(file: Path, direction: str, seed: int) -> Any:
    """The study that a SQLite file holds, or a new one in a new file.

    SQLite, because a kill can cut a line of Optuna's journal files in two, which then can no longer be read.

    Raises:
        ValueError: the file holds something else.
    """
    optuna = load_optuna()
    from sqlalchemy.exc import SQLAlchemyError  # which comes with Optuna
    from sqlalchemy.pool import NullPool

    file.parent.mkdir(parents=True, exist_ok=True)
    closes_after_use = {"poolclass": NullPool}  # a pool would leave the file open to the end of the process
    try:
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}", engine_kwargs=closes_after_use),
            study_name="tune",
            load_if_exists=True,
            direction=direction,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=1),  # the first is the config as it is
        )
    except SQLAlchemyError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected the trials of a search, got {reason}; remove it to begin anew") from error
    seed += len(study.trials)  # with the same one a search that goes on would draw the same values again
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study
