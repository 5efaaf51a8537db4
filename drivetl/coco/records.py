"""The nouns: a dataset is images, an image has annotations and ignore regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in px, or (x, y, w, h) where the name says xywh."""

Segmentation = list[list[float]] | dict[str, Any]
"""Polygons [[x1, y1, x2, y2, ...], ...] in px, or a COCO RLE {"size": [h, w], "counts": str}."""

JsonPlace = tuple[str | int, ...]
"""The keys and positions that lead to a record in a JSON file: ("frames", 3, "labels", 0)."""


@dataclass(slots=True)
class Annotation:
    """One labelled object."""

    category_id: int
    """1..K: the model's label index."""
    bbox_xywh: Box
    area: float
    """px^2; of the mask where there is one, else w * h."""
    segmentation: Segmentation | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """What the source said: source_label, truncated, occluded, track_id, ..."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of a foreign json that drivetl does not know; written back as they came."""


@dataclass(slots=True)
class IgnoreRegion:
    """A region in which nobody knows what is there: neither object nor background.

    In the file it is one `iscrowd=1` annotation per category, all sharing `attributes.ignore_region`,
    because COCO's crowd rule works per category.
    """

    bbox_xywh: Box
    area: float
    category_ids: tuple[int, ...] = ()
    """The categories it holds for; empty means all."""
    segmentation: Segmentation | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ImageRecord:
    """One image. No annotations means: looked at, nothing there; a normal sample everywhere."""

    id: int
    file_name: str
    """Relative to the images root, with forward slashes."""
    width: int
    height: int
    sequence: str = ""
    """Drive or clip id; empty when unknown."""
    frame_index: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """weather, timeofday, scene, ...: whatever the source says."""
    labelled: tuple[int, ...] | None = None
    """Category ids that this image's source labels; None means all. Others are unknown here, not absent."""
    annotations: list[Annotation] = field(default_factory=list)
    ignore_regions: list[IgnoreRegion] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Dataset:
    """A COCO dataset in memory."""

    categories: tuple[str, ...]
    """Names in id order: categories[0] has id 1."""
    images: list[ImageRecord]
    images_root: Path
    info: dict[str, Any] = field(default_factory=dict)
    """What stands under `info.drivetl`: source, taxonomy name and hash, split, ..."""

    def subset(self, images: list[ImageRecord]) -> Dataset:
        """The same dataset with these images only; ids stay."""
        return Dataset(self.categories, images, self.images_root, dict(self.info))


@dataclass(slots=True)
class SourceObject:
    """One object as a labelling tool wrote it, before a taxonomy gives it a class."""

    label: str
    box_xyxy: Box
    segmentation: Segmentation | None = None
    area: float | None = None
    """px^2 of the mask where the source has one; None: computed from segmentation or box."""
    ignore: bool = False
    """The source itself says: do not count this one (a group, `difficult`, ...)."""
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    line: int | JsonPlace | None = None
    """Where it stands in its label file."""


@dataclass(slots=True)
class SourceImage:
    """One image as a labelling tool knows it."""

    file_name: str
    width: int
    height: int
    objects: list[SourceObject] = field(default_factory=list)
    sequence: str = ""
    frame_index: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    label_file: Path | str | None = None
    """Where its labels stood; named in errors."""
    extra: dict[str, Any] = field(default_factory=dict)
