"""A recipe by the number of labels and the strength of the augmentation: what `optim.recipe: auto` fills in for values
that the config leaves out; and the preset that `data.augment: auto` stands for.

With few labels and a detector to start from, the weights stay close to the start: the training is shorter the fewer
labels there are, the lowest stages are frozen, and the evaluated and saved weights keep a share of the start, which is
larger for classes with few examples (docs/results.md shows the effect of each part). With many labels the training is
longer and freer. A backbone without detection heads needs a higher learning rate and more steps, and random weights
need the most.

A strong preset (`drivetl.data.augment.strength`) shows a detector images that it has never seen. With enough labels the
training is freer, at a higher rate and with weights averaged over steps (docs/results.md, "Robust by training").
There, and only in a long training, `data.augment: auto` is a strong preset.

With footage without labels (`data.unlabelled`) the start is also the teacher. Where it was trained on the labelled
images already, the training is short, and the weights stay closest to it (docs/results.md, "Footage without labels").
Where it was not, it is to learn from them, and the recipe is that of the labels.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from drivetl.config import FinetuneConfig, is_auto
from drivetl.data.augment import AugmentConfig, Strength, load_preset, strength, untouched_share
from drivetl.models.source import Source
from drivetl.training.replay import shares, with_source_share
from drivetl.training.rounds import was_trained_on

Start = Literal["detector", "features", "none"]

FEW = 200
"""Up to this many labelled images count as few."""
MAX_PASSES = 32
"""From a detector no image is seen more often than this, whatever the batch size: the most that was measured."""
STRONG_FROM, STRONG_EMA = 100, 0.995
"""From a detector, with a strong preset: number of labelled images above which the training is freer, and the decay of
its average. With 50 labels of a city like the source's it lost 3.0 AP50, with 180 of another camera it gained."""
STRONG_EPOCHS = 12
"""Length from which on `data.augment: auto` is a strong preset where optim.epochs is set: with 180 labels, 12 epochs
with `severe` gained 1.8 AP50 by day, 3 epochs lost 1.6."""
FOOTAGE_STEPS = 180
"""Length, in optimizer steps, of a training that adds footage without labels to a detector."""
EVALUATIONS = 10
"""Approximate number of evaluations during a training."""


@dataclass(frozen=True)
class Recipe:
    """Values of `optim`, under the names they have there."""

    epochs: int
    lr: float
    layer_decay: float
    heads_only_epochs: int
    frozen_stages: int
    l2sp: float
    ema: float
    source_share: float


def recipe(
    n_images: int, start: Start, batch_size: float, augmented: Strength = "mild", *, footage: bool = False
) -> Recipe:
    """The recipe for `n_images` labelled training images (empty ones count) at `batch_size` images per step.

    augmented: how strong the preset is. footage: the start, trained on these images already, labels footage, of which
    batch_size counts nothing.

    With few labels the length is set in steps within bounds: 8 (features) or 12 (random weights) per image; from a
    detector n / 25 per image, at most 4, because a small set is overfitted after fewer passes. With many labels the
    length is set in epochs, and never in fewer steps than with few labels. With a large batch a step contains many
    images: from a detector an image is seen at most MAX_PASSES times. With a strong preset and more than STRONG_FROM
    labels the weights are averaged over steps and leave the start.
    """
    few, strong = n_images <= FEW, augmented == "strong" and n_images > STRONG_FROM

    def epochs(steps_per_image: float, min_steps: int, max_steps: int, if_many: int) -> int:
        steps = min(float(max_steps), max(float(min_steps), steps_per_image * n_images))
        needed = math.ceil(steps / math.ceil(max(1, n_images) / batch_size))
        return needed if few else max(if_many, needed)

    if start == "detector" and footage:
        return Recipe(min(MAX_PASSES, epochs(0, FOOTAGE_STEPS, FOOTAGE_STEPS, 1)), 1e-4, 1.0, 0, 2, 0.0, 0.99, 0.5)
    if start == "detector":
        length = min(MAX_PASSES, epochs(min(4.0, n_images / 25), 90, 800, 12))
        if few and strong:
            return Recipe(length, 5e-4, 1.0, 0, 2, 0.0, STRONG_EMA, 0.0)
        if few:
            return Recipe(length, 3e-4, 1.0, 0, 2, 0.0, 0.0, 0.3)
        return Recipe(length, 2e-4, 0.7, 1, 1, 0.0, 0.999, 0.0)
    if start == "features":
        return Recipe(epochs(8, 600, 1600, 8), 5e-4, 0.7, 0, 0, 0.0, 0.0, 0.0)
    return Recipe(epochs(12, 1500, 2400, 24), 1e-3, 1.0, 0, 0, 0.0, 0.0, 0.0)


def start_of(source: Source | None) -> Start:
    """The kind of start that the weights of `model.start` are."""
    return "none" if source is None else "features" if source.categories is None else "detector"


def teaches(config: FinetuneConfig, start: Start) -> bool:
    """Whether the start labels footage without labels, rather than another detector or a person."""
    return start == "detector" and bool(config.data.unlabelled) and not config.data.pseudo


def knows_labels(config: FinetuneConfig, start: Start) -> bool:
    """Whether the start labels footage, and was trained on data.train already."""
    return teaches(config, start) and was_trained_on(config.model.start, config.data.train)


def preset_for(n_images: int, start: Start, epochs: int | None = None) -> tuple[str, str]:
    """The preset that `data.augment: auto` stands for, and the reason in words.

    epochs: the length of the training; None where it does not matter: the recipe chooses it, and follows the preset, or
    a teacher that was trained before is trained on. Frames without labels (`data.unlabelled`) do not count: with few
    labels a strong preset lost.
    """
    detector = start == "detector"
    n_few, many = (STRONG_FROM, "severe") if detector else (FEW, "weather")
    is_few = n_images <= n_few
    amount = f"{'up to' if is_few else 'more than'} {n_few} labelled images"
    reason = f"{amount} and {'a' if detector else 'no'} detector to start from"
    if detector and not is_few and epochs is not None and epochs < STRONG_EPOCHS:
        return "photometric", f"{reason}, but fewer than {STRONG_EPOCHS} epochs"
    return "photometric" if is_few else many, reason


def with_preset(
    config: FinetuneConfig, n_images: int, start: Start, epochs: int | None = None
) -> tuple[FinetuneConfig, list[str]]:
    """The config with a preset in place of `data.augment: auto`, and a line that says why.

    epochs: the length of the training where it is not that of the config.
    """
    if not is_auto(config.data.augment):
        return config, []
    if epochs is None and not is_auto(config.optim.epochs):
        epochs = config.optim.epochs
    if epochs is not None and knows_labels(config, start):
        epochs = None
    preset, reason = preset_for(n_images, start, epochs)
    data = dataclasses.replace(config.data, augment=preset)
    return dataclasses.replace(config, data=data), [f"data.augment {preset}: {reason}"]


def resolve_auto(
    config: FinetuneConfig, n_images: int, start: Start, world: int = 1
) -> tuple[FinetuneConfig, list[str]]:
    """The config with a choice for every `auto` value, and lines that list them.

    world: number of processes. Values set in the config are kept. Raises ConfigError where such a value is inconsistent
    with the recipe's.
    """
    config, lines = with_preset(with_source_share(config), n_images, start)
    names = [item.name for item in dataclasses.fields(Recipe) if is_auto(getattr(config.optim, item.name))]
    if not names and not is_auto(config.eval.every):
        return config, lines
    preset = load_preset(config.data.augment)
    step_images: float = config.optim.batch_size * config.optim.accumulate * world
    footage = knows_labels(config, start)
    if footage:
        step_images *= 1 - sum(shares(config))
    chosen = recipe(n_images, start, step_images, strength(preset), footage=footage)
    optim = dataclasses.replace(config.optim, **{name: getattr(chosen, name) for name in names})
    if "heads_only_epochs" in names:  # a length set in the config may be shorter
        optim = dataclasses.replace(optim, heads_only_epochs=min(optim.heads_only_epochs, max(0, optim.epochs - 1)))
    every = config.eval.every
    if is_auto(every):
        every = max(1, optim.epochs // EVALUATIONS)
        names.append("eval.every")
    resolved = dataclasses.replace(config, optim=optim, eval=dataclasses.replace(config.eval, every=every))
    resolved.check()
    kinds = {"detector": "a detector", "features": "features alone", "none": "random weights"}
    amount = f"{n_images} labelled images ({'few' if n_images <= FEW else 'many'})"
    values = [f"{name} {every if '.' in name else getattr(optim, name):g}" for name in names]
    source = kinds[start] + (" trained on them, which labels footage" if footage else "")
    lines.append(f"recipe for {amount} from {source}, {_augmentation(preset)}: {', '.join(values)}")
    if teaches(config, start) and not footage:
        lines.append(
            "data.unlabelled: model.start was not trained on data.train, so the recipe is that of the labels - train on"
            " them first and start from that run, and the student stays close to it"
        )
    return resolved, lines


def _augmentation(preset: AugmentConfig) -> str:
    """`strong augmentation (4 % of images unchanged)`."""
    kind = strength(preset)
    if kind == "none":
        return "no augmentation"
    return f"{kind} augmentation ({100 * untouched_share(preset):.0f} % of images unchanged)"
