"""The drive of each image, for splits, samples and intervals.

Frames of one drive resemble each other, so a split keeps a drive on one side and an interval resamples drives, not
frames. An image whose drive is unknown ("" as its name) stays unknown and is not counted as a drive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivetl.coco.records import ImageRecord
from drivetl.console.text import counted

UNKNOWN_DRIVES = "drives unknown: intervals are too narrow"
"""The warning of every output when drives are unknown: frames are then treated as independent."""


@dataclass(frozen=True, slots=True)
class Drives:
    """The drives of I images, in the images' order."""

    names: tuple[str, ...]
    """(I,) drive of each image; "" when unknown."""

    @staticmethod
    def of(images: Iterable[ImageRecord]) -> Drives:
        """The drives of image records."""
        return Drives(tuple(image.drive for image in images))

    def take(self, indices: Iterable[int]) -> Drives:
        """The drives of some of the images, by their indices."""
        return Drives(tuple(self.names[int(index)] for index in indices))

    @property
    def known(self) -> tuple[str, ...]:
        """The distinct names, sorted."""
        return tuple(sorted(set(self.names) - {""}))

    @property
    def n_drives(self) -> int | None:
        """Number of known drives; None when there are images and no drive is known."""
        return len(self.known) if self.known or not self.names else None

    @property
    def n_unknown(self) -> int:
        """Number of images of unknown drive."""
        return self.names.count("")

    def indices(self) -> tuple[int, ...]:
        """(I,) index of each image's drive in `known`; -1 when unknown."""
        index = {name: number for number, name in enumerate(self.known)}
        return tuple(index.get(name, -1) for name in self.names)

    def places(self) -> dict[str, list[int]]:
        """Drive -> indices of its images, drives sorted by name; those of unknown drive come first, under ""."""
        by_drive: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            by_drive.setdefault(name, []).append(index)
        return dict(sorted(by_drive.items()))

    def units(self, subsets: Iterable[Sequence[bool]] = ()) -> tuple[int, ...]:
        """(I,) number 0..U-1 of the unit that each image is resampled with: its drive, or itself when unknown.

        When all images, or all of a subset ((I,) masks, such as slices), are of one drive, it is cut into blocks of
        consecutive images: resampled as a whole it would not vary, and its intervals would have no width.
        """
        lone = {self._lone_drive(range(len(self.names)))}
        lone |= {self._lone_drive([index for index, inside in enumerate(mask) if inside]) for mask in subsets}
        places = self.places()
        unknown = places.pop("", [])
        labelled: list[tuple[str, Sequence[int]]] = []
        for name, whole in places.items():
            blocks = even_blocks(whole)
            parts = [(f"{name} / {number}", block) for number, block in enumerate(blocks, 1)]
            labelled += parts if name in lone else [(name, whole)]
        labelled.sort(key=lambda row: row[0])  # by label, so that a seed draws the same units
        units = [*(block for _, block in labelled), *([index] for index in unknown)]
        unit_of = {index: number for number, unit in enumerate(units) for index in unit}
        return tuple(unit_of[index] for index in range(len(self.names)))

    def _lone_drive(self, indices: Iterable[int]) -> str | None:
        """The known drive of all these images, when there is only one; else None."""
        names = {self.names[index] for index in indices}
        return next(iter(names)) if len(names) == 1 and names != {""} else None

    def in_words(self) -> str:
        """`3 drives`, `unknown drives`, `3 drives (40 images of unknown drive)`."""
        return drives_in_words(self.n_drives, self.n_unknown)

    def units_in_words(self) -> str:
        """What intervals resample: `independent_in_words`, or `20 blocks of one drive`."""
        n_units = len(set(self.units()))
        return self.independent_in_words() if n_units == self.n_independent else f"{n_units} blocks of one drive"

    @property
    def n_independent(self) -> int:
        """Number of independent units: known drives and images of unknown drive."""
        return len(self.known) + self.n_unknown

    def independent_in_words(self) -> str:
        """`12 drives`, `100 images`, `3 drives and 40 images of unknown drive`."""
        alone = counted(self.n_unknown, "image")
        if self.n_drives is None:
            return alone
        return counted(self.n_drives, "drive") + (f" and {alone} of unknown drive" if self.n_unknown else "")

    def unknown_in_words(self) -> str | None:
        """UNKNOWN_DRIVES, with the number of images when some drives are known; None when all are known."""
        if not self.n_unknown:
            return None
        if not self.known:
            return UNKNOWN_DRIVES
        verb = "has" if self.n_unknown == 1 else "have"
        return (
            f"{UNKNOWN_DRIVES} ({self.n_unknown} of {counted(len(self.names), 'image')} {verb} no drive; the others "
            f"are of {counted(len(self.known), 'drive')})"
        )


def drives_in_words(n_drives: int | None, n_unknown: int = 0) -> str:
    """A number of drives for a sentence, as in "100 images of ...": `3 drives`, or `unknown drives` for None."""
    if n_drives is None:
        return "unknown drives"
    more = f" ({counted(n_unknown, 'image')} of unknown drive)" if n_unknown else ""
    return counted(n_drives, "drive") + more


def shared_drives(left: Iterable[ImageRecord], right: Iterable[ImageRecord]) -> list[str]:
    """The drives that are known to have images on both sides, sorted."""
    return sorted({*Drives.of(left).known} & {*Drives.of(right).known})


def even_blocks(indices: Sequence[int]) -> list[Sequence[int]]:
    """The images of one drive in consecutive blocks: at least 2 and at most 20, of about five images or more."""
    count = min(max(len(indices), 1), max(2, min(20, len(indices) // 5)))
    size, longer = divmod(len(indices), count)  # the first `longer` blocks have one more image
    starts = [number * size + min(number, longer) for number in range(count + 1)]
    return [indices[start:end] for start, end in pairwise(starts)]
