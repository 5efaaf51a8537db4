"""What a detector found in one image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.coco.detections import Detections
from drivetl.coco.masks import decode
from drivetl.coco.records import ImageRecord
from drivetl.draw.objects import jpeg
from drivetl.errors import ConfigError
from drivetl.files.images import Rgb, read_rgb
from drivetl.prediction.drawing import annotated
from drivetl.prediction.images import with_min_score
from drivetl.prediction.results import Found, coco_results

DRAWN_SCORE = 0.3
"""Lowest score that `draw` shows by default: a detector also gives many boxes that are hardly ever right."""


@dataclass(eq=False, repr=False)
class Prediction:
    """N objects found in one image, best first; N may be 0."""

    detections: Detections
    """Boxes, scores, labels and masks (RLE) as the detector gives them."""
    categories: tuple[str, ...]
    """The detector's class names: label 1 is categories[0]."""
    source: Path | Rgb
    """The image: its file, or its (H, W, 3) pixels."""
    size_hw: tuple[int, int]
    """Height and width of the image in px."""
    image_id: int | None = None
    """Of the dataset that the image is from."""

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.names).most_common())
        return f"Prediction({len(self)} objects{': ' if counts else ''}{counts})"

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy px of the image."""
        return self.detections.boxes

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(N,) 0..1."""
        return self.detections.scores

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(N,) category ids 1..K."""
        return self.detections.labels

    @property
    def names(self) -> list[str]:
        """(N,) class names."""
        return [self.categories[int(label) - 1] for label in self.labels]

    @property
    def masks(self) -> npt.NDArray[np.bool_] | None:
        """(N, H, W) of a Mask R-CNN, decoded on each access; None where the detector gives boxes only."""
        if self.detections.masks is None:
            return None
        rows = [decode(rle, *self.size_hw).astype(bool) for rle in self.detections.masks]
        return np.stack(rows) if rows else np.zeros((0, *self.size_hw), bool)

    @property
    def image(self) -> Rgb:
        """(H, W, 3) uint8 RGB; a file is read again."""
        return read_rgb(self.source) if isinstance(self.source, Path) else self.source

    def above(self, score: float) -> Prediction:
        """The objects that score at least `score`."""
        return replace(self, detections=with_min_score(self.detections, score))

    def draw(self, score: float = DRAWN_SCORE) -> Rgb:
        """A copy of the image with the objects that score at least `score`, (H, W, 3) uint8 RGB."""
        height, width = self.size_hw
        found = Found(ImageRecord(self.image_id or 0, "", width, height), self.above(score).detections)
        return annotated(self.image, found, self.categories)

    def to_coco(self, image_id: int | None = None) -> list[dict[str, Any]]:
        """Rows of a COCO results list: image_id, category_id, bbox (xywh px), score, and segmentation (RLE) of a mask.

        image_id: default: of the dataset the image is from. Raises ConfigError where neither is known.
        """
        number = self.image_id if image_id is None else image_id
        if number is None:
            raise ConfigError(
                "the image has no id", remedy="pass one: to_coco(image_id), or predict a dataset: detector(dataset)"
            )
        return coco_results(number, self.detections)

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with class names; class_id is the label, 1..K.

        Raises ConfigError where that package is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ConfigError(
                "to_supervision needs the package supervision", remedy="pip install 'drivetl[supervision]'"
            ) from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            mask=self.masks,
            data={"class_name": np.array(self.names, dtype=np.str_)},
        )

    def _repr_jpeg_(self) -> bytes:
        """What a notebook shows: the image with its objects."""
        return jpeg(self.draw(), quality=90)
