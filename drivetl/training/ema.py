"""Averaged weights: smoother than the last step's, and what is evaluated and saved when switched on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of all floating-point weights and statistics, in fp32.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that short trainings are not dominated by the start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.state: dict[str, Tensor] = {
            key: value.detach().clone()
            for key, value in model.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the current weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = model.state_dict()
        keys = list(self.state)
        torch._foreach_lerp_([self.state[key] for key in keys], [current[key] for key in keys], 1 - decay)


class Swapped:
    """`with Swapped(model, average):` the model holds the averaged weights inside the block, its own outside."""

    def __init__(self, model: nn.Module, average: Average | None):
        self.model, self.average = model, average
        self.kept: dict[str, Tensor] = {}

    def __enter__(self) -> nn.Module:
        if self.average is not None:
            state = self.model.state_dict()
            self.kept = {key: state[key].clone() for key in self.average.state}
            self.model.load_state_dict(self.average.state, strict=False)
        return self.model

    def __exit__(self, *_: object) -> None:
        if self.average is not None:
            self.model.load_state_dict(self.kept, strict=False)
