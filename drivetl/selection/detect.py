"""What a detector sees in frames: detections and, of each, the features that its box head classifies.

Everything is kept in a folder until the selection is written, so that a killed selection continues.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from drivetl import console
from drivetl.coco.detections import Detections
from drivetl.coco.folders import OnError
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.conditions import CLEAN
from drivetl.convert.leaks import fingerprint
from drivetl.errors import DataError
from drivetl.files.arrays import read_npz
from drivetl.files.video import read_some_frames
from drivetl.files.write import remove_leftovers, write_atomically
from drivetl.models.detector import Detector
from drivetl.prediction.images import predict, with_min_score
from drivetl.robustness.detection_cache import DetectionCache
from drivetl.robustness.sweep import FLUSH_EVERY_S
from drivetl.selection.distance import MOST_OBJECTS, Features
from drivetl.selection.pool import Bits, Pool
from drivetl.selection.uncertainty import LEAST_SCORE
from drivetl.workers import dead_workers_as_errors


class FeatureDetector:
    """A detector whose `infer` also appends to `features` what each image's first MOST_OBJECTS detections look like."""

    def __init__(self, detector: Detector):
        self.detector = detector
        self.features: deque[Features] = deque()

    def infer(self, images: list[Tensor]) -> list[Detections]:
        """As `Detector.infer`; one (N, D) array of unit vectors is appended per image."""
        with box_features(self.detector.model) as collected:
            found = self.detector.infer(images)
        self.features.extend(collected)
        return found


@contextmanager
def box_features(model: nn.Module) -> Iterator[list[Features]]:
    """While the block runs, every forward pass of a torchvision detector in eval mode adds, per image, the (N, D)
    features of its first MOST_OBJECTS detections: what its box head makes of the detected boxes, at unit length."""
    collected: list[Features] = []

    def hook(heads: Any, inputs: tuple[Any, ...], output: tuple[list[dict[str, Tensor]], object]) -> None:
        maps, _, sizes = inputs[:3]
        boxes = [image["boxes"][:MOST_OBJECTS] for image in output[0]]
        if not any(map(len, boxes)):
            collected.extend(np.zeros((0, 1), np.float16) for _ in boxes)
            return
        features = heads.box_head(heads.box_roi_pool(maps, boxes, sizes)).float()
        features = nn.functional.normalize(features, dim=1).to(torch.float16)
        collected.extend(part.cpu().numpy() for part in torch.split(features, [len(image) for image in boxes]))

    handle = model.roi_heads.register_forward_hook(hook)  # type: ignore[union-attr]
    try:
        yield collected
    finally:
        handle.remove()


class Seen:
    """Detections and features by key, in memory and in a folder."""

    def __init__(self, folder: Path, detector: Detector):
        """Reads what an earlier process with the same detector left in the folder."""
        identity = {"weights": detector.weights_hash, "precision": str(detector.precision), "what": "selection"}
        heads: Any = detector.model.roi_heads
        self.detections = DetectionCache(folder, identity, masks=heads.has_mask())
        self.features: dict[str, Features] = {}
        assert self.detections.folder is not None
        self._folder = self.detections.folder / "features"
        self._pending: list[str] = []
        self._flushed_at = time.monotonic()
        remove_leftovers(self._folder)
        for path in sorted(self._folder.glob("*.npz")):
            self._read(path)

    def has(self, key: str) -> bool:
        """Whether a frame need not be run again."""
        return key in self.features and self.detections.has(key, CLEAN)

    def add(self, key: str, detections: Detections, features: Features) -> None:
        """Add a frame; written every FLUSH_EVERY_S."""
        self.detections.add(key, CLEAN, detections)
        self.features[key] = features
        self._pending.append(key)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()

    def of(self, key: str) -> Detections:
        """The detections of a frame. Raises KeyError."""
        return self.detections.of(key, CLEAN)

    def flush(self) -> None:
        """Write what was added since the last time."""
        self.detections.flush()
        if self._pending:
            rows = [self.features[key] for key in self._pending]
            buffer = io.BytesIO()
            columns: dict[str, npt.NDArray[Any]] = {"keys": np.array(self._pending)}
            columns |= {f"frame_{number}": row for number, row in enumerate(rows)}
            np.savez(buffer, **columns)  # type: ignore[arg-type]
            data = buffer.getvalue()
            write_atomically(self._folder / f"{hashlib.blake2b(data, digest_size=8).hexdigest()}.npz", data)
        self._pending, self._flushed_at = [], time.monotonic()

    def _read(self, path: Path) -> None:
        try:
            arrays = read_npz(path)
            for number, key in enumerate(arrays["keys"].tolist()):
                rows = arrays[f"frame_{number}"]
                if rows.dtype != np.float16 or rows.ndim != 2:
                    raise ValueError("not features")
                self.features[str(key)] = rows
        except (ValueError, KeyError) as error:
            console.warn(f"{path}: damaged ({error}); its frames are run again")


@dead_workers_as_errors("--workers")
def look_at_images(
    detector: Detector, dataset: Dataset, seen: Seen, on_error: OnError, *, batch_size: int = 8, workers: int = 0
) -> dict[int, str]:
    """Run a detector on the images that were not seen; image id -> key in `seen`.

    An image that cannot be read is left out and reported. Raises DrivetlError when a worker process dies.
    """
    keys = {image.id: _key(dataset.images_root / image.file_name) for image in dataset.images}
    missing = [image for image in dataset.images if not seen.has(keys[image.id])]
    if len(missing) < len(dataset.images):
        console.say(f"{len(dataset.images) - len(missing)} of {len(dataset.images)} images were run before")
    runner = FeatureDetector(detector)
    stream = predict(
        runner,
        dataset.subset(missing),
        score=LEAST_SCORE,
        batch_size=batch_size,
        workers=workers if len(missing) > batch_size else 0,
        on_error=on_error,
    )
    try:
        for record, detections in console.track(stream, "detecting", len(missing), "images"):
            seen.add(keys[record.id], detections, runner.features.popleft())
    finally:
        seen.flush()
    return {image_id: key for image_id, key in keys.items() if seen.has(key)}


def _key(path: Path) -> str:
    """16 hex digits of an image file: its path, size and time of change."""
    try:
        about = path.stat()
    except OSError:
        return f"missing {path}"
    text = f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def look_at_video(
    detector: Detector, pool: Pool, seen: Seen, *, batch_size: int = 8
) -> tuple[dict[int, str], dict[int, Bits]]:
    """Run a detector on the frames of the pool's video: image id -> key in `seen`, and image id -> fingerprint.

    Frames that the header promises and that are not there are left out. Raises DataError when none can be decoded.
    """
    video = pool.video
    assert video is not None
    base, records = _key(video), {frame.record.frame_index: frame.record for frame in pool.frames}
    keys: dict[int, str] = {}
    bits: dict[int, Bits] = {}
    runner = FeatureDetector(detector)

    def new_frames() -> Iterator[tuple[ImageRecord, Tensor]]:
        frames = read_some_frames(video, records.__contains__)
        for number, image in console.track(frames, f"running {video.name}", len(records), "frames"):
            record = records[number]
            keys[record.id], bits[record.id] = f"{base} {number}", fingerprint(image)
            if not seen.has(keys[record.id]):
                yield record, torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    stream = new_frames()
    try:
        while batch := list(islice(stream, batch_size)):
            for (record, _), found in zip(batch, runner.infer([image for _, image in batch]), strict=True):
                seen.add(keys[record.id], with_min_score(found, LEAST_SCORE), runner.features.popleft())
    finally:
        seen.flush()
    if not keys:
        raise DataError("no frame could be decoded", remedy="re-encode or replace the video", file=video)
    if len(keys) < len(records) - max(2, len(records) // 100):  # a header is often off by one or two
        console.warn(f"{video}: breaks off, {len(keys)} of {len(records)} frames could be read")
    return keys, bits


def detections_of(seen: Seen, keys: Mapping[int, str]) -> dict[int, Detections]:
    """Image id -> its detections."""
    return {image_id: seen.of(key) for image_id, key in keys.items()}
