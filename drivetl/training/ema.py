"""The weights that are judged and saved: an average over steps, and between what was learnt and the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drivetl.models.surgery import row_classes

HALFWAY = 20
"""Labelled objects of a class from which its rows are half the start's, half what was learnt."""


def source_share_of_class(share: float, objects: int) -> float:
    """The start's share in a class's rows: more than `share` where the labels say little of the class.

    HALFWAY / (HALFWAY + objects), as in shrinkage towards a prior, and never less than `share`: a class without one
    object keeps the source's rows, one with nine hardly leaves them, a frequent one is treated as all other weights.
    """
    return max(share, HALFWAY / (HALFWAY + objects))


@dataclass
class Held:
    """A share of the starting weights in those that are judged: WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models"). On the straight line between both, what few labels taught and what they never showed stay."""

    start: dict[str, Tensor]
    """Parameters as they came from the source."""
    share: dict[str, Tensor]
    """Per parameter the start's share: a number, or one per row of a head."""

    @classmethod
    def of(cls, start: dict[str, Tensor], share: float, objects: Mapping[int, int | None]) -> Held:
        """objects: label index -> its labelled objects in training, None where no class of the source stands behind
        it (its rows are what was learnt). The background's rows have the common share.
        """
        of_class = {
            number: 0.0 if count is None else source_share_of_class(share, count) for number, count in objects.items()
        }
        shares = {}
        for name, value in start.items():
            classes = row_classes(name, len(value)) if value.ndim else None
            rows = share if classes is None else [of_class.get(number, share) for number in classes]
            shares[name] = torch.tensor(rows, dtype=value.dtype, device=value.device)
            if classes is not None:
                shares[name] = shares[name].view(-1, *[1] * (value.ndim - 1))
        return cls(start, shares)


class Average:
    """Exponential moving average of all floating-point weights and statistics, in fp32.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that short trainings are not dominated by the start.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.state: dict[str, Tensor] = {
            key: value.detach().clone() for key, value in model.state_dict().items() if value.is_floating_point()
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
    """`with Swapped(model, average, held):` the model holds the weights that are judged and saved, outside its own.

    These are the averaged ones where there is an average, drawn to the start where there is a share of it.
    """

    def __init__(self, model: nn.Module, average: Average | None, held: Held | None = None):
        self.model, self.average, self.held = model, average, held
        self.kept: dict[str, Tensor] = {}

    def __enter__(self) -> nn.Module:
        if self.average is None and self.held is None:
            return self.model
        state = self.model.state_dict()
        judged = dict(self.average.state) if self.average is not None else {}
        if self.held is not None:
            judged |= {
                name: torch.lerp(judged.get(name, state[name]), start, self.held.share[name])
                for name, start in self.held.start.items()
            }
        self.kept = {key: state[key].clone() for key in judged}
        self.model.load_state_dict(judged, strict=False)
        return self.model

    def __exit__(self, *_: object) -> None:
        if self.kept:
            self.model.load_state_dict(self.kept, strict=False)
