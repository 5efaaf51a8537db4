"""From source objects to a COCO dataset, with an account of every object read.

Law: objects read = kept + ignored + dropped + rejected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetl.coco import masks
from drivetl.coco.boxes import clip_xyxy, xyxy_to_xywh
from drivetl.coco.files import MAX_PIXELS, safe_relative
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord, SourceImage, SourceObject
from drivetl.coco.taxonomy import Taxonomy
from drivetl.errors import DataError

MAX_NAMED_REJECTIONS = 200


@dataclass
class Account:
    """What became of every object read; `summary.json` is made of it."""

    read: Counter[str] = field(default_factory=Counter)
    """source label -> objects read."""
    kept: Counter[str] = field(default_factory=Counter)
    """driving class -> annotations written."""
    ignored: Counter[str] = field(default_factory=Counter)
    """reason -> ignore regions written."""
    dropped: Counter[str] = field(default_factory=Counter)
    """reason -> objects left out."""
    rejected: Counter[str] = field(default_factory=Counter)
    """reason -> records skipped because they were broken (`--on-error skip`)."""
    clipped: int = 0
    """Boxes that ran past the image and were cut to it."""
    notes: Counter[str] = field(default_factory=Counter)
    """What is worth saying once with its count: images without labels, rotated boxes enclosed, ..."""

    rejections: list[str] = field(default_factory=list)
    """The first of the rejected records, each as `file:line: reason`."""

    def reject(self, error: DataError, labels: Sequence[str] = ("unreadable record",)) -> None:
        """Count a broken record that `--on-error skip` leaves out: the objects it held, named by their labels."""
        self.read.update(labels)
        self.rejected[error.reason] += len(labels)
        if len(self.rejections) < MAX_NAMED_REJECTIONS:
            self.rejections.append(str(error))

    def balanced(self) -> bool:
        """The law: nothing was lost silently."""
        parts = (self.kept, self.ignored, self.dropped, self.rejected)
        return sum(self.read.values()) == sum(sum(part.values()) for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain, sorted, ready for JSON."""
        counters = ("read", "kept", "ignored", "dropped", "rejected", "notes")
        return {name: dict(sorted(getattr(self, name).items())) for name in counters} | {
            "clipped": self.clipped,
            "rejections": self.rejections,
        }


def build_dataset(
    images: Iterable[SourceImage],
    taxonomy: Taxonomy,
    images_root: Path,
    *,
    source: str,
    account: Account,
    on_error: str = "stop",
) -> Dataset:
    """Convert source images, in the order given, to a dataset with ids 1..N.

    Boxes are clipped to the image (counted; the original stays in `attributes.source_box_xyxy`), boxes with nothing
    left are dropped (counted), ignored labels become ignore regions.
    Raises DataError for a label the taxonomy does not know, a box that is not finite or has x2 < x1, a file name
    that leaves its root; with on_error="skip" such records are counted in `account.rejected` and left out.
    """
    records: list[ImageRecord] = []
    seen: set[str] = set()
    for image in images:
        try:
            record = _image_record(image, len(records) + 1, seen)
        except DataError as error:
            if on_error != "skip":
                raise
            account.reject(error, [item.label for item in image.objects])
            account.notes["images skipped because they were broken"] += 1
            continue
        for item in image.objects:
            try:
                _place(item, record, taxonomy, account)
            except DataError as error:
                error.at(image.label_file or image.file_name, item.line)
                if on_error != "skip":
                    raise
                account.reject(error, [item.label])
            else:
                account.read[item.label] += 1
        records.append(record)
    info = {"source": source, "taxonomy": taxonomy.as_dict(), "taxonomy_hash": taxonomy.digest}
    return Dataset(taxonomy.categories, records, images_root, info)


def _image_record(image: SourceImage, number: int, seen: set[str]) -> ImageRecord:
    place = image.label_file or image.file_name
    try:
        name = safe_relative(image.file_name)
    except DataError as error:
        raise error.at(place) from None
    if name in seen:
        raise DataError(f"image {name!r} comes twice", remedy="remove one of the two", file=place)
    if image.width < 1 or image.height < 1 or image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"image size {image.width} x {image.height} is not usable",
            remedy="between 1 and 200 million pixels",
            file=place,
        )
    seen.add(name)
    return ImageRecord(
        number,
        name,
        image.width,
        image.height,
        image.sequence,
        image.frame_index,
        dict(image.attributes),
        extra=dict(image.extra),
    )


def _place(item: SourceObject, record: ImageRecord, taxonomy: Taxonomy, account: Account) -> None:
    """Put one object where it belongs: an annotation, an ignore region, or the count of the dropped."""
    if item.label in taxonomy.drop:
        account.dropped[f"label {item.label}"] += 1
        return
    category_id, hidden = taxonomy.category_id(item.label), taxonomy.ignored_ids(item.label)
    if category_id is None and hidden is None:
        raise DataError(f"label {item.label!r} is unknown", remedy=taxonomy.suggestion(item.label))
    box, was_clipped = _usable_box(item, record)
    if box[2] <= box[0] or box[3] <= box[1]:
        account.dropped["nothing left inside the image" if was_clipped else "zero width or height"] += 1
        return
    account.clipped += was_clipped
    x, y, w, h = xyxy_to_xywh(box)
    area = item.area if item.area is not None else _area(item, record, w * h)
    attributes = {"source_label": item.label} | item.attributes
    if was_clipped:
        attributes["source_box_xyxy"] = list(item.box_xyxy)
    if hidden is not None or item.ignore:
        ids = hidden if hidden is not None else (category_id,) if category_id else ()
        record.ignore_regions.append(
            IgnoreRegion((x, y, w, h), area, ids, item.segmentation, attributes, item.extra)
        )
        account.ignored[
            f"label {item.label}" if hidden is not None else f"{item.label} marked ignore by the source"
        ] += 1
        return
    assert category_id is not None
    record.annotations.append(
        Annotation(category_id, (x, y, w, h), area, item.segmentation, attributes, item.extra)
    )
    account.kept[taxonomy.categories[category_id - 1]] += 1


def _usable_box(item: SourceObject, record: ImageRecord) -> tuple[tuple[float, float, float, float], bool]:
    x1, y1, x2, y2 = item.box_xyxy
    if not all(math.isfinite(value) and abs(value) < 1e9 for value in item.box_xyxy):
        raise DataError(f"box {list(item.box_xyxy)} is not finite", remedy="mend or remove the record")
    if x2 < x1 or y2 < y1:
        raise DataError(
            f"box {list(item.box_xyxy)} has x2 < x1 or y2 < y1",
            remedy="write left, top, right, bottom in that order",
        )
    box = clip_xyxy(item.box_xyxy, record.width, record.height)
    return box, box != tuple(item.box_xyxy)


def _area(item: SourceObject, record: ImageRecord, box_area: float) -> float:
    if item.segmentation is None:
        return box_area
    return masks.area(item.segmentation, record.height, record.width)
