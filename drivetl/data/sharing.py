"""Batches from loader processes: through shared memory, or through a pipe where /dev/shm has no room for them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, from_numpy

from drivetl.coco.records import ImageRecord

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]
"""(images, targets): a list, because images may differ in size until the network's resize."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its free space is read
PREFETCHED_BATCHES = 4
"""Batches that each loader process prepares ahead."""


class PipedBatch:
    """A batch that is pickled by value and arrives as an ordinary batch."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def __reduce__(self) -> tuple[Any, ...]:
        images, targets = self.batch
        plain = [{key: value.numpy() for key, value in target.items()} for target in targets]
        return _from_arrays, ([image.numpy() for image in images], plain)


def _from_arrays(images: list[Any], targets: list[dict[str, Any]]) -> Batch:
    tensors = [{key: from_numpy(value) for key, value in target.items()} for target in targets]
    return [from_numpy(image) for image in images], tensors


def share(batch: Batch) -> Batch | PipedBatch:
    """Move a batch to shared memory; when that is full, the batch to send through the pipe instead.

    torch would share it later, in a thread whose error is lost together with the batch, and the loader would wait for
    ever.
    """
    images, targets = batch
    try:
        for tensor in (*images, *(value for target in targets for value in target.values())):
            if tensor.numel():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "shared memory" not in str(error):
            raise
        return PipedBatch(batch)
    return batch


def shared_memory_warning(images: Sequence[ImageRecord], batch_size: int, workers: int) -> str:
    """A warning when /dev/shm may be too small for the batches that `workers` processes prepare, else empty."""
    if not workers or not images or not SHARED_MEMORY.is_dir():
        return ""
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = 3 * max(image.width * image.height for image in images) * batch_size * workers * PREFETCHED_BATCHES
    if needed <= free:
        return ""
    return (
        f"{SHARED_MEMORY} has {free / 1e6:.0f} MB free, {workers} workers may need {needed / 1e6:.0f} MB: batches that"
        " do not fit are sent through pipes, which is slower - start the container with a larger --shm-size, or set"
        " --data.workers 0"
    )
