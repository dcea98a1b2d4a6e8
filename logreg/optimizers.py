"""Optimizers and schedules: any of torch from a configuration, and the options of a resumed run."""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau


class HandUpdate(Optimizer):
    """Holds the learning rate of an update that is written by hand in `training_step`; does no arithmetic.

    Under manual optimization Lightning advances `global_step`, and with it checkpoints and `max_steps`, only through
    `optimizer.step()`, and torch's schedulers change the rate of an optimizer.
    """

    def __init__(self, params: Iterable[Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        """Run the closure, if Lightning passes one."""
        return None if closure is None else closure()

    step.hooked = True  # type: ignore[attr-defined]  # else torch opens a profiler's context around every step


class DecayToZero(LRScheduler):
    """Lowers the rate at every step, down to 0 at the last step that the Trainer plans.

    A resumed run with more epochs follows the new plan, since the rate depends on nothing but the step and the plan.

    Args:
        optimizer: has the rate.
        shape: "linear", straight down; "cosine", half a wave down; "triangle", straight up to the rate at half-way and
            straight down (after Howard and Ruder 2018, https://arxiv.org/abs/1801.06146): its first epochs learn so
            little each that on noisy data, where little is to be learnt, one of them can be the best.
        power: that the shape is raised to, above 0; more than 1 makes high rates short and low ones long.
        part: of another fit's way, in (0, 1], that this one repeats, such as that to its best epoch. Stopped there, at
            high rates, it would be noisy; below 1 it takes the whole shape, to the power of 1, at rates, none above the
            configured one, whose mean is that of the other fit's up to there.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        shape: Literal["linear", "cosine", "triangle"] = "linear",
        power: float = 1.0,
        part: float = 1.0,
    ) -> None:
        if not (0 < power < math.inf and 0 < part <= 1):
            raise ValueError(f"power must be above 0, and part above 0 and at most 1, got {power} and {part}")
        self.shape, self.power, self.total_steps = shape, power, math.inf
        way = [(step + 0.5) / 1_000 for step in range(1_000)]
        repeated = fmean(self._share(part * done) for done in way)
        self.power = power if part == 1 else 1.0
        self.lowered = min(repeated / fmean(map(self._share, way)), 1.0)
        super().__init__(optimizer)

    def plan(self, total_steps: float) -> None:
        """Set the number of steps that the whole fit takes, and the rate of the step that comes next.

        Raises:
            ValueError: a fit without an end.
        """
        if not math.isfinite(total_steps):
            raise ValueError("DecayToZero needs an end: set trainer.max_epochs or trainer.max_steps")
        self.total_steps = total_steps
        self._last_lr = self.get_lr()  # type: ignore[assignment]
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The rate of step number `last_epoch` (torch's name for how often `step` was called)."""
        done = min(self.last_epoch / self.total_steps, 1.0)
        if self.shape == "triangle" and done < 1:  # the first step's rate is as high as the last one's
            done = (self.last_epoch + 1) / (self.total_steps + 1)
        return [float(lr) * self.lowered * self._share(done) for lr in self.base_lrs]

    def _share(self, done: float) -> float:
        """Of the rate, after this part of the way."""
        share = 1 - done
        if self.shape == "cosine":
            share = (1 + math.cos(math.pi * done)) / 2
        elif self.shape == "triangle":
            share = 1 - abs(1 - 2 * done)
        return share**self.power


def build_optimizers(
    optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None, parameters: Iterable[Parameter]
) -> Any:
    """An optimizer and its schedule, as `configure_optimizers` returns them.

    Schedulers step once an epoch, but those made for single steps (DecayToZero, OneCycleLR, CyclicLR) at every step.

    Raises:
        ValueError: an option that torch refuses, such as a negative learning rate, or a scheduler that fails, needs a
            metric or makes the rate negative.
    """
    try:
        built = optimizer(parameters)
    except (ValueError, TypeError) as error:
        raise ValueError(f"model.optimizer: expected options in range (an lr of at least 0, ...): {error}") from error
    if scheduler is None:
        return built
    try:
        _replay(optimizer, scheduler, steps=1)  # a period of 0 steps (StepLR, CosineAnnealingLR) fails only then
        schedule = scheduler(built)
    except Exception as error:  # torch raises half a dozen types; whichever, its options are what came from outside
        reason = str(error) or type(error).__name__
        raise ValueError(f"model.lr_scheduler: expected options in range: {reason}") from error
    interval = "step" if isinstance(schedule, DecayToZero | OneCycleLR | CyclicLR) else "epoch"
    return {"optimizer": built, "lr_scheduler": {"scheduler": schedule, "interval": interval}}


def _replay(optimizer: OptimizerCallable, scheduler: LRSchedulerCallable, steps: int) -> tuple[Optimizer, LRScheduler]:
    """An optimizer without a model and its schedule after some steps; a ValueError for a rate that cannot be right."""
    fresh = optimizer([Parameter(torch.zeros(1, 1))])
    schedule = scheduler(fresh)
    if isinstance(schedule, ReduceLROnPlateau):
        raise ValueError("ReduceLROnPlateau needs a metric; take one that goes by steps or epochs")
    for _ in range(steps):
        fresh.step(lambda: 0.0)  # changes nothing, for there are no gradients; without it torch warns
        schedule.step()
    if (lowest := min(group["lr"] for group in fresh.param_groups)) < 0:
        raise ValueError(f"it makes the rate {lowest:g}")
    return fresh, schedule


def plan_decay(schedulers: Any, total_steps: float) -> None:
    """Give every DecayToZero the number of steps of the fit; a OneCycleLR that is over before is a ValueError."""
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if isinstance(scheduler, DecayToZero):
            scheduler.plan(total_steps)
        if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < total_steps:
            raise ValueError(
                f"model.lr_scheduler: expected a OneCycleLR of at least the {total_steps} steps that the fit takes, "
                f"got one of {scheduler.total_steps}"
            )


def prefer_configured_options(
    checkpoint: dict[str, Any], optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None, num_parameters: int
) -> None:
    """On resume, let the configuration's options and schedule win over the checkpoint's.

    Lightning restores optimizer and scheduler with all of their options, so that a new learning rate, or a schedule for
    more epochs than first planned, would be dropped silently. This keeps the learned state (momentum buffers, the
    number of epochs); every option, and the rate that the configured schedule has reached by then, comes from the
    configuration. With the same configuration that is, to the bit, the rate of the checkpoint.

    Raises:
        ValueError: the state of another optimizer, or of a run without a schedule where one is configured.
    """
    [saved] = checkpoint["optimizer_states"]
    fresh = optimizer([Parameter(torch.zeros(1, 1))])
    before, options = saved["param_groups"][0].keys(), fresh.param_groups[0].keys()
    # Only more options are another version of torch, or those that a schedule adds.
    if before - options and options - before - {"initial_lr"}:
        raise ValueError(
            f"the checkpoint is of another optimizer than {type(fresh).__name__}: it has the options "
            f"{', '.join(sorted(before - {'params', 'initial_lr'}))!s:.200}; configure that one, or start a new run"
        )
    if scheduler is not None:
        if not checkpoint["lr_schedulers"]:
            raise ValueError("model.lr_scheduler: the run had none, so that it has no place in one; start a new run")
        fresh, schedule = _replay(optimizer, scheduler, steps=checkpoint["lr_schedulers"][0]["last_epoch"])
        checkpoint["lr_schedulers"] = [schedule.state_dict()]
    group = fresh.state_dict()["param_groups"][0] | {"params": list(range(num_parameters))}
    checkpoint["optimizer_states"] = [{"state": saved["state"], "param_groups": [group]}]
