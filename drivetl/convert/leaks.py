"""Leaks between train and val: shared drives, neighbouring frames of a drive, near-duplicate images."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.coco.records import ImageRecord
from drivetl.errors import DataError
from drivetl.files.images import image_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NEAR_BITS = 24
"""Images whose 256-bit fingerprints differ in at most this many bits count as near-duplicates. Measured: re-encoded or
brightened copies differ in 0-6 bits, mirrored ones in 3-20 from the mirrored fingerprint, frames 0.1 s apart on a
moving car in 6-25, different streets in 78 and more, and from a mirrored one in 72 and more."""
MAX_NAMED = 200


@dataclass(slots=True)
class LeakReport:
    """What train and val share. An image of unknown drive can only be compared by its pixels."""

    train_drives: list[str]
    val_drives: list[str]
    shared_drives: list[str]
    nearest_gap: int | None = None
    """Frames between the closest train and val frame of a shared drive; None when none is shared."""
    nearest_pair: tuple[str, str] | None = None
    near_duplicates: list[tuple[str, str, int]] = field(default_factory=list)
    """(train file, val file, differing bits of 256) of each val image whose nearest train image is a near-duplicate, as
    it is or mirrored."""
    images_compared: int | None = None
    """None: pixels were not compared."""
    unreadable: list[str] = field(default_factory=list)
    sampled: bool = False
    """Whether only a sample of the images was compared."""

    def as_dict(self) -> dict[str, Any]:
        """For summary.json, sorted; lists are cut to MAX_NAMED entries, counts are complete."""
        return {
            "train_sequences": self.train_drives,
            "val_sequences": self.val_drives,
            "shared_sequences": self.shared_drives,
            "nearest_frame_gap": self.nearest_gap,
            "nearest_pair": self.nearest_pair,
            "near_duplicates": len(self.near_duplicates),
            "near_duplicate_pairs": [list(pair) for pair in self.near_duplicates[:MAX_NAMED]],
            "images_compared": self.images_compared,
            "unreadable_images": self.unreadable[:MAX_NAMED],
        }

    def sentence(self) -> str:
        """The result in one line."""
        if not self.train_drives and not self.val_drives:
            text = "no image has a drive, so shared drives cannot be detected"
        elif self.shared_drives:
            text = f"{len(self.shared_drives)} drives are on both sides"
            text += "" if self.nearest_gap is None else f", nearest frames {self.nearest_gap} apart"
        else:
            counts = f"{len(self.train_drives)} in train, {len(self.val_drives)} in val"
            text = f"no drive is on both sides ({counts})"
        if self.images_compared is None:
            return f"{text}; images not compared"
        sample = " (a sample; --check-images compares all)" if self.sampled else ""
        return f"{text}; {self.images_compared} images compared{sample}, {len(self.near_duplicates)} near-duplicates"

    def warnings(self) -> list[str]:
        """Near-duplicates and unreadable images, one sentence each."""
        warnings = []
        if self.near_duplicates:
            train, val, bits = self.near_duplicates[0]
            warnings.append(
                f"{len(self.near_duplicates)} val images have a near-duplicate in train, the first: "
                f"{val} is {train} ({bits} of 256 bits differ)"
            )
        if self.unreadable:
            warnings.append(f"{len(self.unreadable)} images could not be compared, the first: {self.unreadable[0]}")
        return warnings


def leak_report(
    train: Sequence[ImageRecord], val: Sequence[ImageRecord], images_root: Path | None = None, limit: int | None = None
) -> LeakReport:
    """Compare both sides; with `images_root` also the pixels of all images (slow: every image is decoded).

    limit: compare at most this many images, evenly spaced, and only those that are on disk; a fifth of them are of
    val. No image is compared when none is on disk.
    """
    left, right = _by_drive(train), _by_drive(val)
    shared = sorted(left.keys() & right.keys())
    report = LeakReport(sorted(left), sorted(right), shared)
    for name in shared:
        _note_nearest(left[name], right[name], report)
    if images_root is not None and limit is None:
        _compare_images(train, val, images_root, report)
    elif images_root is not None and limit is not None:
        some_val = _sample(val, limit // 5, images_root)
        some_train = _sample(train, limit - limit // 5, images_root)
        if some_val and some_train:
            _compare_images(some_train, some_val, images_root, report)
            report.sampled = len(some_train) < len(train) or len(some_val) < len(val)
    return report


def _sample(images: Sequence[ImageRecord], count: int, root: Path) -> list[ImageRecord]:
    """At most `count` images, evenly spaced, of which those on disk."""
    step = max(1.0, len(images) / count)
    chosen = [images[int(number * step)] for number in range(min(count, len(images)))]
    return [image for image in chosen if os.path.isfile(root / image.file_name)]  # noqa: PTH113


def _by_drive(images: Sequence[ImageRecord]) -> dict[str, list[ImageRecord]]:
    return {name: [images[index] for index in indices] for name, indices in Drives.of(images).places().items() if name}


def _note_nearest(train: list[ImageRecord], val: list[ImageRecord], report: LeakReport) -> None:
    frames = sorted((image.frame_index, image.file_name) for image in train if image.frame_index is not None)
    for image in val:
        if image.frame_index is None or not frames:
            continue
        at = bisect_left(frames, (image.frame_index, ""))
        for index, name in frames[max(at - 1, 0) : at + 1]:
            gap = abs(index - image.frame_index)
            if report.nearest_gap is None or gap < report.nearest_gap:
                report.nearest_gap, report.nearest_pair = gap, (name, image.file_name)


def _compare_images(train: Sequence[ImageRecord], val: Sequence[ImageRecord], root: Path, report: LeakReport) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    images = [*train, *val]
    compared: list[int] = []
    bits_of_images = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes without holding the GIL
        fingerprints = pool.map(fingerprint_of_file, [root / image.file_name for image in images])
        for number, value in enumerate(console.track(fingerprints, "comparing images", len(images))):
            if value is None:
                report.unreadable.append(images[number].file_name)
            else:
                bits_of_images.append(value)
                compared.append(number)
    report.images_compared = len(compared)
    names = [images[number].file_name for number in compared]
    left = [row for row, number in enumerate(compared) if number < len(train)]
    right = [row for row, number in enumerate(compared) if number >= len(train)]
    if not left or not right:
        return
    bits = np.array(bits_of_images, np.float32)
    for start in range(0, len(right), 1024):
        part = right[start : start + 1024]
        differing = differing_bits(bits[part], bits[left])
        nearest = differing.argmin(axis=1)
        for row, column in enumerate(nearest):
            distance = int(differing[row, column])
            if distance <= NEAR_BITS:
                report.near_duplicates.append((names[left[column]], names[part[row]], distance))
    report.near_duplicates.sort(key=lambda pair: (pair[2], pair[1]))


def differing_bits(some: npt.ArrayLike, others: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """(n, 256) and (m, 256) fingerprints -> (n, m) bits in which they differ, as they are or one of them mirrored."""
    import numpy as np

    left, right = (np.asarray(bits, np.float32).reshape(-1, 256) for bits in (some, others))
    mirrored = -right.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)  # brightness falls where it rose
    like = np.maximum(left @ right.T, left @ mirrored.T)
    return np.asarray((256 - like) / 2, np.float32)  # bits are -1 and 1


def fingerprint_of_file(path: Path) -> npt.NDArray[np.int8] | None:
    """The fingerprint of an image file, or None when it cannot be read. Large JPEGs are decoded at 1/4 scale."""
    import cv2
    import numpy as np

    try:
        side_px = min(image_size(path))
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except (DataError, OSError):
        return None
    mode = cv2.IMREAD_REDUCED_COLOR_4 if side_px >= 200 else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(data, mode)
    except cv2.error:
        return None
    return None if image is None else fingerprint(np.asarray(image[:, :, ::-1], np.uint8))


def fingerprint(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """(H, W, 3) RGB -> (256,) of -1 and 1: whether brightness rises from a cell of a 16 x 17 grid to the next.

    The difference hash (dHash): insensitive to scale, compression and exposure, sensitive to changes of the scene.
    """
    import cv2
    import numpy as np

    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    return np.where(small[:, 1:] > small[:, :-1], 1, -1).astype(np.int8).reshape(-1)
