"""Pseudo-labels, by which footage without labels is trained on next to labelled frames.

A teacher detects once in the frames as they are. What it is sure of (a score of at least `data.pseudo_threshold`) is an
object, what it is unsure of (from `data.pseudo_ignore_from` on) is an ignore region, all else is background. The labels
are an ordinary dataset, `pseudo.json` in the run, and do not change during the training. Its frames count
`data.unlabelled_weight` in the classification losses and nothing in the box losses: where a box is exactly, the
teacher knows no better than its student. docs/unlabelled.md says when that helps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drivetl import console
from drivetl.coco.class_map import class_map, taxonomy_of_relation
from drivetl.coco.drives import Drives
from drivetl.coco.hashes import file_hash
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import dataset_taxonomy
from drivetl.config import FinetuneConfig
from drivetl.console.text import counted, first_of_all
from drivetl.data.sampling import Extra
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import BEST_DETECTIONS, PSEUDO, run_root, validation_data
from drivetl.metrics.match_store import match
from drivetl.metrics.operating import choose_threshold, score_curve
from drivetl.metrics.results import Results, load_results, read_coco_results
from drivetl.models.build import ModelSpec
from drivetl.models.detector import Detector
from drivetl.models.source import load_source_detector
from drivetl.processes import Group
from drivetl.training.bands import capped, most_objects, with_bands, without_masks
from drivetl.training.footage import Footage, frames_of_results
from drivetl.training.gaps import fill_gaps, n_filled
from drivetl.training.replay import under_classes
from drivetl.training.rounds import agreement, agreement_in_words, round_of
from drivetl.training.rundir import read_provenance
from drivetl.training.validate import validate, validation_loader

THRESHOLDS = 0.3, 0.9
"""Bounds of a class's own threshold."""
ENOUGH = 30
"""Objects of a class in the validation data from which its own threshold is more than luck."""
BOX_WEIGHT = 0.0
"""Weight of the box losses of an unlabelled frame."""
NAMED = 5
"""Most names in a message."""


@dataclass(frozen=True)
class Pseudo:
    """Frames with pseudo-labels under the target's classes."""

    dataset: Dataset
    share: float
    """Share of the images of every batch."""
    weight: float
    """Weight of their classification losses next to 1 of the labelled images."""

    def threshold(self, name: str, default: float) -> float:
        """Least score of the pseudo-objects of a class, by its name."""
        return float(self.dataset.info.get("thresholds", {}).get(name, default))

    @property
    def extra(self) -> Extra:
        """The stream of the frames, for `EpochBatches`."""
        return Extra(len(self.dataset.images), self.share)

    @property
    def loss_weights(self) -> tuple[float, float]:
        """Of classification and box losses."""
        return self.weight, BOX_WEIGHT

    def in_words(self) -> str:
        """`65 frames of 1 drive, 33.33 % of every batch, losses x 0.5: 210 objects and 340 ignore regions`."""
        images = self.dataset.images
        objects, regions = (sum(map(len, column)) for column in _columns(images))
        filled = n_filled(self.dataset)
        gaps = f" ({filled} in gaps of one frame)" if filled else ""
        frames = f"{counted(len(images), 'frame')} of {Drives.of(images).in_words()}"
        found = f"{counted(objects, 'object')} and {counted(regions, 'ignore region')}{gaps}"
        return f"{frames}, {100 * self.share:g} % of every batch, losses x {self.weight:g}: {found}"


def _columns(images: Sequence[ImageRecord]) -> tuple[list[list[Annotation]], list[list[IgnoreRegion]]]:
    return [image.annotations for image in images], [image.ignore_regions for image in images]


def label(
    footage: Footage, config: FinetuneConfig, spec: ModelSpec, target: Dataset, device: torch.device, group: Group
) -> Pseudo:
    """The frames with pseudo-labels under the classes of `target`: by `model.start`, from a results list, or as an
    edited file has them. The same on every process of the group.

    spec: of the model to train, for a start that does not describe itself. Raises ConfigError where the labels' classes
    are none of the target's, or where nothing scores enough to be an object.
    """
    path = Path(config.data.pseudo) if config.data.pseudo else None
    if footage.edited:
        assert path is not None
        under = _of_file(footage.dataset, target, config, path)
    elif path is not None:
        every, used = frames_of_results(config.data.unlabelled, path), {image.id for image in footage.dataset.images}
        bands = with_bands(every, read_coco_results(path, every), _bounds(config))
        bands = bands.subset([image for image in bands.images if image.id in used])
        under = _of_file(bands, target, config, path)
    else:
        under = _by_teacher(_teacher(config, spec, device), footage, target, config, group)
    under = capped(under, most_objects(target))
    if config.data.pseudo_gaps == "ignore" and not footage.edited:
        under = fill_gaps(under)
    if not any(image.annotations for image in under.images):
        raise _nothing_found(under, footage, config)
    return _pseudo(under, config)


def _nothing_found(labelled: Dataset, footage: Footage, config: FinetuneConfig) -> ConfigError:
    regions = sum(len(image.ignore_regions) for image in labelled.images)
    if footage.edited:
        return ConfigError(
            f"data.pseudo has no objects in its {len(labelled.images)} images, and {regions} ignore regions: there is"
            " nothing to train on",
            remedy="leave it out",
            file=config.data.pseudo,
        )
    better = "start from a detector that finds objects in this footage (a stronger data.augment for its training)"
    return ConfigError(
        f"no detection in the {len(labelled.images)} frames of {footage.name} scores at least"
        f" {config.data.pseudo_threshold:g}, {regions} are ignore regions: there is nothing to train on",
        remedy=f"{'name other results' if config.data.pseudo else better}, or lower data.pseudo_threshold",
        file=config.data.pseudo or None,
    )


def _pseudo(dataset: Dataset, config: FinetuneConfig) -> Pseudo:
    data = config.data
    return Pseudo(dataset, data.unlabelled_share, data.unlabelled_weight)


def write_pseudo(pseudo: Pseudo, run: Path, config: FinetuneConfig) -> dict[str, Any]:
    """Write pseudo.json into the run; returns what provenance.json says of it. The labels of a second round are
    compared with those of the first, and that is printed."""
    write_dataset(pseudo.dataset, run / PSEUDO)
    facts: dict[str, Any] = {"pseudo_sha256": file_hash(run / PSEUDO)}
    if config.data.pseudo_gaps != "off":
        facts["pseudo_gaps_filled"] = n_filled(pseudo.dataset)
    return facts if config.data.pseudo else facts | _of_round(pseudo, config.model.start)


def _of_round(pseudo: Pseudo, start: str) -> dict[str, Any]:
    """Which round labels by a teacher are, and how far they are those it was trained on."""
    number = round_of(start)
    try:
        compared = agreement(start, pseudo.dataset)
    except DataError as error:
        console.warn(f"this round of pseudo-labels is not compared with the one before: {error}")
        compared = None
    if compared is None:
        return {"pseudo_round": number}
    console.say(agreement_in_words(compared, number))
    return {"pseudo_round": number, "pseudo_agreement": compared}


def read_pseudo(run: Path, config: FinetuneConfig) -> Pseudo:
    """The pseudo-labels that a resumed run began with. Raises ConfigError when its pseudo.json is missing or has
    changed."""
    path, recorded = run / PSEUDO, read_provenance(run).get("pseudo_sha256")
    if not path.is_file() or file_hash(path) != recorded:
        raise ConfigError(
            "is not the file this run began with",
            remedy=f"restore it, or train a new run from it with --data.pseudo {path}",
            file=path,
        )
    return _pseudo(read_dataset(path), config)


def _teacher(config: FinetuneConfig, spec: ModelSpec, device: torch.device) -> Detector:
    """`model.start` as a detector that returns all that is an object or an ignore region."""
    teacher = load_source_detector(config.model.start, spec, str(device), config.runtime.precision)
    heads: Any = teacher.model.roi_heads
    least = min(config.data.pseudo_ignore_from, THRESHOLDS[0] if config.data.pseudo_beta else 1.0)
    heads.score_thresh = min(heads.score_thresh, least)
    return teacher


def _by_teacher(teacher: Detector, footage: Footage, target: Dataset, config: FinetuneConfig, group: Group) -> Dataset:
    frames = dataclasses.replace(footage.dataset, categories=teacher.categories, info={})
    found = detect_all(teacher, frames, config, group, "labelling")
    of_class = thresholds_of(config.model.start, teacher.categories, config)
    if of_class and group.leads:
        named = ", ".join(f"{teacher.categories[number - 1]} {score:.2f}" for number, score in of_class.items())
        console.say(f"least scores of pseudo-objects by F-beta on the teacher's validation data: {named}")
    labelled = with_bands(frames, found, _bounds(config), of_class)
    relation = {name: teacher.relation.get(name, {}) for name in teacher.categories}
    taxonomies = taxonomy_of_relation(relation), dataset_taxonomy(target, config.data.train)
    classes = class_map(teacher.categories, target.categories, *taxonomies)
    if not classes.objects:
        raise ConfigError(
            f"the teacher ({config.model.start}) has classes {first_of_all(teacher.categories, NAMED)}, none of which"
            f" is a class of data.train: {first_of_all(target.categories, NAMED)}",
            remedy="relate them by `labels` or `from` in a taxonomy, or name the labels with data.pseudo",
        )
    under = under_classes(labelled, target.categories, classes)
    least = _of_targets(of_class, classes.objects, config)
    return dataclasses.replace(under, info={"thresholds": {target.categories[n - 1]: s for n, s in least.items()}})


def _of_targets(of_class: Mapping[int, float], objects: Mapping[int, int], config: FinetuneConfig) -> dict[int, float]:
    """Category id of the target -> least score of its pseudo-objects; empty without thresholds per class.

    of_class: category id of the teacher -> its threshold. objects: category id of the teacher -> that of the target.
    """
    least: dict[int, float] = {}
    for number, target in objects.items() if of_class else ():
        score = of_class.get(number, config.data.pseudo_threshold)
        least[target] = min(score, least.get(target, score))
    return least


def detect_all(teacher: Detector, frames: Dataset, config: FinetuneConfig, group: Group, title: str) -> Results:
    """Detections in all frames as they are; the same on every process. Raises DataError for an image that cannot be
    read."""
    loader = validation_loader(frames, config.eval.batch_size, 0, teacher.device, group, 0.0)
    with console.progress_bar() as bar:
        task = bar.add_task(title, total=len(loader), note="", visible=group.leads)
        return validate(teacher.model, loader, teacher.device, teacher.precision, group, lambda: bar.advance(task))


def _bounds(config: FinetuneConfig) -> tuple[float, float]:
    """(least score of an object, least score of an ignore region)."""
    return config.data.pseudo_threshold, config.data.pseudo_ignore_from


def thresholds_of(start: str, categories: Sequence[str], config: FinetuneConfig) -> dict[int, float]:
    """Category id of the teacher -> least score of an object, by the best F-beta on the teacher's validation data;
    without the classes that have too few objects there. Empty where data.pseudo_beta is 0.

    Raises ConfigError when the start is not a run, or names weights that its validation detections are not of.
    """
    beta, run = config.data.pseudo_beta, run_root(Path(start).expanduser())
    if not beta:
        return {}
    if Path(start).name == "last" or not (run / BEST_DETECTIONS).is_file():
        raise ConfigError(
            f"data.pseudo_beta needs the validation detections of a run's best weights, model.start is {start}",
            remedy="name a run that finetune wrote, or leave data.pseudo_beta out",
        )
    val = read_dataset(validation_data(run))
    if val.categories != tuple(categories):
        raise ConfigError(f"data.pseudo_beta: the validation data of {run} has other classes", remedy="leave it out")
    store = match(val, load_results(run / BEST_DETECTIONS))
    curves = {number: score_curve(store, number - 1) for number in range(1, len(categories) + 1)}
    least, most = THRESHOLDS
    return {
        number: min(most, max(least, choose_threshold(curve, store.n_images, "f_beta", beta)))
        for number, curve in curves.items()
        if curve.n_gt >= ENOUGH and len(curve.scores)
    }


def _of_file(dataset: Dataset, target: Dataset, config: FinetuneConfig, path: Path) -> Dataset:
    """A dataset of pseudo-labels under the target's classes, without masks. Raises ConfigError for classes with labels
    that are not the target's."""
    taxonomies = dataset_taxonomy(dataset, path), dataset_taxonomy(target, config.data.train)
    classes = class_map(dataset.categories, target.categories, *taxonomies)
    used = {item.category_id for image in dataset.images for item in image.annotations}
    unknown = [dataset.categories[number - 1] for number in classes.background if number in used]
    if unknown or not classes.objects:
        raise ConfigError(
            f"data.pseudo has labels of {first_of_all(unknown or dataset.categories, NAMED)}, not classes of"
            f" data.train: {first_of_all(target.categories, NAMED)}",
            remedy="rename them, relate them by `labels` or `from` in a taxonomy, or remove them",
            file=path,
        )
    return under_classes(without_masks(dataset), target.categories, classes)
