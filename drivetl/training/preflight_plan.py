"""What a training will be, as far as it is known before weights are read: what pre-flight checks look at."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.taxonomy import dataset_taxonomy
from drivetl.config import FinetuneConfig
from drivetl.data.repeats import images_per_epoch, repeat_factors
from drivetl.data.sampling import epoch_steps
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.norm import choose_norm
from drivetl.models.source import Source, outline_of
from drivetl.models.surgery import Plan
from drivetl.training.prepare import Prepared, class_plan_of, model_spec, resolve, training_subset
from drivetl.training.recipe import Start, start_of
from drivetl.training.replay import shares


@dataclass(frozen=True)
class Planned:
    """A training as far as it is known without its weights."""

    config: FinetuneConfig
    """With the recipe's choice for every `auto`."""
    train: Dataset
    """The images that are trained on."""
    val: Dataset
    source: Source | None
    """The start, without its weights where its classes are known without them."""
    class_plan: Plan | None
    """Where each class's rows come from; None for a start without heads."""
    spec: ModelSpec
    model: nn.Module
    """On torch's meta device: shapes without values."""
    world: int
    """Number of processes."""
    others: tuple[Dataset, ...] = ()
    """What is trained on next to `train`."""
    choices: tuple[str, ...] = ()
    """What the recipe and `data.augment: auto` chose, in words."""
    anchors_final: bool = False
    """The model's anchors are those of the training: fitted already, if they are to be."""

    @property
    def images(self) -> list[ImageRecord]:
        """All images that are trained on."""
        return [image for dataset in (self.train, *self.others) for image in dataset.images]

    @property
    def start(self) -> Start:
        """The kind of start."""
        return start_of(self.source)

    @property
    def step_images(self) -> int:
        """Images of an optimizer step, over all processes."""
        return self.config.optim.batch_size * self.config.optim.accumulate * self.world

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training, with those that data.source and data.unlabelled add."""
        data, count = self.config.data, len(self.train.images)
        if data.sampling == "repeat_factor":
            count = images_per_epoch(repeat_factors(self.train.images, data.rare_below))
        return self.config.optim.epochs * epoch_steps(count, self.step_images, shares(self.config))


def plan_training(config: FinetuneConfig, train: Dataset, val: Dataset, world: int = 1) -> Planned:
    """What `prepare` would decide, without reading weights where possible and without fitting anchors.

    Raises ConfigError, CheckpointError or DataError as `prepare` does.
    """
    train = training_subset(config, train)
    taxonomy = dataset_taxonomy(train, config.data.train)
    source = outline_of(config.model.start, config.model.arch)
    config, choices = resolve(config, len(train.images), start_of(source), world)
    frozen, _ = choose_norm(config.model.norm, config.model.start, config.optim.batch_size)
    spec = model_spec(config, train.categories, frozen, source)
    plan = class_plan_of(spec, source, taxonomy.relation())
    return Planned(config, train, val, source, plan, spec, _shapes_of(spec), world, choices=tuple(choices))


def planned_as(prepared: Prepared, world: int) -> Planned:
    """What was decided for a training that is about to begin."""
    p = prepared
    others = tuple(part.dataset for part in (p.replay, p.pseudo) if part is not None)
    shapes = _shapes_of(p.spec)
    planned = Planned(p.config, p.train, p.val, p.outline, p.class_plan, p.spec, shapes, world, others)
    return dataclasses.replace(planned, anchors_final=True)


def _shapes_of(spec: ModelSpec) -> nn.Module:
    with torch.device("meta"):
        return build_model(spec)
