"""A training step with torchvision's modules and with drivetl's, on the same images in the same run."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from drivetl.models import runtime, sparse
from drivetl.models.build import ModelSpec, build_model, forward_uint8
from drivetl.models.norm import FoldedConv2d, FusedFrozenBatchNorm2d
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device, keep_memory

TITLE = "Training step: torchvision's modules against drivetl's"
BATCH = 4
SPARSE_BELOW = sparse.DENSE_FROM


def run() -> list[dict[str, object]]:
    """One row per model."""
    device = choose_device("auto")
    fast, _ = choose_precision("auto", device)
    rows: list[dict[str, object]] = []
    for arch, short, long in (
        ("fasterrcnn_mobilenet_v2_fpn", 400, 800),
        ("fasterrcnn_mobilenet_v2_lite_fpn", 400, 800),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 320, 640),
    ):
        spec = ModelSpec(arch, ("a", "b", "c"), short, long, 500, 300, 128, 100, 0.05, frozen_norm=True)
        images, targets = batch(short, long)
        theirs = unfused(build_model(spec)).to(device)
        ours = build_model(spec).to(device).to(memory_format=torch.channels_last)
        once = partial(step, images=images, targets=targets, device=device)
        variants = {
            "torchvision": partial(once, theirs, precision=torch.float32, tricks=False),
            "without CPU tricks": partial(once, ours, precision=fast, tricks=False),
            "drivetl": partial(once, ours, precision=fast, tricks=True),
        }
        best = {name: seconds / BATCH for name, seconds in in_turns(variants).items()}
        row: dict[str, object] = {"model": arch, "input": f"{long}x{short}"}
        rows.append(
            row
            | {"precision": str(fast).removeprefix("torch.")}
            | {f"{name} s/img": seconds for name, seconds in best.items()}
            | {"torchvision / drivetl": best["torchvision"] / best["drivetl"]}
            | {"without CPU tricks / drivetl": best["without CPU tricks"] / best["drivetl"]}
        )
    return rows


def batch(height: int, width: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with eight boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 255, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(BATCH)]
    targets = []
    for _ in range(BATCH):
        corner = torch.rand(8, 2, generator=generator) * torch.tensor([width - 100.0, height - 80.0])
        size = 20 + torch.rand(8, 2, generator=generator) * 60
        targets.append(
            {"boxes": torch.cat([corner, corner + size], 1), "labels": torch.randint(1, 4, (8,), generator=generator)}
        )
    return images, targets


def unfused(model: nn.Module) -> nn.Module:
    """The model with torchvision's own FrozenBatchNorm2d."""
    for module in model.modules():
        if isinstance(module, FusedFrozenBatchNorm2d):
            module.__class__ = FrozenBatchNorm2d
        elif isinstance(module, FoldedConv2d):
            module.__class__ = nn.Conv2d
    return model


def step(
    model: nn.Module,
    *,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    device: torch.device,
    precision: torch.dtype,
    tricks: bool,
) -> None:
    """Forward and backward once; tricks: the sparse backward and kept memory, which are switched for the process."""
    sparse.DENSE_FROM = SPARSE_BELOW if tricks else 0.0
    if device.type == "cpu":
        (keep_memory if tricks else give_back_memory)()
    model.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        losses = forward_uint8(model, images, device, targets)
    sum(losses.values()).backward()
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()


def give_back_memory() -> None:
    """glibc's own settings again."""
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in ((runtime.MMAP_MAX, 65536), (runtime.TRIM_THRESHOLD, 128 << 10), (runtime.TOP_PAD, 0)):
        mallopt(parameter, value)


def in_turns(variants: Mapping[str, Callable[[], None]], runs: int = 3) -> dict[str, float]:
    """Seconds of the fastest run of each after a warm-up, one after the other, so that a busy moment hits all."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(runs + 1):
        for name, work in variants.items():
            work()  # what the variant before left in the caches and in the allocator is not this one's
            began = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - began)
    return {name: min(found) for name, found in times.items()}
