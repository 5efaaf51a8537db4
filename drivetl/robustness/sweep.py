"""Inference on clean images and in every cell (condition, severity), in one pass, for one detector or several.

Each image is decoded once; workers render its variants while the device infers; a variant is rendered once for all
detectors. The detections do not depend on workers, batches or order: pixels are a function of (image, condition,
severity, protocol version), and a batch has images of one size only, so that no detector sees padding.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from drivetl.coco.detections import Detections
from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.conditions import CLEAN, Cell, apply, pixel_seed
from drivetl.data.dataset import read_image, single_threaded
from drivetl.data.depth import read_depth
from drivetl.data.vehicles import vehicle_boxes
from drivetl.errors import DataError
from drivetl.robustness.detection_cache import DetectionCache
from drivetl.workers import dead_workers_as_errors

T = TypeVar("T")

FLUSH_EVERY_S = 15.0
"""A killed sweep loses at most this much work."""


class SupportsInfer(Protocol):
    """What a sweep requires of a detector."""

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in (3, H, W) uint8 RGB tensors of one size."""
        ...


class SweptDetector(SupportsInfer, Protocol):
    """What a sweep and its report also know of a detector; None or "" where it is unknown."""

    @property
    def name(self) -> str: ...
    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def weights_hash(self) -> str: ...
    @property
    def augmentation(self) -> dict[str, Any] | None: ...
    @property
    def run(self) -> Path | None: ...
    @property
    def precision(self) -> torch.dtype | None: ...
    @property
    def device(self) -> torch.device | None: ...


@dataclass(frozen=True)
class Task:
    """An image and the cells in which at least one detector has not seen it yet."""

    index: int
    """In the dataset's order."""
    record: ImageRecord
    cells: tuple[Cell, ...]
    categories: tuple[str, ...] = ()
    """The dataset's: they say which objects are vehicles."""


@dataclass
class Timing:
    """Timing and counts of a sweep; the field names are keys of results.json."""

    wall_s: float = 0.0
    inference_s: float = 0.0
    waiting_s: float = 0.0
    """Device idle, waiting for rendered variants."""
    corruption_s: float = 0.0
    """Decoding and rendering, summed over the workers."""
    workers: int = 0
    pictures: int = 0
    """Rendered variants (image, cell)."""
    inferences: int = 0
    """Variants times detectors."""
    out_of_budget: bool = False

    @property
    def bound_by(self) -> str:
        """The bottleneck: `corruption`, `inference`, or `stored` when everything was cached."""
        if not self.pictures:
            return "stored"
        return "corruption" if self.waiting_s > self.inference_s else "inference"

    def __add__(self, other: Timing) -> Timing:
        """The timing of two consecutive sweeps together."""
        return Timing(
            self.wall_s + other.wall_s,
            self.inference_s + other.inference_s,
            self.waiting_s + other.waiting_s,
            self.corruption_s + other.corruption_s,
            max(self.workers, other.workers),
            self.pictures + other.pictures,
            self.inferences + other.inferences,
            self.out_of_budget or other.out_of_budget,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with `bound_by`."""
        return asdict(self) | {"bound_by": self.bound_by}


@dataclass
class Batch:
    """Images of one size and the (image, cell) of each; sent by a worker as one array."""

    items: list[tuple[int, Cell]]
    """(index of the image, cell) of each of the B images."""
    pixels: npt.NDArray[np.uint8]
    """(B, 3, H, W) RGB."""
    seconds: float
    """Time spent decoding and rendering."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """(index, error) of images that could not be read; such a batch has no items."""


class _Variants(IterableDataset[Batch]):
    """The variants of every task in batches; worker w of W takes every W-th task."""

    def __init__(self, tasks: Sequence[Task], root: Path, batch_size: int, report_unreadable: bool = False):
        """report_unreadable: an image that cannot be read is in `Batch.unreadable`; otherwise it raises DataError."""
        self.tasks, self.root, self.batch_size = tasks, root, batch_size
        self.report_unreadable = report_unreadable

    def __iter__(self) -> Iterator[Batch]:
        items: list[tuple[int, Cell]] = []
        images: list[npt.NDArray[np.uint8]] = []
        began = time.perf_counter()
        for task in tasks_of_worker(self.tasks):
            try:
                for cell, image in variants(task, self.root):
                    if images and (len(images) == self.batch_size or images[0].shape != image.shape):
                        yield Batch(items, _stacked(images), time.perf_counter() - began)
                        items, images, began = [], [], time.perf_counter()
                    items.append((task.index, cell))
                    images.append(image)
            except DataError as error:
                if not self.report_unreadable:
                    raise
                yield Batch([], np.empty((0, 3, 0, 0), np.uint8), 0.0, [(task.index, str(error))])
        if images:
            yield Batch(items, _stacked(images), time.perf_counter() - began)


def _stacked(images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) images -> (B, 3, H, W)."""
    return np.stack([image.transpose(2, 0, 1) for image in images])


def variants(task: Task, root: Path) -> Iterator[tuple[Cell, npt.NDArray[np.uint8]]]:
    """(cell, (H, W, 3) uint8 RGB) of each of a task's cells; the image is decoded once."""
    image = read_image(task.record, root)
    depth = None if task.cells == (CLEAN,) else read_depth(task.record, root)
    vehicles, scene = vehicle_boxes(task.record, task.categories), dict[str, Any]()
    for cell in task.cells:
        yield cell, corrupted(image, task.record, cell, depth, vehicles, scene)


def corrupted(
    image: npt.NDArray[np.uint8],
    record: ImageRecord,
    cell: Cell,
    depth: npt.NDArray[np.float32] | None,
    vehicles: npt.NDArray[np.float32],
    scene: dict[str, Any] | None = None,
) -> npt.NDArray[np.uint8]:
    """The image in a cell, (H, W, 3) uint8 RGB: the pixels that every report evaluates.

    depth: see `depth.read_depth`; vehicles: see `vehicles.vehicle_boxes`; scene: a cache for one image, which saves
    time and does not change the result.
    """
    name, severity = cell
    if cell == CLEAN:
        return image
    return apply(image, name, severity, pixel_seed(record.file_name, name, severity), depth, scene, vehicles=vehicles)


@dataclass
class _Backlog:
    """The (image, cell) pairs that a detector has not seen yet."""

    detectors: Mapping[str, SupportsInfer]
    caches: Mapping[str, DetectionCache]
    keys: Sequence[str]
    remaining: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Index of an image -> number of its cells that a detector has not seen yet."""

    def missing(self, index: int, cell: Cell) -> list[str]:
        """The detectors that have not seen the image in the cell."""
        return [name for name, cache in self.caches.items() if not cache.has(self.keys[index], cell)]

    def infer_missing(self, batch: Batch) -> int:
        """Run each detector on the images of a batch it has not seen; returns the number of inferences."""
        images = [torch.from_numpy(pixels) for pixels in batch.pixels]
        missing = [set(self.missing(*item)) for item in batch.items]
        count = 0
        for name, detector in self.detectors.items():
            rows = [row for row, names in enumerate(missing) if name in names]
            if not rows:
                continue
            outputs = detector.infer([images[row] for row in rows])
            for row, detections in zip(rows, outputs, strict=True):
                index, cell = batch.items[row]
                self.caches[name].add(self.keys[index], cell, detections)
            count += len(rows)
        for index, _ in batch.items:
            self.remaining[index] -= 1
        return count


@dead_workers_as_errors("--workers")
def sweep(
    detectors: Mapping[str, SupportsInfer],
    caches: Mapping[str, DetectionCache],
    dataset: Dataset,
    keys: Sequence[str],
    cells: Sequence[Cell],
    *,
    workers: int = 0,
    batch_size: int = 8,
    budget_s: float | None = None,
    shard: tuple[int, int] = (0, 1),
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Timing:
    """Fill the caches with every detector's detections in every cell; cached detections are not repeated.

    keys: `detection_cache.image_keys(dataset)`. budget_s: stop before the batch that would exceed it. Images are taken
    in an order whose every prefix is spread evenly over the drives, and each is finished in all cells, so that the
    complete images are a representative subset. shard: (rank, world) takes every world-th image. advance: called with
    (inferences done, inferences in total). Raises DrivetlError when a worker process dies; what was inferred
    until then is cached.
    """
    backlog = _Backlog(detectors, caches, keys)
    tasks = _pending_tasks(backlog, dataset, cells, shard)
    total = sum(len(backlog.missing(task.index, cell)) for task in tasks for cell in task.cells)
    timing = Timing(workers=workers)
    began = last_flush = time.perf_counter()
    advance(0, total)
    if not tasks or budget_s == 0:
        timing.out_of_budget = bool(tasks)
        return timing
    n_batches = 0
    loader = variant_loader(tasks, dataset.images_root, batch_size, workers)
    try:
        waiting_since = time.perf_counter()
        for batch in loader:
            timing.waiting_s += time.perf_counter() - waiting_since
            started = time.perf_counter()
            timing.inferences += backlog.infer_missing(batch)
            timing.inference_s += time.perf_counter() - started
            timing.corruption_s += batch.seconds
            timing.pictures += len(batch.items)
            advance(timing.inferences, total)
            if time.perf_counter() - last_flush > FLUSH_EVERY_S:
                _flush(caches)
                last_flush = time.perf_counter()
            waiting_since = time.perf_counter()
            n_batches += 1
            if budget_s is not None and (waiting_since - began) * (n_batches + 1) / n_batches > budget_s:
                timing.out_of_budget = timing.inferences < total
                break
    finally:
        _flush(caches)
        timing.wall_s = time.perf_counter() - began
    return timing


def variant_loader(
    tasks: Sequence[Task], root: Path, batch_size: int, workers: int, report_unreadable: bool = False
) -> DataLoader[Batch]:
    """Every task's variants in batches of one image size, rendered by worker processes, in no particular order.

    report_unreadable: see `_Variants`.
    """
    return streamed(_Variants(tasks, root, batch_size, report_unreadable), workers)


def streamed(items: IterableDataset[T], workers: int) -> DataLoader[T]:
    """The items as they are, made by worker processes, in no particular order."""
    return DataLoader(
        items,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=single_threaded if workers else None,
        in_order=False,
    )


def tasks_of_worker(tasks: Sequence[Task]) -> Sequence[Task]:
    """Those of the worker process that asks: worker w of W takes every W-th; outside of one, all."""
    worker = get_worker_info()
    return tasks if worker is None else tasks[worker.id :: worker.num_workers]


def _unchanged(item: Any) -> Any:
    return item


def _flush(caches: Mapping[str, DetectionCache]) -> None:
    for cache in caches.values():
        cache.flush()


def _pending_tasks(backlog: _Backlog, dataset: Dataset, cells: Sequence[Cell], shard: tuple[int, int]) -> list[Task]:
    """The shard's images with cells to compute; counts them in the backlog."""
    rank, world = shard
    tasks = []
    for index in stratified_order(Drives.of(dataset.images))[rank::world]:
        missing = tuple(cell for cell in cells if backlog.missing(index, cell))
        if missing:
            tasks.append(Task(index, dataset.images[index], missing, dataset.categories))
            backlog.remaining[index] = len(missing)
    return tasks


def stratified_order(drives: Drives) -> list[int]:
    """All indices 0..N-1 in an order whose every prefix takes the same share of each drive, spread along it.

    The first frame of every drive comes before the second of any. Images of unknown drive are treated as one drive.
    """
    keyed = []
    for name, frames in drives.places().items():
        keyed += [(rank / len(frames), name, frames[i]) for rank, i in enumerate(spread_order(len(frames)))]
    return [index for _, _, index in sorted(keyed)]


def spread_order(count: int) -> list[int]:
    """All indices 0..count-1 in an order whose every prefix is spread evenly over them."""
    return sorted(range(count), key=_van_der_corput)


def _van_der_corput(number: int) -> float:
    """The van der Corput sequence in base 2 (0, 1/2, 1/4, 3/4, ...): the bits of a number mirrored at the point."""
    value, weight = 0.0, 0.5
    while number:
        value += weight * (number & 1)
        number >>= 1
        weight /= 2
    return value


def default_workers(device_type: str) -> int:
    """Number of worker processes: one per core, minus one for the process that feeds a GPU; at most 32."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(32, cores - 1 if device_type == "cuda" else cores))
