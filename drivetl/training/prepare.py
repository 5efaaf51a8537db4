"""What is decided before the first step, each decision with its reason: classes, anchors, norm, weights,
augmentation."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import drivetl.data.augment as augment
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import own_labels, parse_taxonomy
from drivetl.config import FinetuneConfig
from drivetl.data.dataset import Augment
from drivetl.data.sampling import spread_over_drives
from drivetl.errors import CheckpointError, ConfigError, DataError
from drivetl.models import surgery
from drivetl.models.anchor_fit import Decision, fit
from drivetl.models.anchors import expand_rpn, scaled_boxes, spec_of, strides_of
from drivetl.models.build import ModelSpec, architecture, box_architecture, build_model
from drivetl.models.norm import choose_norm
from drivetl.models.source import Source, read_source
from drivetl.models.weights import load_backbone
from drivetl.training.recipe import resolve_auto, start_of

Relation = dict[str, dict[str, float]]


@dataclass
class Prepared:
    """Everything `finetune` needs to start learning, and what it tells the user first."""

    config: FinetuneConfig
    """The effective one: what was left to the recipe is filled in."""
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
    objects: dict[int, int | None]
    """Label index -> its objects in training; None where no class of the source stands behind it."""
    source_maps: bool
    """The source has heads for some of our classes: it is judged before the first step, and may be the best."""
    channels_last: bool
    described: str
    notes: list[str]


def prepare(
    config: FinetuneConfig, train: Dataset, val: Dataset, device: torch.device, precision: torch.dtype, world: int = 1
) -> Prepared:
    """Decide and build. Raises ConfigError, CheckpointError or DataError with the way out."""
    notes: list[str] = []
    arch = architecture(config.model.arch)
    if config.data.train_images > len(train.images):
        notes.append(f"data.train_images is {config.data.train_images}, there are {len(train.images)}: all are taken")
    train = training_subset(config, train)
    taxonomy = train.info.get("taxonomy")
    try:
        taxonomy = parse_taxonomy(taxonomy) if taxonomy else own_labels(train.categories)
    except DataError as error:
        raise error.at(config.data.train) from None
    source = read_source(config.model.start, config.model.arch)
    config, chosen_by_recipe = resolve_auto(config, len(train.images), start_of(source), world)
    notes += [chosen_by_recipe] if chosen_by_recipe else []
    if arch.masks and not any(item.segmentation for image in train.images for item in image.annotations):
        notes.append(f"no object of data.train has a mask: the mask head of {config.model.arch} learns nothing")
    frozen, reason = choose_norm(config.model.norm, config.model.start, config.optim.batch_size)
    notes.append(f"BatchNorm {'frozen' if frozen else 'trained'}: {reason}")
    spec = model_spec(config, train.categories, frozen, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # fresh layers are the same on every process of a group
        model = build_model(spec)
        before, decision = spec_of(model), _anchors(config, model, train)
        if decision is not None and decision.changed:
            chosen = decision.chosen
            spec = dataclasses.replace(spec, anchor_sizes=chosen.sizes, anchor_ratios=chosen.ratios)
            model = build_model(spec)
            if source is not None and source.categories is not None:
                source.state = expand_rpn(source.state, before, chosen)
        operation, inherited = _inherit(model, spec, source, taxonomy.relation())
    if decision is not None:
        decision.show()
    notes.append(str(operation["summary"]))
    preset = augment.load_preset(config.data.augment)
    pipeline = augment.build(preset)
    manifest = pipeline.manifest | {
        # a source without a manifest stays in the list as null: what it saw is unknown, and so are the levels
        "ancestors": [source.augmentation] if source else []
    }
    counts = Counter(item.category_id for image in train.images for item in image.annotations)
    layout = config.runtime.channels_last
    fast = precision == torch.bfloat16 or (device.type == "cpu" and arch.depthwise)
    return Prepared(
        config=config,
        model=model,
        spec=spec,
        train=train,
        val=val,
        augment=pipeline,
        taxonomy=taxonomy.as_dict(),
        relation=taxonomy.relation(),
        anchors=(
            decision.as_dict()
            if decision
            else {"before": before.as_dict(), "changed": False, "reason": "kept: as configured"}
        ),
        surgery=operation,
        manifest=manifest,
        inherited=inherited,
        objects={
            number: counts[number] if name in operation["grounded"] else None
            for number, name in enumerate(train.categories, 1)
        },
        source_maps=bool(operation.get("grounded")) and not operation["new_branch"],
        channels_last=layout == "on" or (layout == "auto" and fast),
        described=source.description if source else "random weights",
        notes=notes,
    )


def training_subset(config: FinetuneConfig, train: Dataset) -> Dataset:
    """The images of data.train that are learnt from: all, or data.train_images of them, spread over the drives."""
    if not config.data.train_images:
        return train
    return train.subset(spread_over_drives(train.images, config.data.train_images, config.seed))


def model_spec(config: FinetuneConfig, categories: tuple[str, ...], frozen: bool, source: Source | None) -> ModelSpec:
    """The model to build; a source run's anchors come with its weights. It may lack a mask branch, or have one too
    many."""
    m = config.model
    inherited = source.spec if source is not None and source.spec is not None else None
    if inherited is not None and box_architecture(inherited.arch) != box_architecture(m.arch):
        raise ConfigError(
            f"model.start is a {inherited.arch}, model.arch is {m.arch}", remedy=f"set --model.arch {inherited.arch}"
        )
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
        anchor_sizes=inherited.anchor_sizes if inherited else None,
        anchor_ratios=inherited.anchor_ratios if inherited else None,
    )


def _anchors(config: FinetuneConfig, model: nn.Module, train: Dataset) -> Decision | None:
    """Anchors fitted to the training boxes at network input, or None when they are to be kept."""
    if config.model.anchors == "keep":
        return None
    boxes = scaled_boxes(train, config.model.min_size, config.model.max_size)
    return fit(boxes, spec_of(model), strides_of(model), config.seed)


def _inherit(
    model: nn.Module, spec: ModelSpec, source: Source | None, relation: Relation
) -> tuple[dict[str, Any], frozenset[str]]:
    """Load the source's weights; (what became of every tensor, the names of inherited parameters)."""
    if source is None:
        return {
            "start": "none",
            "grounded": [],
            "new_branch": False,
            "summary": "weights: random, everything is learnt",
        }, frozenset()
    names = {name for name, _ in model.named_parameters()}
    if source.categories is None:
        loaded = load_backbone(model, source.state, source.description)
        kept = frozenset(name for name in names if name.startswith("backbone.body."))
        summary = f"weights: {loaded} tensors of the backbone from {source.description}; neck and heads are new"
        return {
            "start": source.description,
            "grounded": [],
            "new_branch": False,
            "backbone_tensors": loaded,
            "summary": summary,
        }, kept
    operation = surgery.plan(source.categories, spec.categories, relation, source.relation)
    try:
        report = surgery.load(model, source.state, operation)
    except CheckpointError as error:
        raise CheckpointError(f"{source.description}: {error}") from None
    report.show()
    kept = frozenset(line.key for line in report.tensors if line.status in ("kept", "mapped")) & names
    summary = f"weights: {len(kept)} of {len(names)} parameters from {source.description}"
    new_branch = "reset" in report.counts()
    if new_branch:
        summary += "; its masks are learnt anew, so it is not judged before the first step and cannot be the best"
    said = {"start": source.description, "grounded": list(operation.grounded), "new_branch": new_branch}
    return report.as_dict() | said | {"summary": summary}, kept
