"""Clean plus conditions x severities in one pass over the images, for one detector or several.

Each image is decoded once; workers make its variants while the device infers; a variant is made once for all
detectors. Nothing depends on workers, batches or order: pixels follow from (image, condition, severity, protocol
version), and a batch holds pictures of one size only, so that padding never reaches a detector.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
from drivetl.robustness.detection_cache import DetectionCache

FLUSH_EVERY_S = 15.0
"""A killed sweep loses at most this much work."""


class SupportsInfer(Protocol):
    """What a sweep needs of a detector."""

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in (3, H, W) uint8 RGB tensors of one size."""
        ...


@dataclass(frozen=True)
class Task:
    """An image and the cells that some detector has not seen it in."""

    place: int
    """In the dataset's order."""
    record: ImageRecord
    cells: tuple[Cell, ...]


@dataclass
class Timing:
    """Where the time of a sweep went, in seconds."""

    wall_s: float = 0.0
    inference_s: float = 0.0
    waiting_s: float = 0.0
    """The device idle because no variant was ready."""
    corruption_s: float = 0.0
    """Decoding and corrupting, summed over the workers."""
    workers: int = 0
    pictures: int = 0
    """Variants made."""
    inferences: int = 0
    out_of_budget: bool = False

    @property
    def bound_by(self) -> str:
        """`corruption`, `inference`, or `stored` when nothing had to be computed."""
        if not self.pictures:
            return "stored"
        return "corruption" if self.waiting_s > self.inference_s else "inference"

    def __add__(self, other: Timing) -> Timing:
        """One sweep after the other."""
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
        """Plain values, `bound_by` included."""
        return asdict(self) | {"bound_by": self.bound_by}


@dataclass
class Batch:
    """Pictures of one size with what they show; travels from a worker as one array."""

    items: list[tuple[int, Cell]]
    """(place of the image, cell) of each picture."""
    pixels: npt.NDArray[np.uint8]
    """(B, 3, H, W) RGB."""
    seconds: float


class _Variants(IterableDataset[Batch]):
    """The variants of every task, batched; worker w of W takes every W-th task."""

    def __init__(self, tasks: Sequence[Task], root: Path, batch_size: int):
        self.tasks, self.root, self.batch_size = tasks, root, batch_size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        items: list[tuple[int, Cell]] = []
        pictures: list[npt.NDArray[np.uint8]] = []
        began = time.perf_counter()
        for task in self.tasks[first::step]:
            for cell, picture in variants(task, self.root):
                if pictures and (len(pictures) == self.batch_size or pictures[0].shape != picture.shape):
                    yield Batch(items, _stacked(pictures), time.perf_counter() - began)
                    items, pictures, began = [], [], time.perf_counter()
                items.append((task.place, cell))
                pictures.append(picture)
        if pictures:
            yield Batch(items, _stacked(pictures), time.perf_counter() - began)


def _stacked(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    return np.stack([picture.transpose(2, 0, 1) for picture in pictures])


def variants(task: Task, root: Path) -> Iterator[tuple[Cell, npt.NDArray[np.uint8]]]:
    """(cell, (H, W, 3) uint8 RGB) of each of a task's cells; the image is decoded once."""
    image = read_image(task.record, root)
    depth = None if task.cells == (CLEAN,) else read_depth(task.record, root)
    scene: dict[str, Any] = {}
    for cell in task.cells:
        yield cell, corrupted(image, task.record, cell, depth, scene)


def corrupted(
    image: npt.NDArray[np.uint8],
    record: ImageRecord,
    cell: Cell,
    depth: npt.NDArray[np.float32] | None,
    scene: dict[str, Any] | None = None,
) -> npt.NDArray[np.uint8]:
    """The image in a cell, (H, W, 3) uint8 RGB: the very pixels that every report judges.

    depth: `depth.read_depth`; scene: a dict kept for one image, which saves time and changes nothing.
    """
    name, severity = cell
    if cell == CLEAN:
        return image
    return apply(image, name, severity, pixel_seed(record.file_name, name, severity), depth, scene)


@dataclass
class _Backlog:
    """The (image, cell) pairs that a detector has not seen yet."""

    detectors: Mapping[str, SupportsInfer]
    stores: Mapping[str, DetectionCache]
    keys: Sequence[str]
    left: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Place of an image -> its cells that some detector has not seen."""

    def missing(self, place: int, cell: Cell) -> list[str]:
        return [name for name, store in self.stores.items() if not store.has(self.keys[place], cell)]

    def infer_missing(self, batch: Batch) -> int:
        """Infer what each detector lacks of a batch; returns the number of inferences."""
        pictures = [torch.from_numpy(pixels) for pixels in batch.pixels]
        lacking = [set(self.missing(*item)) for item in batch.items]
        count = 0
        for name, detector in self.detectors.items():
            rows = [row for row, names in enumerate(lacking) if name in names]
            if not rows:
                continue
            found = detector.infer([pictures[row] for row in rows])
            for row, one in zip(rows, found, strict=True):
                place, cell = batch.items[row]
                self.stores[name].add(self.keys[place], cell, one)
            count += len(rows)
        for place, _ in batch.items:
            self.left[place] -= 1
        return count


def sweep(
    detectors: Mapping[str, SupportsInfer],
    stores: Mapping[str, DetectionCache],
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
    """Fill the stores with every detector's detections in every cell; what they hold already is not repeated.

    keys: `cells.image_keys(dataset)`. budget_s: stop at that time; images are taken so that any beginning of the
    order is spread over the drives, and each is finished in all cells, so what is complete is a fair subset.
    shard: (rank, world) takes every world-th image. advance: told (inferences done, inferences to do).
    """
    backlog = _Backlog(detectors, stores, keys)
    tasks = _tasks(backlog, dataset, cells, shard)
    total = sum(len(backlog.missing(task.place, cell)) for task in tasks for cell in task.cells)
    timing = Timing(workers=workers)
    began = last_flush = time.perf_counter()
    advance(0, total)
    if not tasks or budget_s == 0:
        timing.out_of_budget = bool(tasks)
        return timing
    loader = load(tasks, dataset.images_root, batch_size, workers)
    try:
        asked = time.perf_counter()
        for batch in loader:
            timing.waiting_s += time.perf_counter() - asked
            started = time.perf_counter()
            timing.inferences += backlog.infer_missing(batch)
            timing.inference_s += time.perf_counter() - started
            timing.corruption_s += batch.seconds
            timing.pictures += len(batch.items)
            advance(timing.inferences, total)
            if time.perf_counter() - last_flush > FLUSH_EVERY_S:
                _flush(stores)
                last_flush = time.perf_counter()
            if budget_s is not None and time.perf_counter() - began > budget_s and _some_complete(backlog, tasks):
                timing.out_of_budget = timing.inferences < total
                break
            asked = time.perf_counter()
    finally:
        _flush(stores)
        timing.wall_s = time.perf_counter() - began
    return timing


def load(tasks: Sequence[Task], root: Path, batch_size: int, workers: int) -> DataLoader[Batch]:
    """Every task's variants in batches of one picture size, made by worker processes; in no particular order."""
    return DataLoader(
        _Variants(tasks, root, batch_size),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=single_threaded if workers else None,
        prefetch_factor=2 if workers else None,
        in_order=False,
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _flush(stores: Mapping[str, DetectionCache]) -> None:
    for store in stores.values():
        store.flush()


def _some_complete(backlog: _Backlog, tasks: Iterable[Task]) -> bool:
    return any(backlog.left[task.place] == 0 for task in tasks)


def _tasks(backlog: _Backlog, dataset: Dataset, cells: Sequence[Cell], shard: tuple[int, int]) -> list[Task]:
    rank, world = shard
    found = []
    for place in stratified_order(Drives.of(dataset.images))[rank::world]:
        missing = tuple(cell for cell in cells if backlog.missing(place, cell))
        if missing:
            found.append(Task(place, dataset.images[place], missing))
            backlog.left[place] = len(missing)
    return found


def stratified_order(drives: Drives) -> list[int]:
    """All places 0..N-1, so that every beginning takes the same share of each drive and is spread along it.

    The first frame taken of every drive comes before the second of any. Images of unknown drive are spread as those
    of one drive would be.
    """
    keyed = []
    for name, places in drives.places().items():
        keyed += [(rank / len(places), name, places[place]) for rank, place in enumerate(spread_order(len(places)))]
    return [place for _, _, place in sorted(keyed)]


def spread_order(count: int) -> list[int]:
    """All places 0..count-1, so that every beginning is spread evenly over them."""
    return sorted(range(count), key=_van_der_corput)


def _van_der_corput(number: int) -> float:
    """The bits of a number mirrored at the point: any beginning of the order 0, 1/2, 1/4, 3/4 is spread evenly."""
    value, weight = 0.0, 0.5
    while number:
        value += weight * (number & 1)
        number >>= 1
        weight /= 2
    return value


def default_workers(device_type: str) -> int:
    """Worker processes: one per core, one core less for the process that feeds a GPU; at most 32."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(32, cores - 1 if device_type == "cuda" else cores))
