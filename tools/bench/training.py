"""A training step as torchvision has it, and as drivetl runs it, on the same images in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from drivetl.models.build import ModelSpec, build_model, forward_uint8
from drivetl.models.norm import FusedFrozenBatchNorm2d
from drivetl.models.precision import choose_device, choose_precision

TITLE = "Training step: torchvision's modules against drivetl's"
NOTE = (
    "Seconds per image, best of 3 steps, batch 4, 8 boxes an image, random weights. The tricks are "
    "FrozenBatchNorm2d as one fused call, channels_last, and bf16 where the device computes in it."
)
BATCH = 4


def run() -> list[dict[str, object]]:
    """One row per model."""
    device = choose_device("auto")
    fast, _ = choose_precision("auto", device)
    rows: list[dict[str, object]] = []
    for arch, short, long in (
        ("fasterrcnn_mobilenet_v2_fpn", 400, 800),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 320, 640),
    ):
        spec = ModelSpec(arch, ("a", "b", "c"), short, long, 500, 300, 128, 100, 0.05, frozen_norm=True)
        images, targets = batch(short, long)
        plain = step(unfused(build_model(spec)).to(device), images, targets, device, torch.float32)
        ours = build_model(spec).to(device).to(memory_format=torch.channels_last)
        tuned = step(ours, images, targets, device, fast)
        rows.append(
            {
                "model": arch,
                "input": f"{long}x{short}",
                "torchvision fp32 s/img": plain,
                f"drivetl {str(fast).removeprefix('torch.')} s/img": tuned,
                "ratio": plain / tuned,
            }
        )
    return rows


def batch(height: int, width: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with eight boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 255, (3, height, width), dtype=torch.uint8, generator=generator)
        for _ in range(BATCH)
    ]
    targets = []
    for _ in range(BATCH):
        corner = torch.rand(8, 2, generator=generator) * torch.tensor([width - 100.0, height - 80.0])
        size = 20 + torch.rand(8, 2, generator=generator) * 60
        targets.append(
            {
                "boxes": torch.cat([corner, corner + size], 1),
                "labels": torch.randint(1, 4, (8,), generator=generator),
            }
        )
    return images, targets


def unfused(model: nn.Module) -> nn.Module:
    """The model with torchvision's own FrozenBatchNorm2d."""
    for module in model.modules():
        if isinstance(module, FusedFrozenBatchNorm2d):
            module.__class__ = FrozenBatchNorm2d
    return model


def step(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    device: torch.device,
    precision: torch.dtype,
) -> float:
    """Seconds per image of forward and backward."""
    model.train()

    def once() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            losses = forward_uint8(model, images, device, targets)
        sum(losses.values()).backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return best_of(once) / len(images)


def best_of(work: Callable[[], None], runs: int = 3) -> float:
    """The fastest of some runs after a warm-up, seconds."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
