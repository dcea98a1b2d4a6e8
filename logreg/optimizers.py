"""Any torch optimizer and scheduler from a configuration, for the models with automatic optimization."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

OptimizerFactory = Callable[[Iterable], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


def configured(optimizer: OptimizerFactory, scheduler: SchedulerFactory | None, parameters: Iterable[Parameter]) -> Any:
    """What `configure_optimizers` returns.

    Raises:
        ValueError: an option that the optimizer refuses, such as a negative learning rate.
    """
    try:
        built = optimizer(parameters)
    except ValueError as error:
        raise ValueError(f"model.optimizer: expected options in range (an lr of at least 0, ...): {error}") from error
    return built if scheduler is None else ([built], [scheduler(built)])


def prefer_configured_options(checkpoint: dict[str, Any], optimizer: OptimizerFactory, scheduler: Any) -> None:
    """On resume, let the configuration's options and schedule win over the checkpoint's.

    Lightning restores optimizer and scheduler with all of their options, so that a new learning rate, or a schedule for
    more epochs than first planned, would be dropped silently. What is kept is what training has brought about (moments,
    and the epochs done); the rate is the one that the configured schedule has after so many epochs. With the same
    configuration that is, to the bit, the rate of the checkpoint.

    Args:
        checkpoint: as given to `on_load_checkpoint`; its optimizer and scheduler states are changed in place.
        optimizer: as configured.
        scheduler: as configured, or None.
    """
    fresh = optimizer([Parameter(torch.zeros(1))])
    for state in checkpoint.get("lr_schedulers", []) if scheduler is not None else []:
        replayed = scheduler(fresh)
        for _ in range(state["last_epoch"]):
            fresh.step()  # changes nothing, for there are no gradients; without it torch warns
            replayed.step()
        state.clear()
        state.update(replayed.state_dict())
    options = {name: value for name, value in fresh.state_dict()["param_groups"][0].items() if name != "params"}
    for state in checkpoint.get("optimizer_states", []):
        for group in state["param_groups"]:
            group.update(options)
