"""Counts the operations of a training step, or of inference, whose result the host needs before it goes on: waits.

Shapes that depend on data (`nonzero`, a boolean index, NMS), values read on the host (`item`, `bool`, `tolist`) and
numbers of Python copied to the device make the host wait until the device has done all its work. They are counted on a
CPU, where they cost nothing, with the code that runs on a GPU: which operations are called does not depend on the
device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import boxes

from drivetl.models import waits as drivetl_waits

DATA_DEPENDENT = {
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal", "aten::_unique2"),
    *("aten::unique_consecutive", "aten::unique_dim", "aten::repeat_interleave", "torchvision::nms"),
}
"""Operators whose result, or its shape, the host waits for."""
HOST_READS = {torch.Tensor.tolist, torch.Tensor.cpu}
"""Methods that copy a tensor to the host, which are no operators on a CPU. `numpy` is not one: a GPU's tensor has to be
copied before."""
CONSTANTS = {torch.tensor, torch.as_tensor}
"""Functions that copy numbers to the device they are given."""
OWNERS = ("torchvision", "drivetl")
ON_THE_HOST = ("/torch/optim/", "/detection/transform.py: torch_choice", "/drivetl/models/sparse.py")
"""What is on the host in any training: the optimizer's step numbers, the choice of an image size, and a backward pass
for CPUs only."""

Waits = Counter[tuple[str, str, str]]
"""(whose code, where, operation) -> number of calls."""


@contextmanager
def counted() -> Iterator[Waits]:
    """Count the waits of everything that is run inside the context, as they would be on a GPU."""
    waits: Waits = Counter()
    a_gpu = mock.patch.object(drivetl_waits, "waits_for", lambda device: True)
    with mock.patch.object(boxes, "_batched_nms_vanilla", _as_on_a_gpu), a_gpu, _Operators(waits), _HostReads(waits):
        yield waits


def _as_on_a_gpu(boxes_xyxy: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, threshold: float) -> torch.Tensor:
    """On a GPU torchvision uses one NMS for all classes below TRICK_BELOW numbers; on a CPU below 4,000."""
    assert boxes_xyxy.numel() <= drivetl_waits.TRICK_BELOW, (
        "too many proposals: a GPU would not use the coordinate trick either"
    )
    kept: torch.Tensor = boxes._batched_nms_coordinate_trick(boxes_xyxy, scores, idxs, threshold)
    return kept


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in DATA_DEPENDENT or (name.startswith("aten::index") and _by_mask(name, args)):
            _add(self.waits, name.partition("::")[2])
        return func(*args, **(kwargs or {}))


class _HostReads(TorchFunctionMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HOST_READS or (func in CONSTANTS and (kwargs or {}).get("device") is not None):
            _add(self.waits, func.__name__)
        return func(*args, **(kwargs or {}))


def _by_mask(name: str, args: Any) -> bool:
    """Whether an index is a mask, so that its number of elements is unknown; filling a mask with one value is not."""
    if name not in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        return False
    masks = [item for item in args[1] if item is not None and item.dtype in (torch.bool, torch.uint8)]
    return bool(masks) and not (len(args) > 2 and args[2].numel() == 1)


def _add(waits: Waits, operation: str) -> None:
    """Count a call for the innermost frame of a package that is looked at."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename).as_posix()
        if any(part in f"{path}: {frame.f_code.co_name}" for part in ON_THE_HOST):
            return
        owner = next((name for name in OWNERS if f"/{name}/" in path), None)
        if owner is not None:
            waits[owner, f"{path.rpartition('/')[2]}: {frame.f_code.co_name}", operation] += 1
            return
        frame = frame.f_back
    waits["other", "-", operation] += 1
