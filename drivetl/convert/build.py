"""From source objects to a COCO dataset, with an account of every object read.

Law: objects read = kept + ignored + dropped + rejected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetl.coco.boxes import check_corners, clip_xyxy
from drivetl.coco.json_lines import line_in_file
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord, JsonPlace, SourceImage, SourceObject
from drivetl.coco.taxonomy import Taxonomy
from drivetl.errors import DataError
from drivetl.files.images import MAX_PIXELS
from drivetl.files.paths import safe_relative

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

    def reject_image(self, error: DataError, objects: Sequence[SourceObject], on_error: str) -> None:
        """Count an image that `--on-error skip` leaves out with the objects it held. Raises the error else."""
        if on_error != "skip":
            raise error
        self.reject(error, [item.label for item in objects])
        self.notes["images skipped because they were broken"] += 1

    def place(self, error: DataError, file: Path | str, line: int | JsonPlace | None, on_error: str) -> DataError:
        """The error with its place, which in a JSON file is looked for as long as errors are named."""
        if isinstance(line, tuple):
            named = on_error != "skip" or len(self.rejections) < MAX_NAMED_REJECTIONS
            line = line_in_file(file, line) if named and error.line is None else None
        return error.at(file, line)

    def balanced(self) -> bool:
        """The law: nothing was lost silently."""
        parts = (self.kept, self.ignored, self.dropped, self.rejected)
        return sum(self.read.values()) == sum(sum(part.values()) for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain, sorted, ready for JSON."""
        return {
            name: dict(sorted(getattr(self, name).items()))
            for name in ("read", "kept", "ignored", "dropped", "rejected", "notes")
        } | {"clipped": self.clipped, "rejections": self.rejections}


def build_dataset(
    images: Iterable[SourceImage],
    taxonomy: Taxonomy,
    images_root: Path,
    *,
    source: str,
    account: Account,
    on_error: str = "stop",
    finished: Callable[[ImageRecord], None] | None = None,
) -> Dataset:
    """Convert source images, in the order given, to a dataset with ids 1..N.

    Boxes are clipped to the image (counted; the original stays in `attributes.source_box_xyxy`), boxes with nothing
    left are dropped (counted), ignored labels become ignore regions.
    Raises DataError for a label the taxonomy does not know, a box that is not finite or has x2 < x1, a segmentation
    that does not fit the image, a file name that leaves its root; with on_error="skip" such records are counted in
    `account.rejected` and left out. `finished` is called with every record of the dataset once it is whole.
    """
    records: list[ImageRecord] = []
    seen: set[str] = set()
    places = _Places(taxonomy)
    for image in images:
        try:
            record = _image_record(image, 1 + len(records), seen)
        except DataError as error:
            account.reject_image(error, image.objects, on_error)
            continue
        for item in image.objects:
            try:
                _put(item, record, places[item.label], account)
            except DataError as error:
                account.place(error, image.label_file or image.file_name, item.line, on_error)
                if on_error != "skip":
                    raise
                account.reject(error, [item.label])
            else:
                account.read[item.label] += 1
        records.append(record)
        if finished is not None:
            finished(record)
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


@dataclass(frozen=True, slots=True)
class _Place:
    """What a taxonomy does with one source label."""

    name: str
    """The driving class, or `label X` for what is ignored or dropped."""
    category_id: int | None
    hides: tuple[int, ...] | None = None
    """Category ids an ignored label hides, () for all."""
    min_height_px: float = 0.0
    """Lower objects of the class become ignore regions."""


class _Places(dict[str, _Place]):
    """Source label -> its place, looked up in the taxonomy once. Raises DataError for an unknown label."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        super().__init__()

    def __missing__(self, label: str) -> _Place:
        taxonomy = self.taxonomy
        category_id, hides = taxonomy.category_id(label), taxonomy.ignored_ids(label)
        if category_id is not None:
            name = taxonomy.categories[category_id - 1]
            place = _Place(name, category_id, min_height_px=taxonomy.min_height_px)
        elif hides is not None or label in taxonomy.drop:
            place = _Place(f"label {label}", None, hides)
        else:
            raise DataError(f"label {label!r} is unknown", remedy=taxonomy.suggestion(label))
        self[label] = place
        return place


def _put(item: SourceObject, record: ImageRecord, place: _Place, account: Account) -> None:
    """Put one object where it belongs: an annotation, an ignore region, or the count of the dropped."""
    hides, category_id = place.hides, place.category_id
    if category_id is None and hides is None:
        account.dropped[place.name] += 1
        return
    x1, y1, x2, y2 = item.box_xyxy
    was_clipped = not (0 <= x1 <= x2 <= record.width and 0 <= y1 <= y2 <= record.height)  # true for NaN too
    if was_clipped:
        check_corners(item.box_xyxy)
        x1, y1, x2, y2 = clip_xyxy(item.box_xyxy, record.width, record.height)
    area = (x2 - x1) * (y2 - y1) if item.segmentation is None else _mask_area(item, record)
    if item.area is not None:
        area = item.area
        if not 0 <= area < math.inf:
            raise DataError(f"area is {area!r}", remedy="mend or remove the record")
    if x2 <= x1 or y2 <= y1:
        account.dropped["nothing left inside the image" if was_clipped else "zero width or height"] += 1
        return
    account.clipped += was_clipped
    w, h = x2 - x1, y2 - y1
    bbox_xywh = (x1, y1, w, h)
    attributes = {"source_label": item.label, **item.attributes}  # a copy: objects of a track may share theirs
    if was_clipped or x1 + w != x2 or y1 + h != y2:  # rounding would lose the last bit
        attributes["source_box_xyxy"] = list(item.box_xyxy)
    too_low = h < place.min_height_px
    if category_id is None or item.ignore or too_low:
        ids = hides if category_id is None else (category_id,)
        record.ignore_regions.append(
            IgnoreRegion(bbox_xywh, area, ids or (), item.segmentation, attributes, item.extra)
        )
        why = f"lower than {place.min_height_px:g} px" if too_low else "marked ignore by the source"
        reason = place.name if category_id is None else f"{item.label} {why}"
        account.ignored[reason] += 1
        return
    record.annotations.append(Annotation(category_id, bbox_xywh, area, item.segmentation, attributes, item.extra))
    account.kept[place.name] += 1


def _mask_area(item: SourceObject, record: ImageRecord) -> float:
    """px^2 of the object's mask. Raises DataError when it does not fit the image."""
    from drivetl.coco import masks

    assert item.segmentation is not None
    if item.area is None:
        return masks.area(item.segmentation, record.height, record.width)
    wrong = masks.problem(item.segmentation, record.height, record.width)
    if wrong is not None:
        raise DataError(wrong, remedy="mend or remove the segmentation")
    return item.area
