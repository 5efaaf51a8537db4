"""Which images make up which step: a pure function of (seed, epoch), so that a resumed run sees the same batches.

The images of a run are one sequence, cut into batches: position 0, 1, 2, ... over all epochs and processes. Which
dataset a position belongs to follows from the position alone (`stream_of`), so the shares of the datasets are exact and
two processes see the batches that one would see with twice the batch size.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import numpy as np

from drivetl.coco.drives import Drives
from drivetl.coco.records import ImageRecord
from drivetl.data.dataset import DetectionDataset, Item, TorchSample, TorchSamples
from drivetl.data.repeats import Factors, copies_of, images_per_epoch


@dataclass(frozen=True)
class Extra:
    """A dataset whose images are added to every batch next to the images that epochs are counted in."""

    n_images: int
    share: float
    """Share of all images of the run, 0..1; those of several extras sum to less than 1."""


Rates = tuple[Fraction, ...]
"""For each extra its share of the positions that later extras leave over."""


def exact_share(share: float) -> Fraction:
    """The nearest fraction with a denominator of at most 1,000: 0.3 is 3 / 10, 0.3333 is 1 / 3."""
    return Fraction(str(share)).limit_denominator(1000)


def rates_of(shares: Sequence[float]) -> Rates:
    """The rates of extras with these shares of all positions, as `exact_share` reads them."""
    exact = [exact_share(share) for share in shares]
    assert sum(exact) < 1 and all(share >= 0 for share in exact), shares
    return tuple(share / (1 - sum(exact[number + 1 :])) for number, share in enumerate(exact))


def stream_of(position: int, rates: Rates) -> tuple[int, int]:
    """(stream, number of earlier positions of that stream) of a position; stream 0 is what the extras leave over.

    Error diffusion: of the first n positions an extra has n times its share, rounded down (with several extras, to
    within one for each).
    """
    for stream in range(len(rates), 0, -1):
        before, after = (math.floor(count * rates[stream - 1]) for count in (position, position + 1))
        if after > before:
            return stream, before
        position -= before
    return 0, position


def epoch_steps(n_images: int, images_per_step: int, shares: Sequence[float] = ()) -> int:
    """Steps that show each of `n_images` at least once when extras with these shares take a part of every step."""

    def least(steps: int) -> int:
        """Positions of stream 0 in that many steps, wherever in the run they begin."""
        left = steps * images_per_step
        for rate in reversed(rates):
            left = math.floor(left * (1 - rate))
        return left

    rates = rates_of(shares)
    steps = math.ceil(n_images / (images_per_step * (1 - sum(map(exact_share, shares)))))
    while least(steps) < n_images:
        steps += 1
    return steps


class EpochBatches:
    """Batches of items for one process; every process of a group gets the same number of batches.

    The order of an epoch is a permutation seeded by (seed, epoch). An incomplete last batch is filled from the
    beginning of the same permutation, so that no image is left out and every step has the same size. Extras follow in
    the index: the first one has the indices from `n_images` on. Their images are shown pass after pass, whatever the
    epoch, each pass in a new order; the number of the pass is the `epoch` of their items.

    factors: how often an image is in an epoch on average (`repeat_factors`); None: every image once. An image of factor
    1.4 is in every epoch once or twice, and a second copy is augmented differently.
    """

    def __init__(
        self,
        n_images: int,
        batch_size: int,
        seed: int,
        *,
        factors: Factors | None = None,
        extras: Sequence[Extra] = (),
        rank: int = 0,
        world: int = 1,
    ):
        self.factors = factors
        self.n_images, self.batch_size, self.seed, self.rank, self.world = (n_images, batch_size, seed, rank, world)
        self.extras = tuple(extras)
        shares = [extra.share for extra in extras]
        self._rates, self._steps = rates_of(shares), epoch_steps(self.per_epoch, batch_size * world, shares)
        self._first_index = tuple(accumulate((extra.n_images for extra in self.extras), initial=n_images))
        self.epoch = 0
        self.first = 0
        """Batches of the epoch to skip: those a resumed run has already trained on."""

    @property
    def per_epoch(self) -> int:
        """Images of an epoch, copies counted and extras not."""
        return self.n_images if self.factors is None else images_per_epoch(self.factors)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[list[Item]]:
        order = self._items()
        start = self.epoch * len(self) * self.batch_size * self.world
        shown = self._shown(start)
        for step in range(self.first, len(self)):
            first = start + (step * self.world + self.rank) * self.batch_size
            yield [self._item(position, order, shown) for position in range(first, first + self.batch_size)]

    def _items(self) -> list[Item]:
        """The items of the epoch in order, without extras."""
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.factors is None:
            return [(self.epoch, int(index)) for index in rng.permutation(self.n_images)]
        copies = copies_of(self.factors, rng)
        items = [(self.epoch, index, copy) for index, count in enumerate(copies) for copy in range(count)]
        return [items[place] if items[place][2] else items[place][:2] for place in rng.permutation(len(items))]

    def _shown(self, position: int) -> int:
        """Number of positions of stream 0 before this one."""
        for rate in reversed(self._rates):
            position -= math.floor(position * rate)
        return position

    def _item(self, position: int, order: Sequence[Item], shown: int) -> Item:
        stream, number = stream_of(position, self._rates)
        if stream == 0:
            return order[(number - shown) % len(order)]
        n_images = self.extras[stream - 1].n_images
        turn, place = divmod(number, n_images)
        return turn, self._first_index[stream - 1] + int(_order_of_pass(self.seed, turn, stream, n_images)[place])


class Parts:
    """Every batch as `count` batches of equal size, one after the other: what is accumulated into one step."""

    def __init__(self, batches: EpochBatches, count: int):
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return len(self.batches) * self.count

    def __iter__(self) -> Iterator[list[Item]]:
        for batch in self.batches:
            size = len(batch) // self.count
            yield from (batch[first : first + size] for first in range(0, len(batch), size))


@lru_cache(8)
def _order_of_pass(seed: int, turn: int, stream: int, n_images: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng([seed, turn, stream]).permutation(n_images)


class Streams(TorchSamples):
    """Several datasets as one, by the indices of `EpochBatches`."""

    def __init__(self, parts: Sequence[DetectionDataset]):
        self.parts = tuple(parts)
        self._first_index = tuple(accumulate(map(len, parts), initial=0))

    def __len__(self) -> int:
        return self._first_index[-1]

    def __getitem__(self, item: Item) -> TorchSample:
        epoch, index, *copy = item
        stream = bisect.bisect_right(self._first_index, index) - 1
        return self.parts[stream][epoch, index - self._first_index[stream], *copy]


def spread_over_drives(images: Sequence[ImageRecord], count: int, seed: int) -> list[ImageRecord]:
    """`count` images, taken round robin from the drives in random order. Nested: a smaller count gives a subset.

    All images of unknown drive are treated as one drive: which of them are neighbours is unknown.
    """
    rng = np.random.default_rng(seed)
    drives = Drives.of(images).places().values()
    queues = [[images[indices[number]] for number in rng.permutation(len(indices))] for indices in drives]
    order = rng.permutation(len(queues))
    picked: list[ImageRecord] = []
    for rank in range(max(map(len, queues), default=0)):
        picked += [queues[index][rank] for index in order if rank < len(queues[index])]
    return sorted(picked[:count], key=lambda image: image.id)
