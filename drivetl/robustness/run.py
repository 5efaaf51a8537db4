"""Run a sweep: detections on clean images and in every cell (condition, severity), cached in the run directory.

    swept = run_sweep(detector, dataset, ["fog", "night"], [1, 3, 5], baseline=other)
    results = report_document(swept)  # the document that drivetl.report shows

`summarize(cells, clean)` computes mPC and rPC of a table of numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivetl.coco import masks
from drivetl.coco.class_map import ClassMap, GivenClasses, with_known_classes
from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset
from drivetl.conditions import CLEAN, Cell
from drivetl.console import progress_bar
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import checkpoint_folder
from drivetl.metrics.aggregates import summarize
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.relabel import relabelled
from drivetl.metrics.results import Results
from drivetl.metrics.statistics import allows_intervals
from drivetl.metrics.truth import GroundTruth, from_dataset
from drivetl.robustness.budget import budget_text
from drivetl.robustness.class_match import class_maps, is_same
from drivetl.robustness.clean_slice import clean_images
from drivetl.robustness.detection_cache import CELLS_FOLDER, DetectionCache, complete_images, dataset_hash, image_keys
from drivetl.robustness.results_folder import ResultsFolder
from drivetl.robustness.sweep import SweptDetector, Timing, default_workers, stratified_order, sweep

__all__ = ["FinishedSweep", "run_sweep", "summarize"]


@dataclass
class FinishedSweep:
    """The result of a sweep: the images that every detector has seen in every cell, and their detections."""

    detectors: dict[str, SweptDetector]
    """`run` and, where given, `baseline`."""
    dataset: Dataset
    """The complete images alone, sorted by id."""
    n_images_requested: int
    """More than the dataset has, when the budget ended the sweep."""
    conditions: list[str]
    severities: list[int]
    caches: dict[str, DetectionCache]
    keys: list[str]
    """Cache keys of the complete images."""
    truth: GroundTruth
    """Without the objects of classes that a detector does not know, see `classes`."""
    timing: Timing
    budget_s: float | None
    clean: Mapping[str, str] = field(default_factory=dict)
    """Condition attribute -> clean value of the images that the conditions were applied to."""
    real: RealImages | None = None
    """The clean images above and those in real conditions, unmodified; None without a clean slice."""
    iou_type: str = "bbox"
    """What is matched: bbox or segm."""
    budget_needed_s: float | None = None
    """The `--budget` that would still add the images a verdict needs; None where they are there or unknown.
    """
    classes: dict[str, ClassMap] = field(default_factory=dict)
    """How the classes of each detector meet those of the data; stored detections have the detector's own."""

    @property
    def cells(self) -> list[Cell]:
        """Every cell but the clean one."""
        return [(name, severity) for name in self.conditions for severity in self.severities]

    @property
    def missing(self) -> list[Cell]:
        """The cells that `run` was not run in; only a folder of results may lack some."""
        return [cell for cell in self.cells if cell in self.caches["run"].absent]

    @property
    def incomplete(self) -> set[str]:
        """The conditions with a missing cell: a mean over their other severities would compare with nothing."""
        return {name for name, _ in self.missing}

    @property
    def data_hash(self) -> str:
        """16 hex digits of the measured images."""
        return dataset_hash(self.keys)

    def results(self, detector: str, cell: Cell) -> Results:
        """A detector's detections in a cell, under the data's classes."""
        ids = {key: image.id for key, image in zip(self.keys, self.dataset.images, strict=True)}
        return self._relabelled(detector, self.caches[detector].results(cell, ids))

    def _relabelled(self, detector: str, results: Results) -> Results:
        of_one = self.classes[detector]
        return results if is_same(of_one, len(self.dataset.categories)) else relabelled(results, of_one.objects)

    def matched(self, detector: str, cell: Cell) -> MatchStore:
        """A detector's detections in a cell, matched to the objects."""
        return match(self.truth, self.results(detector, cell), self.iou_type)

    def matched_unmodified(self, detector: str) -> MatchStore:
        """A detector's detections in all unmodified images (clean slice and real conditions), matched to objects."""
        if self.real is None:
            return self.matched(detector, CLEAN)
        found = self._relabelled(detector, self.caches[detector].results(CLEAN, self.real.ids))
        return match(self.real.truth, found, self.iou_type)


@dataclass
class RealImages:
    """The images of every slice, sorted by id."""

    ids: dict[str, int]
    """Cache key -> image id."""
    truth: GroundTruth


def run_sweep(
    detector: SweptDetector,
    dataset: Dataset,
    conditions: Sequence[str],
    severities: Sequence[int],
    *,
    baseline: SweptDetector | None = None,
    cache: Path | None = None,
    clean: Mapping[str, str] | None = None,
    budget_s: float | None = None,
    workers: int | None = None,
    batch_size: int = 8,
    iou_type: str = "bbox",
    class_map: GivenClasses | None = None,
    shard: tuple[int, int] = (0, 1),
    wait: Callable[[], None] = lambda: None,
) -> FinishedSweep:
    """Detect on clean images and in every cell, with a progress bar; cached detections are reused.

    cache: where detections are kept; default: `robustness/.cells` of each run, or memory for a detector without one.
    clean: see `clean_slice.choose_clean`; conditions are applied to those images alone, the others are used unmodified.
    iou_type: bbox, or segm to keep and match masks. class_map: classes of the detectors -> classes of the data, where
    names and taxonomies do not say it. budget_s, shard: see `sweep`. wait: returns when all shards are done.
    Raises ConfigError when a detector and the data share no class or the budget is too small for one image, DataError
    for images that cannot be read.
    """
    detectors = {"run": detector} | ({"baseline": baseline} if baseline is not None else {})
    classes = maps_of(detectors, dataset, class_map)
    caches, parts, timing = _detect(
        detectors, dataset, conditions, severities, cache, clean, budget_s, workers, batch_size, iou_type, shard
    )
    wait()
    if shard[1] > 1:
        for detection_cache in caches.values():
            detection_cache.refresh()
    seen = [part.seen(caches) for part in parts]
    measured, keys = seen[-1]
    known = with_known_classes(measured, classes.values())
    budget_needed_s = _budget_needed_s(parts, len(measured.images), timing)
    if not measured.images:
        about = "" if budget_needed_s is None else f": a verdict needs about {budget_text(budget_needed_s)}"
        raise ConfigError(
            "the budget ended before one image was complete in every cell", remedy=f"use a larger --budget{about}"
        )
    return FinishedSweep(
        detectors,
        measured,
        len(parts[-1].keys),
        list(conditions),
        list(severities),
        caches,
        keys,
        from_dataset(known),
        timing,
        budget_s,
        dict(clean or {}),
        _real_images(seen, classes) if clean else None,
        iou_type,
        budget_needed_s,
        classes,
    )


def run_shard(
    detector: SweptDetector,
    dataset: Dataset,
    conditions: Sequence[str],
    severities: Sequence[int],
    shard: tuple[int, int],
    *,
    baseline: SweptDetector | None = None,
    cache: Path | None = None,
    clean: Mapping[str, str] | None = None,
    workers: int | None = None,
    batch_size: int = 8,
    iou_type: str = "bbox",
    class_map: GivenClasses | None = None,
) -> tuple[int, int]:
    """One shard's part of `run_sweep`, kept where that keeps detections; it waits for no other shard.

    Returns (images that every detector has seen in every cell so far, all images). Raises as `run_sweep` does.
    """
    detectors = {"run": detector} | ({"baseline": baseline} if baseline is not None else {})
    maps_of(detectors, dataset, class_map)  # a mistake is told by every shard
    caches, parts, _ = _detect(
        detectors, dataset, conditions, severities, cache, clean, None, workers, batch_size, iou_type, shard
    )
    for detection_cache in caches.values():
        detection_cache.refresh()
    return sum(len(part.seen(caches)[1]) for part in parts), sum(len(part.keys) for part in parts)


def _detect(
    detectors: Mapping[str, SweptDetector],
    dataset: Dataset,
    conditions: Sequence[str],
    severities: Sequence[int],
    cache: Path | None,
    clean: Mapping[str, str] | None,
    budget_s: float | None,
    workers: int | None,
    batch_size: int,
    iou_type: str,
    shard: tuple[int, int],
) -> tuple[dict[str, DetectionCache], list[_Part], Timing]:
    """Detect in one shard of the images; what is cached is not detected again."""
    if iou_type == "segm":
        _check_masks(dataset)
    if not dataset.images:
        raise DataError("the dataset has no images", remedy="choose another --data")
    keeps_masks = iou_type == "segm"
    caches: dict[str, DetectionCache] = {
        name: each.cache
        if isinstance(each, ResultsFolder)
        else DetectionCache(
            _cache_folder(each, cache), identity(each) | ({"masks": "kept"} if keeps_masks else {}), masks=keeps_masks
        )
        for name, each in detectors.items()
    }
    cells = [CLEAN, *((name, severity) for name in conditions for severity in severities)]
    parts = _parts(dataset, clean or {}, cells)
    timing, device = Timing(), detectors["run"].device
    for part in parts:
        share = _share(part, parts)
        timing += _sweep_part(
            detectors,
            caches,
            part,
            None if budget_s is None else share * budget_s,
            default_workers(device.type if device else "") if workers is None else workers,
            batch_size,
            shard,
        )
    return caches, parts, timing


def maps_of(
    detectors: Mapping[str, SweptDetector], dataset: Dataset, given: GivenClasses | None
) -> dict[str, ClassMap]:
    """How the classes of each detector meet the data's, see `class_match.class_maps`."""
    return class_maps(
        {name: each.categories for name, each in detectors.items()},
        {name: getattr(each, "relation", {}) for name, each in detectors.items()},
        dataset,
        given,
    )


@dataclass
class _Part:
    """Images that are all used in the same cells."""

    dataset: Dataset
    keys: list[str]
    cells: list[Cell]

    def seen(self, caches: Mapping[str, DetectionCache]) -> tuple[Dataset, list[str]]:
        """The images that every detector has seen in every cell, sorted by id, and their keys."""
        images = self.dataset.images
        complete = complete_images(caches.values(), self.keys, self.cells)
        complete.sort(key=lambda index: images[index].id)
        return self.dataset.subset([images[index] for index in complete]), [self.keys[index] for index in complete]


def _parts(dataset: Dataset, clean: Mapping[str, str], cells: list[Cell]) -> list[_Part]:
    """The images in real conditions (if any) in the clean cell, then the clean images in all cells."""
    chosen = clean_images(dataset.images, clean)
    chosen_ids = {image.id for image in chosen}
    others = [image for image in dataset.images if image.id not in chosen_ids]
    parts = [(others, [CLEAN])] if others else []
    return [
        _Part(part, image_keys(part), of_part)
        for images, of_part in [*parts, (chosen, cells)]
        if (part := dataset.subset(images))
    ]


def at_most(dataset: Dataset, clean: Mapping[str, str], n_images: int | None) -> Dataset:
    """The dataset with at most that many clean images, spread over their drives as a sweep takes them; None: all.

    Images in real conditions are all kept.
    """
    chosen = clean_images(dataset.images, clean)
    if n_images is None or n_images >= len(chosen):
        return dataset
    first = stratified_order(Drives.of(chosen))[:n_images]
    left_out = {image.id for image in chosen} - {chosen[index].id for index in first}
    return dataset.subset([image for image in dataset.images if image.id not in left_out])


def _share(part: _Part, parts: Sequence[_Part]) -> float:
    """The share of a part in the inferences, hence in the budget."""
    return len(part.keys) * len(part.cells) / max(1, sum(len(other.keys) * len(other.cells) for other in parts))


def _budget_needed_s(parts: Sequence[_Part], n_complete: int, timing: Timing) -> float | None:
    """Seconds for the images that are still missing for a verdict, at the speed of this sweep.

    None where none is missing, where all images together are too few, and where nothing was rendered.
    """
    part = parts[-1]
    needed = images_needed(Drives.of(part.dataset.images))
    if needed is None or needed <= n_complete or not timing.pictures:
        return None
    return (needed - n_complete) * len(part.cells) * timing.wall_s / timing.pictures / _share(part, parts)


def images_needed(drives: Drives) -> int | None:
    """How many images, in the order of a sweep, allow intervals; None where all together do not."""
    if not allows_intervals(drives):
        return None
    order = stratified_order(drives)
    return next(count for count in range(1, len(order) + 1) if allows_intervals(drives.take(order[:count])))


def _sweep_part(
    detectors: Mapping[str, SweptDetector],
    caches: Mapping[str, DetectionCache],
    part: _Part,
    budget_s: float | None,
    workers: int,
    batch_size: int,
    shard: tuple[int, int],
) -> Timing:
    with progress_bar() as bar:
        task = bar.add_task("sweep", total=None, note=f"{len(part.cells)} cells of {len(part.keys)} images")
        return sweep(
            detectors,
            caches,
            part.dataset,
            part.keys,
            part.cells,
            workers=workers,
            batch_size=batch_size,
            budget_s=budget_s,
            shard=shard,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _real_images(seen: Sequence[tuple[Dataset, list[str]]], classes: Mapping[str, ClassMap]) -> RealImages:
    images = [image for dataset, _ in seen for image in dataset.images]
    keys = [key for _, keys in seen for key in keys]
    together = seen[-1][0].subset(sorted(images, key=lambda image: image.id))
    ids = {key: image.id for key, image in sorted(zip(keys, images, strict=True), key=lambda row: row[1].id)}
    return RealImages(ids, from_dataset(with_known_classes(together, classes.values())))


def identity(detector: SweptDetector) -> dict[str, str]:
    """What detections depend on besides the pixels: the model's weights and settings, and the precision."""
    settings = ""
    if detector.run is not None:
        about = checkpoint_folder(detector.run, "best") / "model.json"
        settings = hashlib.sha256(about.read_bytes()).hexdigest()[:16]
    return {"weights": detector.weights_hash, "settings": settings, "precision": str(detector.precision)}


def _cache_folder(detector: SweptDetector, cache: Path | None) -> Path | None:
    """Where a detector's detections are kept; None: in memory. Raises ConfigError for weights without a name."""
    if cache is not None:
        if not detector.weights_hash:
            raise ConfigError(
                f"detections of {detector.name} cannot be stored: nothing tells its weights from others",
                remedy="give the detector a weights_hash (a text that changes with its weights), or leave cache out",
            )
        return cache
    return None if detector.run is None else detector.run / CELLS_FOLDER


def _check_masks(dataset: Dataset) -> None:
    """Raises DataError for an object without a mask, or with one that does not fit its image: before the sweep."""
    for image in dataset.images:
        for number, item in enumerate(image.annotations):
            if item.segmentation is None:
                raise DataError(
                    f"object {number + 1} of image {image.file_name!r} has no mask",
                    file=dataset.file or image.file_name,
                    remedy="use --iou-type bbox, or data with a mask for every object",
                )
        for outline in (item.segmentation for group in (image.annotations, image.ignore_regions) for item in group):
            problem = None if outline is None else masks.problem(outline, image.height, image.width)
            if problem is not None:
                raise masks.of_image(problem, image, dataset.file)
