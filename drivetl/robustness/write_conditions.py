"""The images that a sweep evaluates, as files, for detectors that run somewhere else.

    write_conditions(dataset, [CLEAN, ("fog", 3)], Path("cells"))  # cells/fog/3/NAME.png, ..., cells/manifest.json

Every file appears complete or not at all, and finished ones are recognised, so the same call continues after a kill.
Several processes or machines may write shards into one folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from torch.utils.data import IterableDataset

from drivetl.coco.io import load_json
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.conditions import CLEAN, PROTOCOL_VERSION, Cell, cell_name, pixel_seed
from drivetl.console import say, track
from drivetl.draw.objects import jpeg as as_jpeg
from drivetl.draw.objects import png as as_png
from drivetl.errors import DataError
from drivetl.files.images import Rgb, read_rgb
from drivetl.files.paths import IMAGE_SUFFIXES, safe_relative
from drivetl.files.write import check_new, unwritable, write_atomically
from drivetl.robustness.detection_cache import dataset_hash, image_keys
from drivetl.robustness.sweep import Task, spread_order, streamed, tasks_of_worker, variants
from drivetl.workers import dead_workers_as_errors

FORMAT = "drivetl.conditions/1"
MANIFEST = "manifest.json"
SAMPLED_CELLS = 8
"""Cells of one image that are rendered to estimate the size of all files."""
MARGIN = 1.1
"""Free space that is demanded, in estimated sizes."""

Row = dict[str, Any]
"""A file in the manifest: file, condition, severity, image_id, file_name (the source), seed, sha256."""


@dataclass(frozen=True)
class WrittenConditions:
    """What a call found and wrote."""

    manifest: Path
    n_rendered: int
    n_finished: int
    """Files that were there already."""
    n_missing: int
    """Files of the manifest's cells that other shards have yet to write."""


@dead_workers_as_errors("--workers")
def write_conditions(
    dataset: Dataset,
    cells: Sequence[Cell],
    folder: Path,
    *,
    jpeg: int | None = None,
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> WrittenConditions:
    """Write every image in every cell, and the manifest. Cells that the folder has already stay in its manifest.

    jpeg: a quality from 1 to 100; None writes PNG, whose pixels are exactly those of the sweep. shard: (rank, world)
    takes every world-th image. Raises DataError for an unreadable image, for a folder with something else in it or with
    conditions of other data, and when the disk has too little space, before anything is written.
    """
    if not dataset.images:
        raise DataError("the dataset has no images", remedy="choose another --data")
    files = _file_names(dataset, jpeg)
    header = _header(dataset, dataset_hash(image_keys(dataset)), jpeg)
    known = _known_rows(folder, header)
    rank, world = shard
    tasks = [
        Task(index, record, tuple(cells), dataset.categories)
        for index, record in list(enumerate(dataset.images))[rank::world]
    ]
    job = _Job(dataset.images_root, folder, files, jpeg, {row["file"]: row["sha256"] for row in known})
    _check_space(job, tasks)
    if not (folder / MANIFEST).is_file():
        _write_manifest(folder, header, [])
    rows, rendered = [], 0
    for row, is_new in track(_written(job, tasks, workers), "writing", total=len(tasks) * len(cells)):
        rows.append(row)
        rendered += is_new
    with _locked(folder):
        merged = {row["file"]: row for row in [*_known_rows(folder, header), *rows]}
        missing = _write_manifest(folder, header, [merged[file] for file in sorted(merged)])
    return WrittenConditions(folder / MANIFEST, rendered, len(rows) - rendered, missing)


@dataclass(frozen=True)
class _Job:
    """Where images are read and written, and how."""

    root: Path
    folder: Path
    files: Sequence[str]
    """Index of an image -> its file in a cell."""
    jpeg: int | None
    hashes: dict[str, str]
    """File -> its hash in the manifest that was found."""

    def file(self, task: Task, cell: Cell) -> str:
        return f"{cell_name(cell)}/{self.files[task.index]}"

    def encoded(self, pixels: Rgb) -> bytes:
        return as_png(pixels) if self.jpeg is None else as_jpeg(pixels, self.jpeg)

    def finished(self, task: Task, cell: Cell) -> str | None:
        """The hash of a file that is there, complete and unchanged; None where it has to be written."""
        file = self.file(task, cell)
        path = self.folder / file
        if not path.is_file():
            return None
        try:
            pixels = read_rgb(path)
        except DataError:  # damaged
            return None
        digest = pixels_hash(pixels) if self.jpeg is None else hashlib.sha256(path.read_bytes()).hexdigest()
        if pixels.shape[:2] != (task.record.height, task.record.width) or self.hashes.get(file, digest) != digest:
            return None
        return digest


def pixels_hash(pixels: Rgb) -> str:
    """SHA-256 of (H, W, 3) uint8 RGB, row by row: what a loader can compare with the manifest."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _file_names(dataset: Dataset, jpeg: int | None) -> list[str]:
    """Each image's file in a cell: its own name with the suffix of the format. Raises DataError for two of one name."""
    suffix = ".png" if jpeg is None else ".jpg"
    files = []
    for record in dataset.images:
        path = PurePosixPath(safe_relative(record.file_name))
        named = path.suffix.lower() in IMAGE_SUFFIXES
        files.append(str(path.with_suffix(suffix) if named else path.with_name(path.name + suffix)))
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise DataError(
            f"two images would both be written as {twice[0]!r}",
            remedy="give the images names that differ by more than their suffix",
            file=dataset.file,
        )
    return files


def _header(dataset: Dataset, digest: str, jpeg: int | None) -> Row:
    return {
        "format": FORMAT,
        "protocol_version": PROTOCOL_VERSION,
        "dataset": {"hash": digest, "images": len(dataset.images)},
        "encoding": "PNG" if jpeg is None else f"JPEG, quality {jpeg}: the pixels differ from those of the sweep",
        "sha256_of": "the file" if jpeg is not None else "the pixels, (H, W, 3) uint8 RGB",
    }


def _known_rows(folder: Path, header: Row) -> list[Row]:
    """The rows of the folder's manifest; none for a new folder. Raises DataError for a folder of something else."""
    path = folder / MANIFEST
    if not path.is_file():
        check_new(folder, remedy="name a new folder, or one that --write has begun")
        return []
    document = load_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError("not a manifest of conditions", remedy="name a new folder with --write", file=path)
    for key, value in header.items():
        if document.get(key) != value:
            raise DataError(
                f"its {key.replace('_', ' ')} is {document.get(key)!r}, not {value!r}",
                remedy="name another folder with --write",
                file=path,
            )
    rows = document.get("images")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"file", "sha256"} <= row.keys() for row in rows
    ):
        raise DataError("its images are not rows with file and sha256", remedy="remove the manifest", file=path)
    return rows


def _write_manifest(folder: Path, header: Row, rows: list[Row]) -> int:
    """Write the manifest; returns the number of files that its cells still lack."""
    n_images: int = header["dataset"]["images"]
    written = Counter(cell_name((row["condition"], row["severity"])) for row in rows)
    missing = sum(n_images - count for count in written.values())
    document = header | {"complete": bool(rows) and not missing, "cells": dict(written), "images": rows}
    write_atomically(folder / MANIFEST, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return missing


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time adds to the manifest."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_space(job: _Job, tasks: Sequence[Task]) -> None:
    """Estimate the size of the files to be written from one image in some cells, and compare it with the free space.

    Raises DataError when it is larger.
    """
    pending = [
        replace(task, cells=cells)
        for task in tasks
        if (cells := tuple(cell for cell in task.cells if not (job.folder / job.file(task, cell)).is_file()))
    ]
    if not pending:
        return
    sample = pending[len(pending) // 2]
    chosen = tuple(sample.cells[number] for number in spread_order(len(sample.cells))[:SAMPLED_CELLS])
    sizes = [len(job.encoded(pixels)) for _, pixels in variants(replace(sample, cells=chosen), job.root)]
    bytes_per_pixel = sum(sizes) / len(sizes) / _n_pixels(sample.record)
    needed = bytes_per_pixel * sum(_n_pixels(task.record) * len(task.cells) for task in pending)
    n_files = sum(len(task.cells) for task in pending)
    free = _free_bytes(job.folder)
    say(f"{n_files} files, about {_size(needed)}; {_size(free)} are free")
    if MARGIN * needed > free:
        raise DataError(
            f"{n_files} files need about {_size(needed)}, {_size(free)} are free",
            remedy="free space, write fewer --conditions or --severities, or use --jpeg 95",
            file=job.folder,
        )


def _n_pixels(record: ImageRecord) -> int:
    return record.width * record.height


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise unwritable(folder, error) from None


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(n_bytes, 1e5) / 1e6:.1f} MB"


def _written(job: _Job, tasks: Sequence[Task], workers: int) -> Iterator[tuple[Row, bool]]:
    """(row, whether it was rendered now) of each file, in no particular order, written by worker processes."""
    for item in streamed(_Files(job, tasks), workers):
        if isinstance(item, DataError):
            raise item
        yield item


class _Files(IterableDataset[Any]):
    """Writes the files of every task; worker w of W takes every W-th.

    A DataError is an item: torch would wrap a raised one in a traceback.
    """

    def __init__(self, job: _Job, tasks: Sequence[Task]):
        self.job, self.tasks = job, tasks

    def __iter__(self) -> Iterator[tuple[Row, bool] | DataError]:
        for task in tasks_of_worker(self.tasks):
            try:
                yield from _files_of(self.job, task)
            except DataError as error:
                yield error


def _files_of(job: _Job, task: Task) -> Iterable[tuple[Row, bool]]:
    finished = {cell: digest for cell in task.cells if (digest := job.finished(task, cell)) is not None}
    for cell, digest in finished.items():
        yield _row(job, task, cell, digest), False
    missing = tuple(cell for cell in task.cells if cell not in finished)
    if not missing:
        return
    for cell, pixels in variants(replace(task, cells=missing), job.root):
        data = job.encoded(pixels)
        write_atomically(job.folder / job.file(task, cell), data)
        digest = pixels_hash(pixels) if job.jpeg is None else hashlib.sha256(data).hexdigest()
        yield _row(job, task, cell, digest), True


def _row(job: _Job, task: Task, cell: Cell, digest: str) -> Row:
    name, severity = cell
    return {
        "file": job.file(task, cell),
        "condition": name,
        "severity": severity,
        "image_id": task.record.id,
        "file_name": task.record.file_name,
        "seed": None if cell == CLEAN else pixel_seed(task.record.file_name, name, severity),
        "sha256": digest,
    }
