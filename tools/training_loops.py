"""Whole training loops, timed: torchvision's reference recipe and drivetl's, and the stages of drivetl's step."""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.flop_counter import FlopCounterMode

import drivetl.data.augment as augment
from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.config import OptimConfig
from drivetl.data.dataset import DetectionDataset, collate
from drivetl.data.sharing import Batch
from drivetl.models import runtime
from drivetl.models.build import ModelSpec, architecture, build_model, forward_uint8
from drivetl.models.gpu import choose_fused
from drivetl.training.loop import Means, train_epoch
from drivetl.training.optimizer import build_optimizer
from drivetl.training.transfer import on_device

OPTIM = OptimConfig(epochs=1, lr=1e-5)
MATRIX = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices whose product gives the device's rate."""


def plain_model(spec: ModelSpec) -> nn.Module:
    """torchvision's own detector, as its builder makes it."""
    return architecture(spec.arch).build(
        num_classes=len(spec.categories) + 1,
        min_size=spec.min_size,
        max_size=spec.max_size,
        rpn_pre_nms_top_n_train=2 * spec.proposals_train,
        rpn_post_nms_top_n_train=spec.proposals_train,
        box_batch_size_per_image=spec.rois_per_image,
    )


def throughput(
    spec: ModelSpec, batch: Batch, device: torch.device, precision: torch.dtype, rate: float, runs: int
) -> dict[str, object]:
    """The columns of both loops: images/s, their ratio, seconds per stage of a step, peak memory, and the bound.

    rate: multiplications and additions per second of the device, from `matmul_rate`. AMP and peak memory are those of a
    GPU; None on a CPU.
    """
    images, targets = batch
    size, on_gpu = len(images), device.type == "cuda"
    theirs = plain_model(spec).to(device).train()
    ours = build_model(spec).to(device).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(ours, spec.arch, OPTIM, fused=choose_fused(device)[0])
    floats = [image.float() / 255 for image in images]
    sgd = SGD([p for p in theirs.parameters() if p.requires_grad], lr=1e-5, momentum=0.9, weight_decay=1e-4)
    recipe = partial(reference_step, theirs, floats, targets, sgd, device)
    loops: dict[str, Callable[[], object]] = {"recipe": partial(recipe, None)}
    if on_gpu:
        loops["recipe AMP"] = partial(recipe, torch.amp.GradScaler("cuda"))
    loops["ours"] = partial(our_step, ours, batch, optimizer, device, precision)
    rates = {name: size / seconds for name, seconds in in_turns(loops, runs).items()}
    reference = max(rate for name, rate in rates.items() if name != "ours")
    flops = flops_of(lambda: sum(theirs([f.to(device) for f in floats], on(targets, device)).values()).backward())
    return (
        {f"{name} img/s": rates.get(name) for name in ("recipe", "recipe AMP", "ours")}
        | {"ours / recipe": rates["ours"] / reference, "bound img/s": size * rate / flops}
        | {
            f"{name} s/step": seconds
            for name, seconds in stages(spec, ours, batch, optimizer, device, precision).items()
        }
        | {f"{name} peak MB": peak_mb(loops.get(name) if on_gpu else None) for name in ("recipe", "recipe AMP", "ours")}
    )


def reference_step(
    model: nn.Module,
    floats: list[Tensor],
    targets: list[dict[str, Tensor]],
    optimizer: Optimizer,
    device: torch.device,
    scaler: torch.amp.GradScaler | None,
) -> float:
    """A step of torchvision's references/detection/engine.py on one process; returns its loss."""
    switch_memory(device, kept=False)
    moved = [image.to(device) for image in floats]
    with torch.autocast(device.type, dtype=torch.float16, enabled=scaler is not None):
        losses = sum(model(moved, on(targets, device)).values())
    loss = losses.item()
    if not np.isfinite(loss):
        raise RuntimeError("the reference's loss is not finite")
    optimizer.zero_grad()
    if scaler is not None:
        scaler.scale(losses).backward()
        scaler.step(optimizer)
        scaler.update()
    else:
        losses.backward()
        optimizer.step()
    wait(device)
    return loss


def our_step(
    model: nn.Module, batch: Batch, optimizer: Optimizer, device: torch.device, precision: torch.dtype
) -> None:
    """A step of `train_epoch`."""
    switch_memory(device, kept=True)
    train_epoch(
        model,
        on_device([batch], device),
        optimizer,
        OPTIM,
        first_step=0,
        total_steps=9,
        device=device,
        precision=precision,
        means=Means(),
    )
    wait(device)


def switch_memory(device: torch.device, *, kept: bool) -> None:
    """On a CPU, for the whole process: keep freed memory, as drivetl's trainings do, or use glibc's own settings."""
    if device.type != "cpu":
        return
    if kept:
        runtime.keep_memory()
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in ((runtime.MMAP_MAX, 65536), (runtime.TRIM_THRESHOLD, 128 << 10), (runtime.TOP_PAD, 0)):
        mallopt(parameter, value)


def on(targets: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """The targets on a device."""
    return [{key: value.to(device) for key, value in target.items()} for target in targets]


def stages(
    spec: ModelSpec, model: nn.Module, batch: Batch, optimizer: Optimizer, device: torch.device, precision: torch.dtype
) -> dict[str, float]:
    """Seconds of one step's stages one after the other, the better of two steps: reading and augmenting its images in
    one process, the copy to the device, forward and backward pass, and the optimizer's update."""
    height, width = batch[0][0].shape[1:]
    best = {"load": load_seconds(len(batch[0]), height, width)}
    for _ in range(2):
        took: dict[str, float] = {}
        optimizer.zero_grad(set_to_none=True)
        with timed(took, "transfer", device):
            (moved,) = on_device([batch], device)
        with timed(took, "forward", device), torch.autocast(device.type, torch.bfloat16, precision == torch.bfloat16):
            losses = forward_uint8(model, moved[0], device, moved[1])
        with timed(took, "backward", device):
            torch.stack([value.float() for value in losses.values()]).sum().backward()
        with timed(took, "update", device):
            nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip_norm)
            optimizer.step()
        best |= {name: min(seconds, best.get(name, seconds)) for name, seconds in took.items()}
    return best


@contextmanager
def timed(took: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Add the seconds until the device has done what is inside the context."""
    wait(device)
    began = time.perf_counter()
    yield
    wait(device)
    took[name] = time.perf_counter() - began


def load_seconds(count: int, height: int, width: int) -> float:
    """Seconds to read `count` JPEG images of that size, and augment them with the default preset."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number in range(1, count + 1):
            coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
            cv2.imwrite(f"{folder}/{number}.jpg", cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
            records.append(ImageRecord(number, f"{number}.jpg", width, height))
            records[-1].annotations = [
                Annotation(1, (width * n / 8, height / 4, width / 9, height / 4), width * height / 36) for n in range(8)
            ]
        dataset = Dataset(("a", "b", "c"), records, Path(folder), {})
        data = DetectionDataset(dataset, augment=augment.build(augment.load_preset("photometric")))
        collate([data[0, index] for index in range(count)])  # libraries and file cache
        began = time.perf_counter()
        collate([data[1, index] for index in range(count)])
        return time.perf_counter() - began


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the device's own matrix product, the best of five."""
    side = MATRIX[device.type]
    a = torch.ones(side, side, dtype=dtype, device=device)
    took: dict[str, float] = {}
    best = float("inf")
    for _ in range(6):
        with timed(took, "product", device):
            a @ a
        best = min(best, took["product"])
    return 2 * side**3 / best


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in it, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak_mb(work: Callable[[], object] | None) -> float | None:
    """The most memory that a GPU's allocator holds during it."""
    if work is None:
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 1e6


def wait(device: torch.device) -> None:
    """Until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(variants: Mapping[str, Callable[[], object]], runs: int = 3) -> dict[str, float]:
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
