"""A training step with torchvision's modules and with drivetl's, on the same images in the same run.

The first columns are forward and backward alone, of both models. `recipe` is torchvision's reference loop
(references/detection/engine.py: floats from the loader, SGD, the loss read before the backward pass) with glibc's own
memory, `ours` is `train_epoch` on bytes, both without the loader. `bound` are the images/s at which the device would
multiply without a pause.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from loss_curves import differences, loss_curves, plot
from syncs import counted
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d
from training_loops import in_turns, matmul_rate, plain_model, switch_memory, throughput

from drivetl import console
from drivetl.config import OptimConfig
from drivetl.data.dataset import collate, to_tensors
from drivetl.data.sample import Sample
from drivetl.data.sharing import Batch
from drivetl.models import sparse
from drivetl.models.build import ModelSpec, architecture, build_model, forward_uint8
from drivetl.models.detector import detect
from drivetl.models.norm import FoldedConv2d, FusedFrozenBatchNorm2d
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device
from drivetl.training.loop import Means, train_epoch
from drivetl.training.optimizer import build_optimizer

TITLE = "Training step: torchvision's modules against drivetl's"
CURVES_TITLE = "Loss of a training: torchvision's reference loop against drivetl's, same weights and batches"
SYNCS = "Training step and inference: where the host waits for the device"
BATCH = 4
STEPS = 2
"""Steps over which waits are counted."""
BUDGET_S = 400.0
"""No row begins that would end later."""
SPARSE_BELOW = sparse.DENSE_FROM


@dataclass(frozen=True)
class Case:
    """What one row measures."""

    arch: str
    long: int
    short: int
    batch: int

    def spec(self) -> ModelSpec:
        """The detector."""
        return ModelSpec(self.arch, ("a", "b", "c"), self.short, self.long, 500, 300, 128, 100, 0.05, frozen_norm=True)


SMALL = [
    Case("fasterrcnn_mobilenet_v2_fpn", 800, 400, BATCH),
    Case("fasterrcnn_mobilenet_v2_lite_fpn", 800, 400, BATCH),
    Case("fasterrcnn_mobilenet_v3_large_320_fpn", 640, 320, BATCH),
]
LARGE = [
    Case(arch, long, short, size)
    for arch in ("fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_resnet50_fpn_v2")
    for long, short in ((1333, 402), (1280, 720))
    for size in (2, 4, 8, 16)
]
CURVES = [
    Case("fasterrcnn_tiny_fpn", 160, 96, 2),
    Case("fasterrcnn_mobilenet_v3_large_320_fpn", 1280, 720, 4),
    Case("fasterrcnn_resnet50_fpn_v2", 1280, 720, 4),
]
"""Trainings whose loss curves are drawn; on a CPU the first."""
CALLS = 40
"""Steps that a row takes, nearly, with three runs of every variant: what decides whether there is time for it."""


def run(device_name: str = "auto", budget_s: float | None = None) -> list[dict[str, object]]:
    """One row per model, input and batch, as many as fit into the time: on a CPU those of two images at the end."""
    device = choose_device(device_name)
    cases = SMALL + (LARGE if device.type == "cuda" else [case for case in LARGE if case.batch == 2])
    began, rows = time.perf_counter(), list[dict[str, object]]()
    rate = matmul_rate(device, choose_precision("auto", device)[0])
    for case in cases:
        left = (budget_s or BUDGET_S) - (time.perf_counter() - began) if rows else math.inf  # one row in any case
        row = row_of(case, device, rate, left)
        if row is None:
            console.warn(f"no time for {case.arch} at {case.long}x{case.short}, batch {case.batch}: left out")
            continue
        rows.append(row)
    return rows


def row_of(case: Case, device: torch.device, rate: float, left_s: float) -> dict[str, object] | None:
    """The row of a case; None where its first steps say that it takes longer than is left."""
    fast, _ = choose_precision("auto", device)
    images, targets = batch(case.short, case.long, case.batch)
    if left_s <= 0:
        return None
    theirs = unfused(build_model(case.spec())).to(device)
    ours = build_model(case.spec()).to(device).to(memory_format=torch.channels_last)
    once = partial(step, images=images, targets=targets, device=device)
    variants = {
        "torchvision": partial(once, theirs, precision=torch.float32, tricks=False),
        "without CPU tricks": partial(once, ours, precision=fast, tricks=False),
        "drivetl": partial(once, ours, precision=fast, tricks=True),
    }
    asked = time.perf_counter()
    variants["torchvision"]()
    runs = int(min(3, 3 * left_s / (CALLS * (time.perf_counter() - asked))))
    if not runs:
        return None
    best = {name: seconds / case.batch for name, seconds in in_turns(variants, runs).items()}
    row: dict[str, object] = {"model": case.arch, "input": f"{case.long}x{case.short}"}
    return (
        row
        | {"precision": str(fast).removeprefix("torch.")}
        | {f"{name} s/img": seconds for name, seconds in best.items()}
        | {"torchvision / drivetl": best["torchvision"] / best["drivetl"]}
        | {"without CPU tricks / drivetl": best["without CPU tricks"] / best["drivetl"]}
        | {"batch": case.batch}
        | throughput(case.spec(), (images, targets), device, fast, rate, runs)
        | {"waits": waits_per_step(case, plain=False), "recipe waits": waits_per_step(case, plain=True)}
    )


def curves(device_name: str, path: Path) -> list[dict[str, object]]:
    """Draw the loss curves of a training with torchvision's loop and with drivetl's into `path`; a row for each of
    drivetl's. A small model on a CPU, and two large ones as well on a GPU."""
    device = choose_device(device_name)
    fast = choose_precision("auto", device)[0] if device.type == "cuda" else torch.float32
    panels, rows = {}, []
    for case in CURVES if device.type == "cuda" else CURVES[:1]:
        title = f"{case.arch}, {case.long}x{case.short}"
        panels[title] = loss_curves(case.spec(), case.batch, device, fast)
        rows += [{"model": case.arch, "input": f"{case.long}x{case.short}"} | row for row in differences(panels[title])]
    plot(panels, path)
    return rows


def waits_per_step(case: Case, *, plain: bool) -> float:
    """How often a step waits for a GPU, counted on a CPU at a small input."""
    return sum(waits_of_a_step(case.arch, plain=plain, size=case.batch).values()) / STEPS


def syncs() -> list[dict[str, object]]:
    """One row per place of a training step, and of inference on a batch, that waits for the device on a GPU, and the
    sums; the last row of a model is the sum with torchvision's own modules. Counted on a CPU."""
    rows: list[dict[str, object]] = []
    for arch in ("fasterrcnn_mobilenet_v2_lite_fpn", "maskrcnn_mobilenet_v2_lite_fpn"):
        for work, waits_of in (("training step", waits_of_a_step), ("inference", waits_of_inference)):
            waits, plain = waits_of(arch), waits_of(arch, plain=True)
            owners = sorted({owner for owner, _, _ in waits} | {"drivetl", "torchvision"})
            places = []
            for owner in owners:
                own = {key: count for key, count in waits.items() if key[0] == owner}
                places += [(owner, where, operation, count) for (_, where, operation), count in sorted(own.items())]
                places.append((owner, "all", "-", sum(own.values())))
            places.append(("drivetl's modules", "all", "-", sum(waits.values())))
            places.append(("torchvision's modules", "all", "-", sum(plain.values())))
            rows += [
                {"model": arch, "work": work, "code": code, "where": where, "operation": operation}
                | {"per batch": count / STEPS}
                for code, where, operation, count in places
            ]
    return rows


def waits_of_a_step(arch: str, *, plain: bool = False, size: int = BATCH) -> Counter[tuple[str, str, str]]:
    """The waits of STEPS steps of `train_epoch` on a batch with ignore regions, an image without objects and one that
    labels some classes only. plain: with torchvision's own modules, which do not know of regions and labels."""
    torch.manual_seed(0)
    short, long = 128, 256
    spec = ModelSpec(arch, ("a", "b", "c"), short, long, 200, 100, 32, 100, 0.05, frozen_norm=True)
    model = plain_model(spec) if plain else build_model(spec)
    config = OptimConfig(epochs=1, lr=1e-4)
    train = partial(
        train_epoch,
        model.train(),
        optimizer=build_optimizer(model, arch, config),
        config=config,
        first_step=0,
        total_steps=9,
        device=torch.device("cpu"),
        precision=torch.float32,
    )
    images = [labelled_batch(short, long, masks=architecture(arch).masks, size=size)] * STEPS
    train(batches=images, means=Means())  # what is made once, such as anchors
    with counted() as waits:
        train(batches=images, means=Means())
    return waits


def waits_of_inference(arch: str, *, plain: bool = False, size: int = BATCH) -> Counter[tuple[str, str, str]]:
    """The waits of detecting in STEPS batches. plain: with torchvision's own modules and the copies to the host of its
    references/detection/engine.py."""
    torch.manual_seed(0)
    short, long = 128, 256
    spec = ModelSpec(arch, ("a", "b", "c"), short, long, 200, 100, 32, 100, 0.05, frozen_norm=True)
    model = (plain_model(spec) if plain else build_model(spec)).eval()
    images, _ = batch(short, long, size)

    @torch.no_grad()  # in inference mode the counter does not see the parts of an operator
    def infer() -> None:
        if not plain:
            detect.__wrapped__(model, images, torch.device("cpu"), torch.float32)
            return
        for output in model([image.float() / 255 for image in images]):
            {key: value.cpu() for key, value in output.items()}

    infer()
    with counted() as waits:
        for _ in range(STEPS):
            infer()
    return waits


def labelled_batch(height: int, width: int, *, masks: bool, size: int) -> Batch:
    """A batch as the loader makes it."""
    images, targets = batch(height, width, size)
    samples = []
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        n_objects = 0 if number == 0 else len(target["boxes"])
        sample = Sample(
            image.permute(1, 2, 0).numpy(),
            target["boxes"][:n_objects].numpy(),
            target["labels"][:n_objects].numpy(),
            np.array([[10, 10, 90, 60], [100, 20, 200, 120]][:number], np.float32).reshape(-1, 4),
            number,
            labelled=(1, 2) if number == 1 else None,
        )
        if masks:
            sample.masks = np.ones((n_objects, height, width), np.uint8)
            sample.has_mask = np.ones(n_objects, np.bool_)
        samples.append(to_tensors(sample, 3))
    return collate(samples)


def batch(height: int, width: int, size: int = BATCH) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Random images with eight boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 255, (3, height, width), dtype=torch.uint8, generator=generator) for _ in range(size)]
    targets = []
    for _ in range(size):
        corner = torch.rand(8, 2, generator=generator) * torch.tensor([width - 100.0, height - 80.0])
        sides = 20 + torch.rand(8, 2, generator=generator) * 60
        targets.append(
            {"boxes": torch.cat([corner, corner + sides], 1), "labels": torch.randint(1, 4, (8,), generator=generator)}
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
    switch_memory(device, kept=tricks)
    model.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        losses = forward_uint8(model, images, device, targets)
    sum(losses.values()).backward()
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
