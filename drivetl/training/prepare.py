"""Decisions before the first step, each with its reason: classes, anchors, norm, weights, augmentation."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import drivetl.data.augment as augment
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.taxonomy import dataset_taxonomy
from drivetl.config import FinetuneConfig, is_auto
from drivetl.console.text import counted
from drivetl.data.dataset import Augment
from drivetl.data.repeats import Factors, repeat_factors, sampling_in_words
from drivetl.data.sampling import EpochBatches, Extra, exact_share, spread_over_drives
from drivetl.errors import CheckpointError, ConfigError
from drivetl.models import surgery
from drivetl.models.anchor_fit import Decision, fit
from drivetl.models.anchors import expand_rpn, scaled_boxes, spec_of, strides_of
from drivetl.models.build import ModelSpec, architecture, box_architecture, build_model
from drivetl.models.gpu import apply_settings, choose_layout, choose_shapes, input_shapes
from drivetl.models.norm import choose_norm
from drivetl.models.source import Source, read_source
from drivetl.models.surgery import Plan
from drivetl.models.weights import load_backbone
from drivetl.training.optimizer import batch_factor, trained_in_words
from drivetl.training.recipe import Start, resolve_auto, start_of
from drivetl.training.replay import Replay
from drivetl.training.unlabelled import Pseudo

Relation = dict[str, dict[str, float]]


@dataclass
class Prepared:
    """Everything `finetune` needs to start training, and the notes it prints first."""

    config: FinetuneConfig
    """The effective config, with the recipe's choice for every `auto`."""
    model: nn.Module
    spec: ModelSpec
    train: Dataset
    factors: Factors | None
    """How often each image of `train` is in an epoch; None: once."""
    replay: Replay | None
    """Images of the source's domain that are trained on next to `train`."""
    pseudo: Pseudo | None
    """Frames without labels that are trained on as well; None until they are labelled."""
    val: Dataset
    augment: Augment
    taxonomy: dict[str, Any]
    relation: Relation
    anchors: dict[str, Any]
    surgery: dict[str, Any]
    manifest: dict[str, Any]
    inherited: frozenset[str]
    """Names of the parameters loaded from the source: those that L2-SP pulls back."""
    objects: dict[int, int | None]
    """Label index -> its number of objects in training; None for a class without a source class."""
    source_maps: bool
    """The source has heads for some of our classes: it is evaluated before the first step, and may be the best."""
    channels_last: bool
    start: str
    """What the weights start from: `run city`, `coco weights`, `random weights`."""
    outline: Source | None
    """The start without its weights."""
    class_plan: Plan | None
    """Where each class's rows come from; None for a start without heads."""
    notes: list[str]


def prepare(
    config: FinetuneConfig,
    train: Dataset,
    val: Dataset,
    device: torch.device,
    precision: torch.dtype,
    world: int = 1,
    replay: Replay | None = None,
    n_unlabelled: int = 0,
) -> Prepared:
    """Decide and build. Raises ConfigError, CheckpointError or DataError with the way out.

    replay: what is trained on next to `train`; n_unlabelled: number of frames without labels that are trained on as
    well. Anchors and recipe follow from `train` alone.
    """
    arch, notes = architecture(config.model.arch), list[str]()
    if config.data.train_images > len(train.images):
        notes.append(
            f"data.train_images is {config.data.train_images}, data.train has {len(train.images)}: all are used"
        )
    train = training_subset(config, train)
    taxonomy = dataset_taxonomy(train, config.data.train)
    source = read_source(config.model.start, config.model.arch)
    config, chosen_by_recipe = resolve(config, len(train.images), start_of(source), world)
    notes += chosen_by_recipe
    factors = None
    if config.data.sampling == "repeat_factor":
        factors = repeat_factors(train.images, config.data.rare_below)
        notes.append(sampling_in_words(train.images, train.categories, config.data.rare_below))
    images = train.images + (replay.dataset.images if replay is not None else [])
    if arch.masks and not any(item.segmentation for image in images for item in image.annotations):
        notes.append(f"no object of data.train has a mask: the mask head of {config.model.arch} is not trained")
    notes += _extras_in_words(config, train, factors, replay, n_unlabelled, world)
    frozen, reason = choose_norm(config.model.norm, config.model.start, config.optim.batch_size)
    notes.append(f"BatchNorm {'frozen' if frozen else 'trained'}: {reason}")
    trained = trained_in_words(len(arch.stages), config.optim)
    notes += [f"trained: {trained}"] if trained else []
    spec = model_spec(config, train.categories, frozen, source)
    built = _build(config, spec, train, source, taxonomy.relation())
    surgery_facts = built.surgery
    notes.append(str(surgery_facts["summary"]))
    preset = augment.with_scale_jitter(augment.load_preset(config.data.augment), config.data.scale_jitter)
    pipeline = augment.build(preset)
    manifest = pipeline.manifest | {
        # a source without a manifest is listed as null: its augmentation is unknown, so held-out levels are too
        "ancestors": [source.augmentation] if source else []
    }
    counts = Counter(item.category_id for image in train.images for item in image.annotations)
    channels_last, reason = choose_layout(config.runtime.channels_last, device, precision, arch.depthwise)
    notes.append(f"channels_last {'on' if channels_last else 'off'}: {reason}")
    notes += _gpu_settings(config, built.model, images, device, precision)
    return Prepared(
        config=config,
        model=built.model,
        spec=built.spec,
        train=train,
        factors=factors,
        replay=replay,
        pseudo=None,
        val=val,
        augment=pipeline,
        taxonomy=taxonomy.as_dict(),
        relation=taxonomy.relation(),
        anchors=built.anchors,
        surgery=surgery_facts,
        manifest=manifest,
        inherited=built.inherited,
        objects={
            number: counts[number] if name in surgery_facts["grounded"] else None
            for number, name in enumerate(train.categories, 1)
        },
        source_maps=bool(surgery_facts["grounded"]) and not surgery_facts["new_branch"],
        channels_last=channels_last,
        start=source.description if source else "random weights",
        outline=dataclasses.replace(source, state={}) if source else None,
        class_plan=built.class_plan,
        notes=notes,
    )


@dataclass(frozen=True)
class _Built:
    """The model with the weights of its start."""

    model: nn.Module
    spec: ModelSpec
    """With fitted anchors, where they were chosen."""
    anchors: dict[str, Any]
    class_plan: Plan | None
    surgery: dict[str, Any]
    inherited: frozenset[str]


def _build(
    config: FinetuneConfig, spec: ModelSpec, train: Dataset, source: Source | None, relation: Relation
) -> _Built:
    """Build the model, fit its anchors and load the source's weights; print what was decided on both. The random state
    is that of before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # new layers are the same on every process of a group
        model = build_model(spec)
        before, decision = spec_of(model), _anchors(config, model, train)
        if decision is not None and decision.changed:
            chosen = decision.chosen
            spec = dataclasses.replace(spec, anchor_sizes=chosen.sizes, anchor_ratios=chosen.ratios)
            model = build_model(spec)
            if source is not None and source.categories is not None:
                source.state = expand_rpn(source.state, before, chosen)
        class_plan = class_plan_of(spec, source, relation)
        surgery_facts, inherited = _inherit(model, source, class_plan)
    anchors: dict[str, Any] = {"before": before.as_dict(), "changed": False, "reason": "kept: as configured"}
    if decision is not None:
        decision.show()
        anchors = decision.as_dict()
    return _Built(model, spec, anchors, class_plan, surgery_facts, inherited)


def _extras_in_words(
    config: FinetuneConfig,
    train: Dataset,
    factors: Factors | None,
    replay: Replay | None,
    n_unlabelled: int,
    world: int,
) -> list[str]:
    """Notes on what is trained on next to `train`: images and classes of data.source, and what makes an epoch."""
    notes, extras = list[str](), dict[str, Extra]()
    if replay is not None:
        notes += [f"data.source: {replay.in_words()}", f"classes of data.source: {replay.classes_in_words()}"]
        extras["data.source"] = replay.extra
    if n_unlabelled:
        extras["data.unlabelled"] = Extra(n_unlabelled, config.data.unlabelled_share)
    if not extras:
        return notes
    batches = EpochBatches(
        len(train.images),
        config.optim.batch_size * config.optim.accumulate,
        config.seed,
        factors=factors,
        extras=list(extras.values()),
        world=world,
    )
    return [*notes, _epoch_in_words(batches, list(extras))]


def resolve(config: FinetuneConfig, n_images: int, start: Start, world: int) -> tuple[FinetuneConfig, list[str]]:
    """The config with the recipe's choice for every `auto`, its rate changed for the images of a step; and notes on
    both. Raises ConfigError where a value is inconsistent with the recipe's."""
    rate_is_auto = is_auto(config.optim.lr)
    config, notes = resolve_auto(config, n_images, start, world)
    if rate_is_auto:
        config, note = rate_for_batch(config, world)
        notes += note
    return config, notes


def effective_batch(config: FinetuneConfig, world: int) -> list[str]:
    """A note on how many images an optimizer step has, where that is more than optim.batch_size."""
    size, accumulate = config.optim.batch_size, config.optim.accumulate
    if accumulate * world == 1:
        return []
    factors = [f"batch_size {size}"] + [f"accumulate {accumulate}"] * (accumulate > 1)
    factors += [f"{world} processes"] * (world > 1)
    return [f"effective batch: {size * accumulate * world} images per optimizer step ({' x '.join(factors)})"]


def rate_for_batch(config: FinetuneConfig, world: int) -> tuple[FinetuneConfig, list[str]]:
    """The config with the recipe's rate changed for the images of an optimizer step (`batch_factor`), and a note."""
    optim = config.optim
    images = optim.batch_size * optim.accumulate * world
    factor = batch_factor(images, optim.name)
    if factor == 1:
        return config, []
    rate = min(optim.lr * factor, 10.0)  # the most that the key takes
    rule = "linear" if optim.name == "sgd" else "square root"
    note = (
        f"lr {rate:.3g}: the recipe's {optim.lr:g} x {factor:.3g} for {images} images per optimizer step ({rule} rule)"
    )
    return dataclasses.replace(config, optim=dataclasses.replace(optim, lr=rate)), [note]


def _epoch_in_words(batches: EpochBatches, names: list[str]) -> str:
    """How many images of data.train and of the named extras an epoch has."""
    shown = len(batches) * batches.batch_size * batches.world
    of_extras = [shown * float(exact_share(extra.share)) for extra in batches.extras]
    added = [f"{count:.4g} of {name}" for name, count in zip(names, of_extras, strict=True)]
    parts = " and ".join([f"{shown - sum(of_extras):.4g} images of data.train", *added])
    return f"an epoch is {counted(len(batches), 'step')} with {parts}"


def _gpu_settings(
    config: FinetuneConfig, model: Any, images: list[ImageRecord], device: torch.device, precision: torch.dtype
) -> list[str]:
    """Fix the input shapes and set PyTorch's switches where the device is a GPU or the network is compiled; a line for
    each choice."""
    compiles = config.runtime.compile
    if device.type != "cuda" and not compiles:
        return []
    sizes = [(image.width, image.height) for image in images]
    shapes = input_shapes(sizes, config.model.min_size, config.model.max_size)
    model.transform.fixed_shapes, reason = choose_shapes(shapes, device, compiles)
    return [f"input shapes: {reason}", *apply_settings(device, precision, model.transform.fixed_shapes)]


def training_subset(config: FinetuneConfig, train: Dataset) -> Dataset:
    """The images of data.train that are trained on: all, or data.train_images of them, spread over the drives."""
    if not config.data.train_images:
        return train
    return train.subset(spread_over_drives(train.images, config.data.train_images, config.seed))


def model_spec(config: FinetuneConfig, categories: tuple[str, ...], frozen: bool, source: Source | None) -> ModelSpec:
    """The model to build, with the anchors of a source run. The mask branch may be missing in either of source and
    model. Raises ConfigError for any other difference between their architectures."""
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
    """The decision on anchors fitted to the training boxes at network input; None for `model.anchors: keep`."""
    if config.model.anchors == "keep":
        return None
    boxes = scaled_boxes(train, config.model.min_size, config.model.max_size)
    return fit(boxes, spec_of(model), strides_of(model), config.seed)


def class_plan_of(spec: ModelSpec, source: Source | None, relation: Relation) -> Plan | None:
    """Where each class's rows of the heads come from; None for a start without heads. Raises ConfigError."""
    if source is None or source.categories is None:
        return None
    return surgery.plan(source.categories, spec.categories, relation, source.relation)


def _inherit(model: nn.Module, source: Source | None, plan: Plan | None) -> tuple[dict[str, Any], frozenset[str]]:
    """Load the source's weights. Returns (surgery.json: what became of every tensor, names of inherited parameters)."""
    no_heads: dict[str, Any] = {"grounded": [], "new_branch": False}
    if source is None:
        return no_heads | {"start": "none", "summary": "weights: random"}, frozenset()
    names = {name for name, _ in model.named_parameters()}
    if plan is None:
        loaded = load_backbone(model, source.state, source.description)
        kept = frozenset(name for name in names if name.startswith("backbone.body."))
        summary = f"weights: {loaded} tensors of the backbone from {source.description}; neck and heads are new"
        return no_heads | {"start": source.description, "backbone_tensors": loaded, "summary": summary}, kept
    try:
        report = surgery.load(model, source.state, plan)
    except CheckpointError as error:
        raise CheckpointError(f"{source.description}: {error.reason}", remedy=error.remedy) from None
    report.show()
    kept = frozenset(line.key for line in report.tensors if line.status in ("kept", "mapped")) & names
    summary = f"weights: {len(kept)} of {len(names)} parameters from {source.description}"
    new_branch = "reset" in report.counts()
    if new_branch:
        summary += "; the mask branch is new, so the source is not evaluated before the first step and cannot be best"
    facts = {"start": source.description, "grounded": list(plan.grounded), "new_branch": new_branch}
    return report.as_dict() | facts | {"summary": summary}, kept
