"""The weights that are evaluated and saved: an average over steps, blended with the starting weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drivetl.models.surgery import row_classes

HALFWAY = 20
"""Number of labelled objects of a class at which its rows are half the start's, half the trained ones."""


def source_share_of_class(share: float, objects: int) -> float:
    """The start's share in a class's rows: more than `share` for a class with few labelled objects.

    HALFWAY / (HALFWAY + objects), as in shrinkage towards a prior, and never less than `share`: a class without
    objects keeps the source's rows, one with nine objects stays close to them, a frequent class has the same share as
    all other weights.
    """
    return max(share, HALFWAY / (HALFWAY + objects))


@dataclass
class SourceBlend:
    """A share of the starting weights in those that are evaluated: WiSE-FT (Wortsman et al. 2022, "Robust fine-tuning
    of zero-shot models"). Weights between the source and the fine-tuned model keep much of the accuracy of both."""

    start: dict[str, Tensor]
    """Parameters as loaded from the source."""
    share: dict[str, Tensor]
    """Per parameter the start's share: a scalar, or a value per row of a head."""

    @classmethod
    def of(cls, start: dict[str, Tensor], share: float, objects: Mapping[int, int | None]) -> SourceBlend:
        """objects: label index -> its number of labelled objects in training, None for a class without a source class
        (its trained rows are kept). The background's rows have the common share.
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
        """Add the current weights to the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = model.state_dict()
        keys = list(self.state)
        torch._foreach_lerp_([self.state[key] for key in keys], [current[key] for key in keys], 1 - decay)


@contextmanager
def evaluated_weights(model: nn.Module, average: Average | None, blend: SourceBlend | None = None) -> Iterator[None]:
    """Inside the context the model has the weights that are evaluated and saved: averaged if there is an average,
    blended with the source's if there is a share of it. On exit its own weights are restored."""
    state = model.state_dict()
    evaluated = dict(average.state) if average is not None else {}
    if blend is not None:
        evaluated |= {
            name: torch.lerp(evaluated.get(name, state[name]), start, blend.share[name])
            for name, start in blend.start.items()
        }
    own = {key: state[key].clone() for key in evaluated}
    model.load_state_dict(evaluated, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(own, strict=False)
