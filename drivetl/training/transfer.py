"""Batches on their way to a GPU: one pinned block, copied in one piece while the GPU works on the batch before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from drivetl.data.sharing import Batch
from drivetl.models.build import ON_THE_HOST

ALIGNMENT = 256
"""Bytes; every tensor begins at a multiple, so that it can be read in any dtype."""
Place = tuple[int, torch.dtype, torch.Size]
"""(offset in bytes, dtype, shape) of a tensor in a block."""


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a batch are in its block."""

    images: list[Place]
    targets: list[dict[str, Place]]
    on_host: list[dict[str, Tensor]]
    """Keys that the network does not read stay with the host."""
    n_bytes: int


def layout_of(batch: Batch) -> Layout:
    """The layout of a batch's block."""
    end = 0

    def place(tensor: Tensor) -> Place:
        nonlocal end
        begin = -(-end // ALIGNMENT) * ALIGNMENT
        end = begin + tensor.numel() * tensor.element_size()
        return begin, tensor.dtype, tensor.shape

    images = [place(image) for image in batch[0]]
    targets = [{key: place(value) for key, value in item.items() if key not in ON_THE_HOST} for item in batch[1]]
    on_host = [{key: value for key, value in item.items() if key in ON_THE_HOST} for item in batch[1]]
    return Layout(images, targets, on_host, end)


def unpack(block: Tensor, layout: Layout) -> Batch:
    """The batch whose tensors are views of the (n_bytes,) uint8 block."""

    def view(place: Place) -> Tensor:
        begin, dtype, shape = place
        n_bytes = prod(shape) * dtype.itemsize
        return block[begin : begin + n_bytes].view(dtype).view(shape)

    targets = [{key: view(place) for key, place in item.items()} for item in layout.targets]
    return (
        [view(place) for place in layout.images],
        [item | host for item, host in zip(targets, layout.on_host, strict=True)],
    )


def pack(batch: Batch, *, pinned: bool) -> tuple[Tensor, Layout]:
    """(the batch as one block of bytes, its layout); pinned: in memory that a GPU copies from by itself."""
    layout = layout_of(batch)
    block = torch.empty(layout.n_bytes, dtype=torch.uint8, pin_memory=pinned)
    images, targets = unpack(block, layout)
    for place, image in zip(images, batch[0], strict=True):
        place.copy_(image)
    for packed, target in zip(targets, batch[1], strict=True):
        for key in packed.keys() - set(ON_THE_HOST):
            packed[key].copy_(target[key])
    return block, layout


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, on a GPU each in its memory, where it is copied while the GPU works on the one before; on a CPU as
    they are. Values and order are the same."""
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Tensor, Layout, torch.cuda.Event] | None = None
    for batch in batches:
        block, layout = pack(batch, pinned=True)
        with torch.cuda.stream(stream):
            copied = block.to(device, non_blocking=True)
            done = stream.record_event()
        if before is not None:
            yield _arrived(*before)
        before = copied, layout, done
    if before is not None:
        yield _arrived(*before)


def _arrived(copied: Tensor, layout: Layout, done: torch.cuda.Event) -> Batch:
    """The batch, which the work queued from now on may use."""
    current = torch.cuda.current_stream(copied.device)
    current.wait_event(done)
    copied.record_stream(current)
    return unpack(copied, layout)
