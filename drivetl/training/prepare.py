"""What is decided before the first step, each decision with its reason: classes, anchors, norm, weights, augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import own_labels, parse_taxonomy
from drivetl.config import FinetuneConfig
from drivetl.data import augment
from drivetl.data.dataset import Augment
from drivetl.data.sampling import spread_over_drives
from drivetl.models import anchors, surgery
from drivetl.models.build import ModelSpec, architecture, build_model
from drivetl.models.checkpoint import Source, load_backbone, read_source
from drivetl.models.norm import choose_norm

Relation = dict[str, dict[str, float]]


@dataclass
class Prepared:
    """Everything `finetune` needs to start learning, and what it tells the user first."""

    model: nn.Module
    spec: ModelSpec
    train: Dataset
    val: Dataset
    augment: Augment
    taxonomy: dict[str, Any]
    relation: Relation
    anchors: dict[str, Any]
    surgery: dict[str, Any]
    manifest: dict[str, Any]
    inherited: frozenset[str]
    """Names of parameters that came from the source: what L2-SP pulls to."""
    source_maps: bool
    """The source has a head for some of our classes: it is judged before the first step."""
    channels_last: bool
    described: str
    notes: list[str]


def prepare(
    config: FinetuneConfig, train: Dataset, val: Dataset, device: torch.device, precision: torch.dtype
) -> Prepared:
    """Decide and build. Raises ConfigError, CheckpointError or DataError with the way out."""
    notes: list[str] = []
    arch = architecture(config.model.arch)
    if config.data.train_images:
        train = train.subset(spread_over_drives(train.images, config.data.train_images, config.seed))
    taxonomy = train.info.get("taxonomy")
    taxonomy = parse_taxonomy(taxonomy) if taxonomy else own_labels(train.categories)
    source = read_source(config.model.start, config.model.arch)
    frozen, reason = choose_norm(config.model.norm, config.model.start, config.optim.batch_size)
    notes.append(f"BatchNorm {'frozen' if frozen else 'trained'}: {reason}")
    spec = _spec(config, train.categories, frozen)
    chosen, report = _anchors(config, spec, source, train)
    notes.append(report.pop("summary"))
    spec = chosen
    torch.manual_seed(config.seed)  # fresh layers are the same on every process of a group
    model = build_model(spec)
    operation, inherited = _inherit(model, spec, source, taxonomy.relation(), notes)
    preset = augment.load_preset(config.data.augment)
    pipeline = augment.build(preset)
    manifest = pipeline.manifest | {"ancestors": [source.augmentation] if source and source.augmentation else []}
    layout = config.runtime.channels_last
    fast = precision == torch.bfloat16 or (device.type == "cpu" and arch.depthwise)
    return Prepared(
        model=model,
        spec=spec,
        train=train,
        val=val,
        augment=pipeline,
        taxonomy=taxonomy.as_dict(),
        relation=taxonomy.relation(),
        anchors=report,
        surgery=operation,
        manifest=manifest,
        inherited=inherited,
        source_maps=bool(operation.get("maps")),
        channels_last=layout == "on" or (layout == "auto" and fast),
        described=source.described if source else "random weights",
        notes=notes,
    )


def _spec(config: FinetuneConfig, categories: tuple[str, ...], frozen: bool) -> ModelSpec:
    m = config.model
    return ModelSpec(
        arch=m.arch,
        categories=categories,
        min_size=m.min_size,
        max_size=m.max_size,
        proposals_train=m.proposals_train,
        proposals_test=m.proposals_test,
        rois_per_image=m.rois_per_image,
        detections_per_image=m.detections_per_image,
        score_threshold=m.score_threshold,
        frozen_norm=frozen,
    )
