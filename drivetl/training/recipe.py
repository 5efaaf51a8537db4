"""A recipe by the number of labels: what `optim.recipe: auto` fills in where the config says nothing.

Few labels and a detector to start from: hold on to it. The fewer, the shorter the training; the lowest stages are
frozen, and the weights that are judged and saved keep a share of the start, larger where a class has few examples:
docs/results.md has what each part of it is worth. Many labels: let it learn. Features alone know no box
yet, so neck and heads need higher rates and more steps; random weights, most.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from drivetl.config import FinetuneConfig, is_auto
from drivetl.models.source import Source

Start = Literal["detector", "features", "none"]

FEW = 200
"""Up to so many labelled images count as few."""
MOST_PASSES = 32
"""From a detector, no image is seen more often, however large the batch is: so far it was measured (section `city`)."""
LOOKS = 10
"""Evaluations over a training, about."""


@dataclass(frozen=True)
class Recipe:
    """Values of `optim`, by their names there."""

    epochs: int
    lr: float
    layer_decay: float
    heads_only_epochs: int
    frozen_stages: int
    l2sp: float
    ema: float
    source_share: float


def recipe(n_images: int, start: Start, batch_size: int) -> Recipe:
    """The recipe for `n_images` labelled training images (empty ones count) at `batch_size` images per step.

    With few labels the length is set in steps within bounds, 8 (features) or 12 (random weights) per image; a detector
    takes n / 25, 4 at most: the fewer the labels, the less often each may be seen before it is learnt by heart. With
    many labels it is set in epochs, and never in fewer steps than with few. A large batch makes steps dear: from a
    detector an image is seen MOST_PASSES times at the most.
    """
    few = n_images <= FEW

    def epochs(per_image: float, least: int, most: int, if_many: int) -> int:
        steps = min(float(most), max(float(least), per_image * n_images))
        needed = math.ceil(steps / math.ceil(max(1, n_images) / batch_size))
        return needed if few else max(if_many, needed)

    if start == "detector":
        length = min(MOST_PASSES, epochs(min(4.0, n_images / 25), 90, 800, 12))
        if few:
            return Recipe(length, 3e-4, 1.0, 0, 2, 0.0, 0.0, 0.3)
        return Recipe(length, 2e-4, 0.7, 1, 1, 0.0, 0.999, 0.0)
    if start == "features":
        return Recipe(epochs(8, 600, 1600, 8), 5e-4, 0.7, 0, 0, 0.0, 0.0, 0.0)
    return Recipe(epochs(12, 1500, 2400, 24), 1e-3, 1.0, 0, 0, 0.0, 0.0, 0.0)


def start_of(source: Source | None) -> Start:
    """What kind of start the weights of `model.start` are."""
    return "none" if source is None else "features" if source.categories is None else "detector"


def resolve_auto(config: FinetuneConfig, n_images: int, start: Start, world: int = 1) -> tuple[FinetuneConfig, str]:
    """The config with every value that was left to the recipe filled in, and one line saying so ('' when none was).

    Values that were written win. Raises ConfigError where a written value does not go with the recipe's.
    """
    chosen = recipe(n_images, start, config.optim.batch_size * world)
    names = [item.name for item in dataclasses.fields(Recipe) if is_auto(getattr(config.optim, item.name))]
    optim = dataclasses.replace(config.optim, **{name: getattr(chosen, name) for name in names})
    if "heads_only_epochs" in names:  # a written length may be shorter
        optim = dataclasses.replace(optim, heads_only_epochs=min(optim.heads_only_epochs, max(0, optim.epochs - 1)))
    every = config.eval.every
    if is_auto(every):
        every = max(1, optim.epochs // LOOKS)
        names.append("eval.every")
    if not names:
        return config, ""
    done = dataclasses.replace(config, optim=optim, eval=dataclasses.replace(config.eval, every=every))
    done.check()
    kinds = {"detector": "a detector", "features": "features alone", "none": "random weights"}
    amount = f"{n_images} labelled images ({'few' if n_images <= FEW else 'many'})"
    values = [f"{name} {every if '.' in name else getattr(optim, name):g}" for name in names]
    return done, f"recipe for {amount} from {kinds[start]}: {', '.join(values)}"
