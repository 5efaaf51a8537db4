"""Evidence that boxes were made for images of another size, for labels that do not state their size.

Honest boxes may reach beyond an image: objects at its edge are labelled as a whole, a size differs by a few pixels.
But the centre of a visible object is in its image. With images scaled by 0.8 or less, the centres of a tenth of the
boxes and more are right of or below them, and none left or above.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivetl.coco.records import Box, ImageRecord
from drivetl.errors import DataError

BEYOND_SHARE = 0.1
"""Share of the boxes with their centre right of or below their image above which labels are refused."""
ONE_SIDED = 4
"""At least this many times as many as left of or above: boxes that are wrong in another way lie on all sides."""
FEWEST = 2
"""Boxes, and images with one (where there are as many): a single one is a mistake of its own."""
FRACTION_PX, SMALL_PX = 1.5, 20
"""Boxes that end before 1.5 px, in images with sides of more than 20 px, are in fractions of the image."""
SMALL_REACH, ENOUGH_BOXES = 0.7, 50
"""Part of the images, in both directions, in which at least this many boxes all lie when the images were enlarged."""


@dataclass(slots=True)
class Frame:
    """Where boxes lie relative to their images."""

    n_boxes: int = 0
    """Boxes at least partly inside their image."""
    n_beyond: int = 0
    """Boxes whose centre is right of or below their image."""
    n_before: int = 0
    """Boxes whose centre is left of or above their image."""
    n_images: int = 0
    """Images with such a box."""
    _last: int = 0
    """Id of the last of them; the boxes of an image follow each other."""
    furthest: tuple[float, str] = (0.0, "")
    """(how far, in image sizes, the furthest of n_beyond reaches; its description)."""
    right: float = 0.0
    """The largest right edge of a box, as part of the width of its image; clipped to it."""
    bottom: float = 0.0
    all_fractions: bool = True
    """Whether no box reaches further than a fraction of an image can."""

    def note_outside(self, box_xyxy: Box, image: ImageRecord) -> None:
        """Count a box that is not wholly inside its image."""
        x1, y1, x2, y2 = box_xyxy
        self.n_before += x1 + x2 < 0 or y1 + y2 < 0
        if x1 + x2 > 2 * image.width or y1 + y2 > 2 * image.height:
            self.n_beyond += 1
            self.n_images += image.id != self._last
            self._last = image.id
            reach = max(x2 / image.width, y2 / image.height)
            what = f"one in {image.file_name!r}, {image.width} x {image.height}, reaches x {x2:g}, y {y2:g}"
            self.furthest = max(self.furthest, (reach, what))

    def note_edges(self, x2: float, y2: float, image: ImageRecord) -> None:
        """Count a box that is at least partly inside its image; x2, y2: its right and lower edge there."""
        self.n_boxes += 1
        if x2 > FRACTION_PX or y2 > FRACTION_PX or min(image.width, image.height) <= SMALL_PX:
            self.all_fractions = False
        right, bottom = x2 / image.width, y2 / image.height
        if right > self.right:
            self.right = right
        if bottom > self.bottom:
            self.bottom = bottom

    def check(self, n_boxes: int, n_labelled: int, images_root: Path) -> None:
        """Raises DataError when the labels were made for larger images, or their coordinates are fractions.

        n_boxes: all boxes; n_labelled: number of images that have a box.
        """
        if fractions := self._fractions():
            raise DataError(
                fractions, remedy="multiply them by width and height, or check the format", file=images_root
            )
        is_systematic = self.n_beyond >= FEWEST and self.n_beyond > BEYOND_SHARE * n_boxes
        is_systematic &= self.n_images >= min(FEWEST, n_labelled)
        if is_systematic and self.n_beyond >= ONE_SIDED * self.n_before:
            raise DataError(
                f"{self.n_beyond} of {n_boxes} boxes have their centre right of or below their image "
                f"({self.furthest[1]}): they were made for larger images, or are not in the expected order",
                remedy="restore the labelled images or scale the boxes; check the order of the four numbers",
                file=images_root,
            )

    def _fractions(self) -> str:
        if not self.n_boxes or not self.all_fractions:
            return ""
        return f"all boxes lie between 0 and {FRACTION_PX} px: their coordinates are fractions of the image"

    def doubt(self) -> str:
        """A sentence when all boxes lie in the upper left part of their images; empty otherwise."""
        if self.n_boxes < ENOUGH_BOXES or max(self.right, self.bottom) >= SMALL_REACH:
            return self._fractions()
        return self._fractions() or (
            f"all {self.n_boxes} boxes lie in the upper left {100 * self.right:.0f} % x {100 * self.bottom:.0f} % of "
            "their images: check that the labels were made for images of this size"
        )
