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
from drivetl.coco.rules import check_size
from drivetl.coco.taxonomy import Taxonomy
from drivetl.convert.frame import Frame
from drivetl.errors import DataError
from drivetl.files.paths import safe_relative

MAX_NAMED_REJECTIONS = 200
OUTSIDE = "nothing left inside the image"


@dataclass
class Account:
    """What became of every object read; the numbers of `summary.json`."""

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
    """Boxes that extended beyond the image and were clipped to it."""
    frame: Frame = field(default_factory=Frame)
    """Whether the boxes were made for images of these sizes."""
    notes: Counter[str] = field(default_factory=Counter)
    """Remarks for the summary, each with its count: images without labels, rotated boxes enclosed, ..."""

    rejections: list[str] = field(default_factory=list)
    """The first MAX_NAMED_REJECTIONS rejected records, each as `file:line: reason`."""

    def reject(self, error: DataError, labels: Sequence[str] = ("unreadable record",)) -> None:
        """Count a broken record that `--on-error skip` leaves out: one rejected object per label in `labels`."""
        self.read.update(labels)
        self.rejected[error.reason] += len(labels)
        if len(self.rejections) < MAX_NAMED_REJECTIONS:
            self.rejections.append(str(error))

    def reject_image(self, error: DataError, objects: Sequence[SourceObject], on_error: str) -> None:
        """Count a broken image and its objects with on_error="skip"; otherwise raise the error."""
        if on_error != "skip":
            raise error
        self.reject(error, [item.label for item in objects])
        self.notes["images skipped because they were broken"] += 1

    def locate(self, error: DataError, file: Path | str, line: int | JsonPlace | None, on_error: str) -> DataError:
        """The error with its file and line. The line of a JSON record is searched only for errors that are listed."""
        if isinstance(line, tuple):
            named = on_error != "skip" or len(self.rejections) < MAX_NAMED_REJECTIONS
            line = line_in_file(file, line) if named and error.line is None else None
        return error.at(file, line)

    def balanced(self) -> bool:
        """Whether every object read is accounted for."""
        parts = (self.kept, self.ignored, self.dropped, self.rejected)
        return sum(self.read.values()) == sum(sum(part.values()) for part in parts)

    def as_dict(self) -> dict[str, Any]:
        """Sorted plain dictionaries for JSON."""
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
    """Convert source images to a dataset with ids 1..N in the same order.

    Boxes are clipped to the image (counted; the original stays in `attributes.source_box_xyxy`), boxes outside the
    image are dropped (counted), ignored labels become ignore regions.
    Raises DataError for a label that is not in the taxonomy, a box that is not finite or has x2 < x1, a segmentation
    that does not fit the image, a file name that leaves its root; with on_error="skip" such records are counted in
    `account.rejected` and left out. With "stop" also for boxes that were made for larger images.
    `finished` is called with each record when it is complete.
    """
    records: list[ImageRecord] = []
    seen: set[str] = set()
    n_labelled = 0
    rules = _LabelRules(taxonomy)
    for image in images:
        try:
            record = _image_record(image, 1 + len(records), seen)
        except DataError as error:
            account.reject_image(error, image.objects, on_error)
            continue
        n_labelled += bool(image.objects)
        for item in image.objects:
            try:
                _add_object(item, record, rules[item.label], account)
            except DataError as error:
                account.locate(error, image.label_file or image.file_name, item.line, on_error)
                if on_error != "skip":
                    raise
                account.reject(error, [item.label])
            else:
                account.read[item.label] += 1
        records.append(record)
        if finished is not None:
            finished(record)
    if on_error != "skip":
        n_boxes = sum(account.kept.values()) + sum(account.ignored.values()) + account.dropped[OUTSIDE]
        account.frame.check(n_boxes, n_labelled, images_root)
    info = {"source": source, "taxonomy": taxonomy.as_dict(), "taxonomy_hash": taxonomy.digest}
    return Dataset(taxonomy.categories, records, images_root, info)


def _image_record(image: SourceImage, number: int, seen: set[str]) -> ImageRecord:
    place = image.label_file or image.file_name
    try:
        name = safe_relative(image.file_name)
        check_size(image.width, image.height)
    except DataError as error:
        raise error.at(place) from None
    if name in seen:
        raise DataError(f"image {name!r} is duplicated", remedy="remove one of the two", file=place)
    seen.add(name)
    return ImageRecord(
        number,
        name,
        image.width,
        image.height,
        image.drive,
        image.frame_index,
        dict(image.attributes),
        extra=dict(image.extra),
    )


@dataclass(frozen=True, slots=True)
class _LabelRule:
    """What a taxonomy does with one source label."""

    name: str
    """The driving class, or `label X` for an ignored or dropped label."""
    category_id: int | None
    hides: tuple[int, ...] | None = None
    """Category ids that an ignored label hides, () for all; None when the label is not ignored."""
    min_height_px: float = 0.0
    """Objects lower than this become ignore regions."""


class _LabelRules(dict[str, _LabelRule]):
    """Source label -> its rule, computed once per label. Raises DataError for an unknown label."""

    def __init__(self, taxonomy: Taxonomy):
        self.taxonomy = taxonomy
        super().__init__()

    def __missing__(self, label: str) -> _LabelRule:
        taxonomy = self.taxonomy
        category_id, hides = taxonomy.category_id(label), taxonomy.ignored_ids(label)
        if category_id is not None:
            name = taxonomy.categories[category_id - 1]
            rule = _LabelRule(name, category_id, min_height_px=taxonomy.min_height_px)
        elif hides is not None or label in taxonomy.drop:
            rule = _LabelRule(f"label {label}", None, hides)
        else:
            raise DataError(f"label {label!r} is unknown", remedy=taxonomy.suggestion(label))
        self[label] = rule
        return rule


def _add_object(item: SourceObject, record: ImageRecord, rule: _LabelRule, account: Account) -> None:
    """Add one object to the record as an annotation or an ignore region, or count it as dropped."""
    hides, category_id = rule.hides, rule.category_id
    if category_id is None and hides is None:
        account.dropped[rule.name] += 1
        return
    x1, y1, x2, y2 = item.box_xyxy
    was_clipped = not (0 <= x1 <= x2 <= record.width and 0 <= y1 <= y2 <= record.height)  # true for NaN too
    if was_clipped:
        check_corners(item.box_xyxy)
        account.frame.note_outside(item.box_xyxy, record)
        x1, y1, x2, y2 = clip_xyxy(item.box_xyxy, record.width, record.height)
    area = (x2 - x1) * (y2 - y1) if item.segmentation is None else _mask_area(item, record)
    if item.area is not None:
        area = item.area
        if not 0 <= area < math.inf:
            raise DataError(f"area is {area!r}", remedy="fix or remove the record")
    if x2 <= x1 or y2 <= y1:
        account.dropped[OUTSIDE if was_clipped else "zero width or height"] += 1
        return
    account.clipped += was_clipped
    account.frame.note_edges(x2, y2, record)
    w, h = x2 - x1, y2 - y1
    bbox_xywh = (x1, y1, w, h)
    attributes = {"source_label": item.label, **item.attributes}  # a copy: objects of a track may share theirs
    if was_clipped or x1 + w != x2 or y1 + h != y2:  # rounding would lose the last bit
        attributes["source_box_xyxy"] = list(item.box_xyxy)
    too_low = h < rule.min_height_px
    if category_id is None or item.ignore or too_low:
        ids = hides if category_id is None else (category_id,)
        record.ignore_regions.append(
            IgnoreRegion(bbox_xywh, area, ids or (), item.segmentation, attributes, item.extra)
        )
        condition = f"lower than {rule.min_height_px:g} px" if too_low else "marked ignore by the source"
        reason = rule.name if category_id is None else f"{item.label} {condition}"
        account.ignored[reason] += 1
        return
    record.annotations.append(Annotation(category_id, bbox_xywh, area, item.segmentation, attributes, item.extra))
    account.kept[rule.name] += 1


def _mask_area(item: SourceObject, record: ImageRecord) -> float:
    """px^2 of the object's mask, or the source's own area. Raises DataError when the mask does not fit the image."""
    from drivetl.coco import masks

    assert item.segmentation is not None
    if item.area is None:
        return masks.area(item.segmentation, record.height, record.width)
    problem = masks.problem(item.segmentation, record.height, record.width)
    if problem is not None:
        raise DataError(problem, remedy="fix or remove the segmentation")
    return item.area
