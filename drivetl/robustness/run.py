"""How a detector holds up: run the sweep over clean images, conditions and severities; `analysis` scores it.

    swept = run_sweep(detector, dataset, ["fog", "night"], [1, 3, 5], baseline=other)
    results = analysis.analyse(swept)       # the document that drivetl.report shows

`summarize(cells, clean)` is the bare arithmetic: mPC and rPC of a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drivetl.coco.records import Dataset
from drivetl.conditions import CLEAN, Cell
from drivetl.console import progress_bar
from drivetl.errors import CheckpointError, ConfigError, DataError
from drivetl.metrics.aggregates import summarize
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.results import Results
from drivetl.metrics.truth import GroundTruth, from_dataset
from drivetl.models.checkpoint import checkpoint_folder
from drivetl.models.detector import Detector
from drivetl.robustness.clean_slice import clean_images
from drivetl.robustness.detection_cache import CELLS_FOLDER, DetectionCache, complete_images, dataset_hash, image_keys
from drivetl.robustness.sweep import Timing, default_workers, sweep

__all__ = ["FinishedSweep", "run_sweep", "summarize"]


@dataclass
class FinishedSweep:
    """A finished (or stopped) sweep: the images every detector has seen in every cell, and how to score them."""

    detectors: dict[str, Detector]
    """`run` and, where there is one, `baseline`."""
    dataset: Dataset
    """The complete images only, by id."""
    n_images_requested: int
    conditions: list[str]
    severities: list[int]
    stores: dict[str, DetectionCache]
    keys: list[str]
    """Of the complete images."""
    truth: GroundTruth
    timing: Timing
    budget_s: float | None
    clean: Mapping[str, str] = field(default_factory=dict)
    """Condition attribute -> clean value: which images of the data the conditions were applied to."""
    real: RealImages | None = None
    """The clean images above and those in real conditions, as they are; None without a clean slice."""
    iou_type: str = "bbox"
    """What is matched: bbox or segm."""

    @property
    def cells(self) -> list[Cell]:
        """Every cell but the clean one."""
        return [(name, severity) for name in self.conditions for severity in self.severities]

    @property
    def data_hash(self) -> str:
        """16 hex digits of the images measured."""
        return dataset_hash(self.keys)

    def results(self, who: str, cell: Cell) -> Results:
        """A detector's detections in a cell."""
        ids = {key: image.id for key, image in zip(self.keys, self.dataset.images, strict=True)}
        return self.stores[who].results(cell, ids)

    def matched(self, who: str, cell: Cell) -> MatchStore:
        """A detector's detections in a cell, matched to the objects."""
        return match(self.truth, self.results(who, cell), self.iou_type)

    def matched_unmodified(self, who: str) -> MatchStore:
        """A detector's detections in all images as they are: the clean slice and the real conditions."""
        if self.real is None:
            return self.matched(who, CLEAN)
        return match(self.real.truth, self.stores[who].results(CLEAN, self.real.ids), self.iou_type)


@dataclass
class RealImages:
    """The images of every slice, by id."""

    ids: dict[str, int]
    """Key -> image id."""
    truth: GroundTruth


def run_sweep(
    detector: Detector,
    dataset: Dataset,
    conditions: Sequence[str],
    severities: Sequence[int],
    *,
    baseline: Detector | None = None,
    cache: Path | None = None,
    clean: Mapping[str, str] | None = None,
    budget_s: float | None = None,
    workers: int | None = None,
    batch_size: int = 8,
    iou_type: str = "bbox",
    shard: tuple[int, int] = (0, 1),
    wait: Callable[[], None] = lambda: None,
) -> FinishedSweep:
    """Detect on clean images and in every cell, with a progress bar; what was done before is not repeated.

    cache: where detections are kept; default: `robustness/.cells` of each run. clean: `clean_slice.choose_clean`;
    conditions are applied to those images alone, the others are seen as they are. iou_type: bbox, or segm to keep and
    match masks. budget_s, shard: see `sweep`;
    `wait` returns when all shards are done. Raises ConfigError when detector and data have different classes or the
    budget is too small for one image, DataError for images that cannot be read.
    """
    detectors = {"run": detector} | ({"baseline": baseline} if baseline is not None else {})
    for who, one in detectors.items():
        _check_classes(one, dataset, who)
    if iou_type == "segm":
        _check_masks(dataset)
    if not dataset.images:
        raise DataError("the dataset has no images", remedy="name another --data")
    kept = {"masks": "kept"} if iou_type == "segm" else {}
    stores = {
        who: DetectionCache(_cache_folder(one, cache), identity(one) | kept, masks=bool(kept))
        for who, one in detectors.items()
    }
    cells = [CLEAN, *((name, severity) for name in conditions for severity in severities)]
    parts = _parts(dataset, clean or {}, cells)
    timing = Timing()
    for part in parts:
        share = _share(part, parts)
        timing += _sweep_part(
            detectors,
            stores,
            part,
            None if budget_s is None else share * budget_s,
            default_workers(detector.device.type) if workers is None else workers,
            batch_size,
            shard,
        )
    wait()
    if shard[1] > 1:
        for store in stores.values():
            store.refresh()
    seen = [part.seen(stores) for part in parts]
    measured, keys = seen[-1]
    if not measured.images:
        raise ConfigError("the budget ended before one image was seen in every cell", remedy="give a larger --budget")
    return FinishedSweep(
        detectors,
        measured,
        len(parts[-1].keys),
        list(conditions),
        list(severities),
        stores,
        keys,
        from_dataset(measured),
        timing,
        budget_s,
        dict(clean or {}),
        _real(seen) if clean else None,
        iou_type,
    )


@dataclass
class _Part:
    """Images that are all seen in the same cells."""

    dataset: Dataset
    keys: list[str]
    cells: list[Cell]

    def seen(self, stores: Mapping[str, DetectionCache]) -> tuple[Dataset, list[str]]:
        """The images that every detector has seen in every cell, by id, and their keys."""
        images = self.dataset.images
        places = complete_images(stores.values(), self.keys, self.cells)
        places.sort(key=lambda place: images[place].id)
        return self.dataset.subset([images[place] for place in places]), [self.keys[place] for place in places]


def _parts(dataset: Dataset, clean: Mapping[str, str], cells: list[Cell]) -> list[_Part]:
    """The images in real conditions, where there are some, then the clean ones."""
    chosen = clean_images(dataset.images, clean)
    taken = {one.id for one in chosen}
    others = [one for one in dataset.images if one.id not in taken]
    parts = [(others, [CLEAN])] if others else []
    return [
        _Part(part, image_keys(part), of_part)
        for images, of_part in [*parts, (chosen, cells)]
        if (part := dataset.subset(images))
    ]


def _share(part: _Part, parts: Sequence[_Part]) -> float:
    """The part of the work, hence of the budget."""
    return len(part.keys) * len(part.cells) / max(1, sum(len(one.keys) * len(one.cells) for one in parts))


def _sweep_part(
    detectors: Mapping[str, Detector],
    stores: Mapping[str, DetectionCache],
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
            stores,
            part.dataset,
            part.keys,
            part.cells,
            workers=workers,
            batch_size=batch_size,
            budget_s=budget_s,
            shard=shard,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _real(seen: Sequence[tuple[Dataset, list[str]]]) -> RealImages:
    images = [image for dataset, _ in seen for image in dataset.images]
    keys = [key for _, keys in seen for key in keys]
    together = seen[-1][0].subset(sorted(images, key=lambda image: image.id))
    ids = {key: image.id for key, image in sorted(zip(keys, images, strict=True), key=lambda row: row[1].id)}
    return RealImages(ids, from_dataset(together))


def identity(detector: Detector) -> dict[str, str]:
    """What detections depend on beside pixels: weights, thresholds and sizes of the model, precision."""
    settings = ""
    if detector.run is not None:
        about = checkpoint_folder(detector.run, "best") / "model.json"
        settings = hashlib.sha256(about.read_bytes()).hexdigest()[:16]
    return {"weights": detector.weights_hash, "settings": settings, "precision": str(detector.precision)}


def _cache_folder(detector: Detector, cache: Path | None) -> Path:
    if cache is not None:
        return cache
    if detector.run is None:
        raise CheckpointError("the detector belongs to no run directory", remedy="say where its cells are kept")
    return detector.run / CELLS_FOLDER


def _check_masks(dataset: Dataset) -> None:
    for image in dataset.images:
        for number, item in enumerate(image.annotations):
            if item.segmentation is None:
                raise DataError(
                    f"object {number + 1} has no mask",
                    file=image.file_name,
                    remedy="use --iou-type bbox, or data whose every object has one",
                )


def _check_classes(detector: Detector, dataset: Dataset, who: str) -> None:
    if tuple(detector.categories) != tuple(dataset.categories):
        raise ConfigError(
            f"the classes of the {who} are {', '.join(detector.categories)}; those of the data are"
            f" {', '.join(dataset.categories)}",
            remedy="convert the data with the run's taxonomy.yaml",
        )
