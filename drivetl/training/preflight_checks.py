"""The checks of pre-flight that need no step of the model: each returns a finding with its value and, where needed, a
fix."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from drivetl.coco.class_map import fold
from drivetl.coco.drives import Drives, shared_drives
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.config import FinetuneConfig, finds_rate
from drivetl.console.text import byte_size, counted, first_of, listing
from drivetl.data.sharing import shared_memory_warning
from drivetl.metrics.statistics import few_drives
from drivetl.models.anchors import AnchorSpec, resized, scaled_boxes, spec_of, strides_of
from drivetl.models.build import architecture
from drivetl.models.norm import SMALL_BATCH, choose_norm
from drivetl.models.runtime import free_memory
from drivetl.models.source import Source, published_file
from drivetl.models.surgery import NO_CLASS, Plan
from drivetl.training.optimizer import batch_factor, trainable_stages, trained_in_words
from drivetl.training.preflight_plan import Planned
from drivetl.training.recipe import Start, recipe
from drivetl.training.separate import copies, image_files

Severity = Literal["ok", "note", "warning", "error"]

FEW_OBJECTS = 12
"""With fewer objects of a class, one detection more or less moves its AP by several points."""
MOST_NAMES = 8
"""Names listed in one finding."""
SMALL_SHARES = (0.2, 0.5)
"""Share of the objects below the smallest anchor from which on it is a note, a warning."""
ENLARGED = 2.0
"""Factor from which on an image is said to be enlarged."""
SGD_RATE = 0.02 / 16
"""Learning rate of SGD per image of a step: 0.02 for 16 images, as detectron2 and torchvision's references train."""
PLAUSIBLE_RATE = (0.1, 5.0)
"""A learning rate between these multiples of the usual one is not questioned."""
FEW_STEPS = 60
PAIR_BYTES = 36
"""Peak memory of torchvision's `box_iou` per pair of boxes: nine numbers of 4 bytes."""
MEMORY_SHARES = (0.2, 0.5)
"""Share of the free memory for one image's targets from which on it is a note, a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    severity: Severity
    value: str
    fix: str = ""


def check_images(key: str, dataset: Dataset, may_lack: bool = False) -> Finding:
    """Whether every image file is there. may_lack: images that cannot be read are skipped in training."""
    images, root = dataset.images, dataset.images_root
    missing = [image.file_name for image in images if not os.path.isfile(root / image.file_name)]  # noqa: PTH113
    if missing:
        return Finding(
            key,
            "warning" if may_lack else "error",
            f"{len(missing)} of {len(images)} image files are missing, first {root / missing[0]}",
            "put the images where the json expects them, or convert the dataset again",
        )
    objects = sum(len(image.annotations) for image in images)
    empty = sum(not image.annotations for image in images)
    size = f"{counted(len(images), 'image')} of {Drives.of(images).in_words()}"
    value = f"{size}, {empty} without objects; {counted(objects, 'object')}"
    if not objects:
        return Finding(key, "warning", value, "convert with a taxonomy that keeps the labels")
    return Finding(key, "ok", value)


def check_split(train: Dataset, val: Dataset) -> Finding:
    """Whether training and validation are apart, and enough drives to evaluate on."""
    shared = shared_drives(train.images, val.images)
    if shared:
        names = f"{counted(len(shared), 'drive')} ({first_of(shared, 1)})"
        value = f"in train and in val: {names}, the score will be too high"
        return Finding("split", "warning", value, "split by drive")
    same = copies(image_files(val), image_files(train))
    if same:
        ours, theirs = next(iter(same.items()))
        example = f"first {ours}" + (f", a copy of {theirs}" if ours != theirs else "")
        value = f"{len(same)} of {len(val.images)} images of data.val are in data.train too, the score will be too high"
        value += f" ({example})"
        return Finding("split", "warning", value, "split again, see `drivetl split`")
    few = few_drives(Drives.of(val.images))
    if few:
        value, _, fix = few.partition("; ")
        return Finding("split", "note", f"data.val: {value}", fix or "name the drives when converting")
    return Finding("split", "ok", "no drive is in train and in val")


def check_objects(train: Dataset, val: Dataset, sampling: str) -> list[Finding]:
    """Classes without objects, and with fewer than FEW_OBJECTS."""
    counts = {"data.train": objects_of_classes(train), "data.val": objects_of_classes(val)}
    findings = []
    for key, of_class in counts.items():
        none = [name for name, count in of_class.items() if not count]
        few = [f"{name} ({count})" for name, count in of_class.items() if 0 < count < FEW_OBJECTS]
        in_train = key == "data.train"
        if none:
            value = f"no objects in {key}: {first_of(none, MOST_NAMES)}"
            value += " - cannot be trained" if in_train else " - without AP, left out of its mean"
            fix = "label some, or leave the classes out of the taxonomy" if in_train else "add images that show them"
            findings.append(Finding("objects", "warning" if in_train else "note", value, fix))
        if few:
            value = f"fewer than {FEW_OBJECTS} objects in {key}: {first_of(few, MOST_NAMES)}"
            value += "" if in_train else " - AP mostly by chance"
            repeat = in_train and sampling == "uniform"
            fix = "label more of them" + (", or --data.sampling repeat_factor" if repeat else "")
            findings.append(Finding("objects", "note", value, fix))
    if findings:
        return findings
    return [Finding("objects", "ok", f"every class has {FEW_OBJECTS} or more in data.train and data.val")]


def check_classes(plan: Plan | None, source: Source | None) -> Finding:
    """What of the start's classes is carried over, what is new and what is lost."""
    if plan is None or source is None:
        start = "the weights are random" if source is None else f"{source.description} has no heads"
        return Finding("classes", "ok", f"all are new: {start}")
    rows = plan.classes[1:]
    used = {name for row in rows for name in row.sources}
    unused = [name for name in plan.source_classes if name not in used and name != NO_CLASS]
    new = [row.name for row in rows if row.status == "reset"]
    kept = [
        row.name if fold(row.name) == fold(row.sources[0]) else f"{row.name} from {row.sources[0]}"
        for row in rows
        if row.status == "kept"
    ]
    mapped = [f"{row.name} from {row.describe()}" for row in rows if row.status == "mapped"]
    value = "; ".join(
        part
        for part in (
            f"carried over: {first_of(kept, MOST_NAMES)}" * bool(kept),
            f"by relation: {first_of(mapped, MOST_NAMES)}" * bool(mapped),
            f"new: {first_of(new, MOST_NAMES)}" * bool(new),
            f"lost: {first_of(unused, MOST_NAMES)}" * bool(unused and len(unused) <= MOST_NAMES),
            f"{len(unused)} other classes of the start are not used" * (len(unused) > MOST_NAMES),
        )
        if part
    )
    if not plan.grounded:
        return Finding("classes", "warning", value, "relate them to the start's classes: from: in the taxonomy")
    if unused and not source.description.startswith("coco"):
        fix = "nothing if they are not needed; else merge data with them, or set data.source"
        return Finding("classes", "warning", value, fix)
    if new:
        return Finding(
            "classes", "note", value, "relate new ones to similar classes of the start: from: in the taxonomy"
        )
    return Finding("classes", "ok", value)


def check_size(train: Dataset, config: FinetuneConfig) -> Finding:
    """What the network's resize does to the images."""
    m = config.model
    sizes = Counter((image.width, image.height) for image in train.images)
    (width, height), count = sizes.most_common(1)[0]
    new_width, new_height = resized(width, height, m.min_size, m.max_size)
    scale = new_width / width
    value = f"{width} x {height} px becomes {new_width} x {new_height} px"
    value += f" ({count} of {len(train.images)} images, {len(sizes)} sizes)" * (len(sizes) > 1)
    if scale >= ENLARGED:
        fix = f"--model.min_size {min(width, height)} --model.max_size {max(width, height)} is enough and faster"
        return Finding("size", "note", f"{value}: enlarged {scale:.1f} times", fix)
    return Finding("size", "ok", value)


def check_anchors(train: Dataset, config: FinetuneConfig, anchors: AnchorSpec, final: bool) -> Finding:
    """The share of the objects that are smaller at network input than the smallest anchor, as square roots of areas.

    final: the anchors are fitted already, if they are to be.
    """
    m = config.model
    boxes = scaled_boxes(train, m.min_size, m.max_size).boxes
    if not len(boxes):
        return Finding("anchors", "ok", "no objects to compare with")
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    smallest = min(size for level in anchors.sizes for size in level)
    share = float(np.mean(sides < smallest))
    value = f"{share:.0%} of {len(boxes)} objects are smaller than the smallest anchor ({smallest:.3g} px)"
    value += f", their median is {np.median(sides):.3g} px" * (share > 0)
    severity = _severity(share, SMALL_SHARES)
    if severity == "ok":
        return Finding("anchors", severity, value)
    fitted = "" if final else "model.anchors fit may choose smaller ones"
    fixes = (_larger_size(train, config), "--model.anchors fit" if m.anchors == "keep" else fitted)
    return Finding(
        "anchors",
        severity,
        value,
        ", or ".join(filter(None, fixes)) or "min_height_px in the taxonomy, so that they are ignored",
    )


def check_rate(config: FinetuneConfig, start: Start, step_images: int) -> Finding:
    """The learning rate against what is usual for the images of a step: the recipe's rate for AdamW, the published one
    for SGD, both scaled as `batch_factor` says."""
    optim = config.optim
    if finds_rate(config):
        return Finding("learning rate", "ok", "found by a range test before the first step")
    usual = SGD_RATE * step_images
    if optim.name == "adamw":
        usual = recipe(1000, start, step_images).lr * batch_factor(step_images, optim.name)
    low, high = (factor * usual for factor in PLAUSIBLE_RATE)
    value = f"{optim.lr:.2g} ({optim.name}) for {counted(step_images, 'image')} per step, usual is {usual:.2g}"
    fix = f"--optim.lr {usual:.2g}"
    if optim.lr > high:
        return Finding("learning rate", "warning", f"{value}: it may diverge", fix)
    if optim.lr < low:
        return Finding("learning rate", "warning", f"{value}: it will hardly learn", fix)
    return Finding("learning rate", "ok", value)


def check_steps(config: FinetuneConfig, steps: int, step_images: int) -> Finding:
    """How long the training is."""
    value = f"{steps} of {counted(step_images, 'image')} ({counted(config.optim.epochs, 'epoch')})"
    if steps < FEW_STEPS:
        return Finding("steps", "note", f"{value}: few", "more --optim.epochs, or --optim.recipe auto without epochs")
    return Finding("steps", "ok", value)


def check_norm(config: FinetuneConfig, start: Start, model: nn.Module) -> Finding:
    """BatchNorm against the images that its statistics are computed from: those of one forward pass."""
    size = config.optim.batch_size
    frozen, reason = choose_norm(config.model.norm, config.model.start, size)
    value = f"{'frozen' if frozen else 'trained'}: {reason}"
    if frozen and start == "none":
        value = "frozen, but random weights have no statistics: activations are not normalised"
        return Finding("BatchNorm", "warning", value, "--model.norm auto")
    trains = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    if trains and size < SMALL_BATCH:
        value = f"trained with statistics of {counted(size, 'image')}, which are noisy below {SMALL_BATCH}"
        fix = f"--optim.batch_size {SMALL_BATCH} (accumulate does not help)"
        if start == "none":
            return Finding("BatchNorm", "note", value, f"{fix}, or start from weights")
        return Finding("BatchNorm", "warning", value, f"--model.norm frozen, or {fix}")
    return Finding("BatchNorm", "ok", value)


def check_trained(config: FinetuneConfig, start: Start) -> Finding:
    """Which parts of the network train. Random weights that never do are a warning, stages that the epochs end too
    early to unfreeze a note."""
    optim, n_stages = config.optim, len(architecture(config.model.arch).stages)
    most, last = max(0, n_stages - optim.frozen_stages), trainable_stages(optim.epochs - 1, n_stages, optim)
    value = trained_in_words(n_stages, optim) or "all layers"
    wanted = n_stages if start == "none" else most
    longer = f"--optim.epochs {optim.heads_only_epochs + (wanted - 1) * optim.unfreeze_every + 1} or more"
    if start == "none" and last < n_stages:
        fixes = ["--optim.frozen_stages 0"] * (most < n_stages) + [longer] * (last < most)
        value = f"random weights are never trained in the lowest {n_stages - last} of {n_stages} backbone stages"
        return Finding("trained", "warning", value, " and ".join(fixes))
    if last < most:
        value = f"{counted(optim.epochs, 'epoch')} unfreeze the upper {last} of {n_stages} backbone stages only"
        return Finding("trained", "note", value, longer)
    return Finding("trained", "ok", value)


def check_start(config: FinetuneConfig) -> Finding:
    """Whether published weights are on this machine, and whether random ones are pulled to or blended with."""
    m, optim = config.model, config.optim
    unused = [key for key in ("l2sp", "source_share") if getattr(optim, key)]
    if m.start == "none" and unused:
        keys = listing([f"optim.{key}" for key in unused])
        value, fix = f"random weights: no effect of {keys}", "start from weights, or set 0"
        return Finding("start", "warning", value, fix)
    file = published_file(m.start, m.arch)
    if file is not None and not file.is_file():
        value = f"{m.start} weights will be downloaded to {file}"
        return Finding("start", "note", value, f"nothing, if there is internet; else copy {file.name} there")
    return Finding("start", "ok", "random weights" if m.start == "none" else m.start)


def check_crowd(planned: Planned, device: torch.device) -> Finding:
    """Memory that the targets of the most crowded image take in a step, against what is free."""
    images = planned.train.images
    crowded = max(images, key=lambda image: len(image.annotations))
    needed = crowd_bytes(planned, crowded)
    free = free_memory(device)
    value = f"the most crowded image, {crowded.file_name} with {counted(len(crowded.annotations), 'object')}, takes"
    value += f" {byte_size(needed)} more than an empty one"
    if free is None:
        return Finding("memory", "ok", value)
    severity = _severity(needed / free, MEMORY_SHARES)
    fix = "make ignore regions of its smallest objects, crop the image, or lower --model.min_size"
    return Finding("memory", severity, f"{value}; {byte_size(free)} are free on {device}", fix * (severity != "ok"))


def crowd_bytes(planned: Planned, image: ImageRecord) -> int:
    """Peak memory of matching an image's objects with all anchors (PAIR_BYTES each), or of resizing their masks,
    whichever is larger: the two do not happen at once."""
    m, n_objects = planned.config.model, len(image.annotations)
    width, height = resized(image.width, image.height, m.min_size, m.max_size)
    cells = sum(-(-height // stride) * -(-width // stride) for stride in strides_of(planned.model))
    pairs = PAIR_BYTES * spec_of(planned.model).per_location * cells * n_objects
    if not architecture(m.arch).masks:
        return pairs
    # uint8 as loaded and fp32 for the resize, then fp32 and uint8 at network input
    return max(pairs, 5 * n_objects * (image.width * image.height + width * height))


def check_loader(images: Sequence[ImageRecord], config: FinetuneConfig, workers: int) -> Finding:
    """The loader's processes, and /dev/shm against the batches that they prepare."""
    warning = shared_memory_warning(images, config.optim.batch_size, workers)
    if warning:
        value, _, fix = warning.partition(" - ")
        return Finding("loader", "warning", value, fix)
    return Finding("loader", "ok", counted(workers, "process") if workers else "in the training process")


def check_disk(planned: Planned, out: Path, runs: int = 1) -> Finding:
    """Free space where the run is written, against the checkpoints of all its trainings and the largest of their
    temporary copies."""
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    free, needed = shutil.disk_usage(folder).free, runs * checkpoint_bytes(planned.model, planned.config)
    value = f"checkpoints need {byte_size(needed)}, {folder} has {byte_size(free)} free"
    if needed > free:
        return Finding("disk", "error", value, "free space, or write to another disk with --out")
    if needed > free / 2:
        return Finding("disk", "warning", value, "free space, or write to another disk with --out")
    return Finding("disk", "ok", value)


def checkpoint_bytes(model: nn.Module, config: FinetuneConfig) -> int:
    """Size of the run's checkpoints: best, last and the state to resume from, which is written next to the old one."""
    weights: int = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    trained: int = sum(value.numel() * value.element_size() for value in model.parameters())
    moments = trained * (2 if config.optim.name == "adamw" else 1 if config.optim.momentum else 0)
    state = weights + moments + (weights if config.optim.ema else 0)
    return 2 * weights + 2 * state


def _larger_size(train: Dataset, config: FinetuneConfig) -> str:
    """The flags for the images' own size where the resize makes them smaller, else ''."""
    width, height = max((image.width, image.height) for image in train.images)
    short, long = sorted((width, height))
    if resized(width, height, config.model.min_size, config.model.max_size)[0] >= width:
        return ""
    return f"--model.min_size {short} --model.max_size {long} keeps the images' own size"


def objects_of_classes(dataset: Dataset) -> dict[str, int]:
    """Class -> number of its objects, in label order."""
    objects = Counter(item.category_id for image in dataset.images for item in image.annotations)
    return {name: objects[number] for number, name in enumerate(dataset.categories, 1)}


def _severity(share: float, limits: tuple[float, float]) -> Severity:
    return "ok" if share < limits[0] else "note" if share < limits[1] else "warning"
