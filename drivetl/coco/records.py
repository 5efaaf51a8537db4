"""Records of a dataset: images with their annotations and ignore regions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in px, or (x, y, w, h) when the name ends in xywh."""

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
    """px^2; of the mask if there is one, else w * h."""
    segmentation: Segmentation | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes of the source: source_label, truncated, occluded, track_id, ..."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Keys of another tool's json that drivetl does not use; written unchanged."""


@dataclass(slots=True)
class IgnoreRegion:
    """A region with unknown content: it counts neither as object nor as background.

    In the file it is one `iscrowd=1` annotation per category, all sharing `attributes.ignore_region`,
    because COCO's crowd rule works per category.
    """

    bbox_xywh: Box
    area: float
    category_ids: tuple[int, ...] = ()
    """The categories that it hides; empty means all."""
    segmentation: Segmentation | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ImageRecord:
    """One image. An image without annotations was labelled and shows no object; it is a normal sample."""

    id: int
    file_name: str
    """Relative to the images root, with forward slashes."""
    width: int
    height: int
    drive: str = ""
    """Name of the drive it is from (`sequence` in the json); empty when unknown."""
    frame_index: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    """weather, timeofday, scene, ...: as the source gives them."""
    labelled: tuple[int, ...] | None = None
    """Category ids that are labelled in this image; None means all. Others are unknown here, not absent."""
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
    """The content of `info.drivetl`: source, taxonomy name and hash, split, ..."""
    file: Path | None = field(default=None, compare=False)
    """The json that it was read from, for errors."""

    def subset(self, images: list[ImageRecord]) -> Self:
        """The dataset with these images only; ids are unchanged."""
        return replace(self, images=images, info=dict(self.info))


@dataclass(slots=True)
class SourceObject:
    """One object as a labelling tool wrote it, before the taxonomy assigns a class."""

    label: str
    box_xyxy: Box
    segmentation: Segmentation | None = None
    area: float | None = None
    """px^2 as the source gives it; None: computed from segmentation or box."""
    ignore: bool = False
    """True when the source marks the object as not counted (a group, `difficult`, ...)."""
    attributes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    line: int | JsonPlace | None = None
    """Its line, or its place in a JSON file."""


@dataclass(slots=True)
class SourceImage:
    """One image as a labelling tool wrote it."""

    file_name: str
    width: int
    height: int
    objects: list[SourceObject] = field(default_factory=list)
    drive: str = ""
    frame_index: int | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    label_file: Path | str | None = None
    """The file of its labels, for errors."""
    extra: dict[str, Any] = field(default_factory=dict)
