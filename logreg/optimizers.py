"""Any torch optimizer and scheduler from a configuration, for the models with automatic optimization."""

from collections.abc import Callable, Iterable
from typing import Any

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


def prefer_configured_options(checkpoint: dict[str, Any], optimizer: Optimizer) -> None:
    """On resume, let options that the configuration has changed win over the checkpoint's.

    Lightning restores an optimizer with all of its options, so that a new learning rate would be dropped silently. A
    rate that a scheduler has lowered stays lowered in proportion; with nothing changed, nothing changes.

    Args:
        checkpoint: as given to `on_load_checkpoint`; its optimizer and scheduler states are changed in place.
        optimizer: freshly made from the configuration.
    """
    wanted = optimizer.state_dict()["param_groups"]
    for state in checkpoint.get("optimizer_states", []):
        for group, new in zip(state["param_groups"], wanted, strict=False):
            old_lr = group.get("initial_lr", group["lr"])
            scheduled = group["lr"]
            group.update({name: value for name, value in new.items() if name not in ("params", "lr", "initial_lr")})
            if new["lr"] != old_lr:
                group["lr"] = new["lr"] * (scheduled / old_lr if old_lr else 1.0)
                if "initial_lr" in group:
                    group["initial_lr"] = new["lr"]
                    for scheduler in checkpoint.get("lr_schedulers", []):
                        scheduler["base_lrs"] = [new["lr"] for _ in scheduler["base_lrs"]]
