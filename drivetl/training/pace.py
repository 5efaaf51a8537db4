"""Who waits in a training: the network for the loader, or the loader for the network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivetl.data.sharing import Batch

WAITS_FROM = 0.05
"""Share of the time spent waiting from which the loader is the bottleneck."""


@dataclass
class Pace:
    """Images and seconds of the part of an epoch that this process has trained."""

    images: int = 0
    waited_s: float = 0.0
    """Time in which the training waited for the next batch."""
    total_s: float = 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, counted and timed."""
        began = time.perf_counter()
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited_s += time.perf_counter() - asked
            if batch is None:
                break
            self.images += len(batch[0])
            yield batch
            self.total_s = time.perf_counter() - began
        self.total_s = time.perf_counter() - began

    def row(self) -> dict[str, float]:
        """For metrics.jsonl: images per second, and the share of the time that went by waiting for the loader."""
        if not self.images:
            return {}
        return {
            "images_per_s": round(self.images / self.total_s, 3),
            "loader_share": round(self.waited_s / self.total_s, 4),
        }

    def in_words(self, workers: int) -> str:
        """The loader's images/s next to the network's, and what to do where the loader is the slower one.

        Loader processes work while the network does: what is known of them is how long the network waited.
        """
        network = self.images / max(self.total_s - self.waited_s, 1e-9)
        share = self.waited_s / max(self.total_s, 1e-9)
        loader = self.images / max(self.waited_s if not workers else self.total_s, 1e-9)
        fast = workers and share < WAITS_FROM
        line = f"loader {'at least ' if fast else ''}{loader:.3g} images/s, network {network:.3g}: "
        if share < WAITS_FROM:
            return line + f"the network waits {share:.0%} of the time"
        more = "more --data.workers" if workers else "--data.workers above 0"
        return line + f"the network waits {share:.0%} of the time - try {more}, or a larger --data.cache_gb"
