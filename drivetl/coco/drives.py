"""Which drive each image is from, and what follows from that for splits, samples and intervals.

Frames of one drive resemble each other, so a split keeps a drive on one side and an interval resamples drives, not
frames. An image whose drive is unknown ("" as its name) stays unknown: it is never counted as a drive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drivetl.coco.records import ImageRecord

UNKNOWN_DRIVES = "drives unknown: intervals are too narrow"
"""What every output says where images do not name their drive: frames are then treated as independent."""


@dataclass(frozen=True, slots=True)
class Drives:
    """The drives of I images, in the images' order."""

    names: tuple[str, ...]
    """(I,) drive of each image; "" where unknown."""

    @staticmethod
    def of(images: Iterable[ImageRecord]) -> Drives:
        """The drives that image records name."""
        return Drives(tuple(image.sequence for image in images))

    def take(self, places: Iterable[int]) -> Drives:
        """The drives of some of the images, by their indices."""
        return Drives(tuple(self.names[int(place)] for place in places))

    @property
    def known(self) -> tuple[str, ...]:
        """The distinct names, sorted."""
        return tuple(sorted(set(self.names) - {""}))

    @property
    def n_drives(self) -> int | None:
        """How many drives are known; None where there are images and none of them names its drive."""
        return len(self.known) if self.known or not self.names else None

    @property
    def n_unknown(self) -> int:
        """How many images do not name their drive."""
        return self.names.count("")

    def indices(self) -> tuple[int, ...]:
        """(I,) index of each image's drive in `known`; -1 where unknown."""
        index = {name: number for number, name in enumerate(self.known)}
        return tuple(index.get(name, -1) for name in self.names)

    def places(self) -> dict[str, list[int]]:
        """Drive -> indices of its images, drives sorted by name; those of unknown drive come first, under ""."""
        found: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            found.setdefault(name, []).append(place)
        return dict(sorted(found.items()))

    def units(self, subsets: Iterable[Sequence[bool]] = ()) -> tuple[int, ...]:
        """(I,) number 0..U-1 of the unit that each image is resampled with: its drive, or itself where unknown.

        A drive that is alone, in all images or in one of the subsets ((I,) masks, such as slices), is cut into
        blocks of consecutive images: resampled as a whole it would never vary, and its numbers would look certain.
        """
        lone = {self._lone_drive(range(len(self.names)))}
        lone |= {self._lone_drive([place for place, inside in enumerate(mask) if inside]) for mask in subsets}
        places = self.places()
        unknown = places.pop("", [])
        labelled: list[tuple[str, Sequence[int]]] = []
        for name, whole in places.items():
            blocks = even_blocks(whole)
            parts = [(f"{name} / {number}", block) for number, block in enumerate(blocks, 1)]
            labelled += parts if name in lone else [(name, whole)]
        labelled.sort(key=lambda row: row[0])  # by label: it fixes which unit a seed draws
        units = [*(block for _, block in labelled), *([place] for place in unknown)]
        unit_of = {place: number for number, unit in enumerate(units) for place in unit}
        return tuple(unit_of[place] for place in range(len(self.names)))

    def _lone_drive(self, places: Iterable[int]) -> str | None:
        """The one known drive that all these images are from, or None."""
        names = {self.names[place] for place in places}
        return next(iter(names)) if len(names) == 1 and names != {""} else None

    def in_words(self) -> str:
        """`3 drives`, `unknown drives`, `3 drives (40 images of unknown drive)`."""
        return drives_in_words(self.n_drives, self.n_unknown)

    def units_in_words(self) -> str:
        """What intervals resample: as `independent_in_words`, or `20 blocks of one drive`."""
        n_units = len(set(self.units()))
        return self.independent_in_words() if n_units == self.n_independent else f"{n_units} blocks of one drive"

    @property
    def n_independent(self) -> int:
        """How many drives and images of unknown drive there are: what is treated as independent."""
        return len(self.known) + self.n_unknown

    def independent_in_words(self) -> str:
        """`12 drives`, `100 images`, `3 drives and 40 images of unknown drive`."""
        alone = _counted(self.n_unknown, "image")
        if self.n_drives is None:
            return alone
        return _counted(self.n_drives, "drive") + (f" and {alone} of unknown drive" if self.n_unknown else "")

    def unknown_in_words(self) -> str | None:
        """UNKNOWN_DRIVES, with the number of images where only some are meant; None where all drives are known."""
        if not self.n_unknown:
            return None
        if not self.known:
            return UNKNOWN_DRIVES
        verb = "has" if self.n_unknown == 1 else "have"
        return (
            f"{UNKNOWN_DRIVES} ({self.n_unknown} of {_counted(len(self.names), 'image')} {verb} no drive; the others "
            f"are of {_counted(len(self.known), 'drive')})"
        )


def drives_in_words(n_drives: int | None, n_unknown: int = 0) -> str:
    """A number of drives for a sentence, as in "100 images of ...": `3 drives`, or `unknown drives` for None."""
    if n_drives is None:
        return "unknown drives"
    more = f" ({_counted(n_unknown, 'image')} of unknown drive)" if n_unknown else ""
    return _counted(n_drives, "drive") + more


def shared_drives(left: Iterable[ImageRecord], right: Iterable[ImageRecord]) -> list[str]:
    """The drives that are known to have images on both sides, sorted."""
    return sorted({*Drives.of(left).known} & {*Drives.of(right).known})


def even_blocks(places: Sequence[int]) -> list[Sequence[int]]:
    """A lone drive's images in blocks of consecutive ones: of five images or more, at most 20, at least two."""
    count = min(max(len(places), 1), max(2, min(20, len(places) // 5)))
    size, longer = divmod(len(places), count)  # the first `longer` blocks have one image more
    starts = [number * size + min(number, longer) for number in range(count + 1)]
    return [places[start:end] for start, end in pairwise(starts)]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
