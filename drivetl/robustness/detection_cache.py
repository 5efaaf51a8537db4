"""Cache on disk of the detections in every cell: written as the sweep runs, reused on resume and by later reports.

A cell is (condition, severity); CLEAN is the unmodified image. A folder has one detector's detections under one
protocol version. Every file in it is a chunk named by a hash of its content, so several processes can write at once.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.conditions import PROTOCOL_VERSION, Cell, cell_name
from drivetl.console import track, warn
from drivetl.data.depth import depth_path
from drivetl.data.vehicles import vehicle_boxes
from drivetl.errors import ConfigError, DataError
from drivetl.files.arrays import read_npz
from drivetl.files.write import remove_leftovers, write_atomically
from drivetl.metrics.results import Results, check_columns, concatenate, mask_columns, masks_of_columns, of_image

FORMAT = 1
CELLS_FOLDER = Path("robustness", ".cells")
"""Where a run directory keeps the cached detections of its detector."""


def image_key(record: ImageRecord, root: Path, categories: tuple[str, ...]) -> str:
    """16 hex digits of all that its pixels depend on in any cell: the image's file name, its size, the content of its
    file and of its depth map, and the boxes of its vehicles. categories: the dataset's.

    Raises DataError for a file that cannot be read.
    """
    parts = [record.file_name, record.width, record.height, _content_hash(root / record.file_name)]
    depth = depth_path(record, root)
    if depth is not None:
        parts += ["depth", _content_hash(depth)]
    vehicles = vehicle_boxes(record, categories)
    if len(vehicles):
        parts += ["vehicles", hashlib.blake2b(vehicles.astype("<f4").tobytes()).hexdigest()]
    text = json.dumps(parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _content_hash(path: Path) -> str:
    """A hash of a file's bytes (uncompressed images of equal dimensions have equal file sizes)."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})",
            remedy="check that it exists under the dataset's images root",
            file=path,
        ) from None


def image_keys(dataset: Dataset) -> list[str]:
    """The key of each image, in the dataset's order."""
    root, categories = dataset.images_root, dataset.categories
    return [image_key(record, root, categories) for record in track(dataset.images, "reading")]


def dataset_hash(keys: Iterable[str]) -> str:
    """16 hex digits of a set of images, whatever their order."""
    return hashlib.blake2b("".join(sorted(keys)).encode(), digest_size=8).hexdigest()


@dataclass
class _Chunk:
    """Detections that are not written yet."""

    items: list[tuple[str, Cell]] = field(default_factory=list)
    """(image key, cell)"""
    detections: list[Detections] = field(default_factory=list)


class DetectionCache:
    """One detector's detections per (image, cell), in memory and, where it has one, in a folder."""

    absent: frozenset[Cell] = frozenset()
    """Cells that the detector was not run in and will not be: their numbers are NaN."""

    def __init__(self, folder: Path | None, identity: Mapping[str, str], masks: bool = False):
        """folder: None keeps the detections in memory only. masks: keep masks. identity: what the detections depend on
        besides the pixels: weights, settings, precision.

        Raises DataError when the folder holds detections of another detector or protocol version.
        """
        self.masks = masks
        about = {"format": FORMAT, "protocol_version": PROTOCOL_VERSION, **identity}
        digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.folder = None if folder is None else folder / digest
        self._pending = _Chunk()
        self._rows: dict[Cell, dict[str, Detections]] = {}
        if self.folder is None:
            return
        remove_leftovers(self.folder)
        _check_about(self.folder, about)
        for path in sorted(self.folder.glob("*.npz")):
            self._read(path)

    def has(self, key: str, cell: Cell) -> bool:
        """Whether the cache has that image in that cell."""
        return key in self._rows.get(cell, {})

    def of(self, key: str, cell: Cell) -> Detections:
        """The detections in that image in that cell. Raises KeyError where it has none."""
        return self._rows[cell][key]

    def cells(self) -> list[Cell]:
        """The cells with at least one image, sorted."""
        return sorted(self._rows)

    def add(self, key: str, cell: Cell, detections: Detections) -> None:
        """Add in memory; `flush` writes. Raises ConfigError when masks are kept and the detector gives none."""
        if self.masks and detections.masks is None:
            raise ConfigError("the run gives boxes only, no masks", remedy="use --iou-type bbox")
        if not self.masks:
            detections = Detections(detections.boxes, detections.scores, detections.labels)
        self._rows.setdefault(cell, {})[key] = detections
        if self.folder is not None:
            self._pending.items.append((key, cell))
            self._pending.detections.append(detections)

    def flush(self) -> None:
        """Write what was added since the last flush as one chunk, atomically."""
        if self.folder is None or not self._pending.items:
            return
        data = _pack(self._pending, self.masks)
        name = hashlib.blake2b(data, digest_size=8).hexdigest()
        write_atomically(self.folder / f"{name}.npz", data)
        self._pending = _Chunk()

    def refresh(self) -> None:
        """Read the chunks that other processes have written."""
        if self.folder is None:
            return
        for path in sorted(self.folder.glob("*.npz")):
            self._read(path)

    def results(self, cell: Cell, images: Mapping[str, int]) -> Results:
        """Detections of a cell as columns; images: key -> image id. Raises KeyError for an image that is not cached."""
        rows = self._rows.get(cell, {})
        return concatenate(of_image(image_id, rows[key]) for key, image_id in images.items())

    def _read(self, path: Path) -> None:
        try:
            chunk = _unpack(read_npz(path), self.masks)
        except (ValueError, KeyError) as error:
            warn(f"{path}: damaged ({error}); its cells will be recomputed")
            return
        for (key, cell), detections in zip(chunk.items, chunk.detections, strict=True):
            self._rows.setdefault(cell, {})[key] = detections


def _pack(chunk: _Chunk, masks: bool) -> bytes:
    columns: dict[str, npt.NDArray[np.generic]] = {
        "keys": np.array([key for key, _ in chunk.items]),
        "cells": np.array([cell_name(cell) for _, cell in chunk.items]),
        "counts": np.array([len(image.scores) for image in chunk.detections], np.int32),
        "boxes": np.concatenate([image.boxes for image in chunk.detections]).astype(np.float32),
        "scores": np.concatenate([image.scores for image in chunk.detections]).astype(np.float32),
        "labels": np.concatenate([image.labels for image in chunk.detections]).astype(np.int16),
    }
    if masks:
        columns |= mask_columns(mask for image in chunk.detections for mask in image.masks or ())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(arrays: Mapping[str, npt.NDArray[Any]], masks: bool) -> _Chunk:
    """What `_pack` packed. Raises KeyError or ValueError for other columns."""
    keys, cells, counts = arrays["keys"], arrays["cells"], arrays["counts"]
    boxes, scores, labels = arrays["boxes"], arrays["scores"], arrays["labels"]
    check_columns(boxes, scores, labels)
    if not keys.shape == cells.shape == counts.shape == (keys.size,):
        raise ValueError("columns differ in length")
    if keys.dtype.kind != "U" or cells.dtype.kind != "U" or counts.dtype.kind not in "iu":
        raise ValueError("a column has another type")
    if (counts < 0).any() or int(counts.sum(dtype=np.int64)) != len(boxes):
        raise ValueError("the counts do not sum to the number of boxes")
    rles = masks_of_columns(arrays, len(boxes)) if masks else None
    chunk, start = _Chunk(), 0
    for key, name, count in zip(keys.tolist(), cells.tolist(), counts.tolist(), strict=True):
        condition, _, severity = name.rpartition("/")
        part = slice(start, start + count)
        start += count
        chunk.items.append((key, (condition, int(severity))))
        chunk.detections.append(
            Detections(boxes[part], scores[part], labels[part].astype(np.int64), None if rles is None else rles[part])
        )
    return chunk


def _check_about(folder: Path, about: Mapping[str, object]) -> None:
    """Write about.json, or raise DataError when an existing one differs."""
    path = folder / "about.json"
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        write_atomically(path, text)
        return
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        known = None
    if known != about:
        raise DataError(
            "these cached detections belong to another detector or protocol version",
            remedy=f"remove {folder}; they will be recomputed",
            file=path,
        )


def complete_images(caches: Iterable[DetectionCache], keys: Sequence[str], cells: Sequence[Cell]) -> list[int]:
    """Indices of the images that every cache has in every cell."""
    caches = list(caches)
    return [index for index, key in enumerate(keys) if all(cache.has(key, cell) for cache in caches for cell in cells)]
