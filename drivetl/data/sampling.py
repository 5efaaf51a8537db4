"""Which images make up which step: a pure function of (seed, epoch), so that a resumed run sees the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from drivetl.coco.drives import Drives
from drivetl.coco.records import ImageRecord
from drivetl.data.dataset import Item


class EpochBatches:
    """Batches of (epoch, index) for one process; every process of a group gets the same number of batches.

    The order of an epoch is a permutation seeded by (seed, epoch). An incomplete last batch is filled from the
    beginning of the same permutation, so that no image is left out and every step has the same size.
    """

    def __init__(self, n_images: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1):
        self.n_images, self.batch_size, self.seed, self.rank, self.world = (n_images, batch_size, seed, rank, world)
        self.epoch = 0
        self.first = 0
        """Batches of the epoch to skip: those a resumed run has already trained on."""

    def __len__(self) -> int:
        return -(-self.n_images // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[Item]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_images)
        order = np.resize(order, len(self) * self.batch_size * self.world)
        for step in range(self.first, len(self)):
            first = (step * self.world + self.rank) * self.batch_size
            yield [(self.epoch, int(index)) for index in order[first : first + self.batch_size]]


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
