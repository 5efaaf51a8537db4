"""One epoch of training as one free function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from drivetl.config import OptimConfig
from drivetl.data.sharing import Batch
from drivetl.errors import DrivetlError
from drivetl.models.build import forward_uint8
from drivetl.models.runtime import read_later
from drivetl.training.ema import Average
from drivetl.training.optimizer import learning_rate, pull_to_start, set_learning_rate
from drivetl.training.state import random_states

STREAMS = ("", " of data.source", " of data.unlabelled")
"""What is added to an image id of each stream of a training."""


class NotFiniteLossError(DrivetlError):
    """A loss is not finite in a step, which was not made."""

    def __init__(
        self, reason: str, *, remedy: str, step: int, losses: dict[str, float], batch: Batch, random: dict[str, Tensor]
    ) -> None:
        super().__init__(reason, remedy=remedy)
        self.step, self.losses, self.batch = step, losses, batch
        self.random = random
        """Random states before the forward pass."""

    @property
    def is_here(self) -> bool:
        """Whether it is a loss of this process: its batch has targets then."""
        return bool(self.batch[1])


@dataclass
class Means:
    """Running means of losses over an epoch."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, values: dict[str, float]) -> None:
        """One step's losses."""
        self.steps += 1
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def means(self) -> dict[str, float]:
        """Loss name -> mean over the steps so far."""
        return {key: value / self.steps for key, value in self.sums.items()}


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    config: OptimConfig,
    *,
    first_step: int,
    total_steps: int,
    device: torch.device,
    precision: torch.dtype,
    average: Average | None = None,
    l2sp_start: dict[str, Tensor] | None = None,
    means: Means,
    after_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> None:
    """Train on the batches, `config.accumulate` to an optimizer step, which have the numbers `first_step`,
    `first_step` + 1, ... of `total_steps`.

    `after_step(step, losses)` is called when a step is complete, with the means over its batches. Raises
    NotFiniteLossError at the first loss that is not finite, with the losses and the images of that batch; the weights
    are then still those before the step. On a GPU the losses are read while it works on the backward pass.
    """
    inner: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
    step, values = first_step, dict[str, float]()
    for number, (images, targets) in enumerate(batches, 1):
        if not values:
            set_learning_rate(optimizer, learning_rate(step, total_steps, config))
            optimizer.zero_grad(set_to_none=True)
        completes = number % config.accumulate == 0
        random = random_states(cuda=device.type == "cuda")
        with _own_gradients(model, completes):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
                losses: dict[str, Tensor] = forward_uint8(model, images, device, targets)
            if l2sp_start:
                losses["loss_l2sp"] = pull_to_start(inner, l2sp_start, config.l2sp)
            parts = torch.stack([value.float() for value in losses.values()])
            total = parts.sum()
            read_numbers = read_later(torch.cat([parts.detach(), _finite(total, model)]))
            (total / config.accumulate).backward()  # type: ignore[no-untyped-call]
        *numbers, is_finite, all_finite = read_numbers()
        if not all_finite:
            batch = (images, targets) if is_finite == 0 else ([], [])
            raise _not_finite(step, dict(zip(losses, numbers, strict=True)), batch, random)
        for key, value in zip(losses, numbers, strict=True):
            values[key] = values.get(key, 0.0) + value / config.accumulate
        if not completes:
            continue
        if config.clip_norm:
            nn.utils.clip_grad_norm_(inner.parameters(), config.clip_norm)
        optimizer.step()
        if average is not None:
            average.update(inner)
        values["loss"] = sum(values.values())
        means.add(values)
        after_step(step, values)
        step, values = step + 1, {}


def _own_gradients(model: nn.Module, completes: bool) -> AbstractContextManager[None]:
    """A batch that does not complete its step is backpropagated without averaging over processes: that is done once a
    step."""
    if completes or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return cast(AbstractContextManager[None], model.no_sync())


def _finite(total: Tensor, model: nn.Module) -> Tensor:
    """(2,) 1 or 0: whether the loss is finite here, and in every process. As gradients are averaged over the processes,
    none may make the step otherwise."""
    here = torch.isfinite(total.detach()).float()[None]
    everywhere = here.clone()
    if isinstance(model, DistributedDataParallel):
        dist.all_reduce(everywhere, dist.ReduceOp.MIN)
    return torch.cat([here, everywhere])


def _not_finite(step: int, losses: dict[str, float], batch: Batch, random: dict[str, Tensor]) -> NotFiniteLossError:
    """The error; a batch without targets: the loss of another process is not finite."""
    reason, remedy = f"step {step}: a loss of another process is not finite", "see its error"
    if batch[1]:
        ids = ", ".join(f"{int(target['image_id'])}{STREAMS[int(target.get('stream', 0))]}" for target in batch[1])
        parts = ", ".join(f"{key} {value:.4g}" for key, value in losses.items())
        reason = f"step {step}: a loss is not finite ({parts}) on image ids {ids}"
        remedy = "lower optim.lr, set optim.clip_norm, or audit those images"
    return NotFiniteLossError(reason, remedy=remedy, step=step, losses=losses, batch=batch, random=random)
