"""The loss of one training, step by step: torchvision's reference loop and model, and drivetl's, on one page.

Both begin with the same weights, see the same batches, draw the same random numbers and have the same optimizer: SGD
with momentum at a constant rate, without clipping. Every proposal is a sample of the box head, so that the loss does
not depend on their order, which is by scores that hardly differ at first. What differs is the code of the step. In fp32
the first losses agree to rounding; later, a proposal that NMS keeps in one and not in the other makes single steps
differ, as it does between two machines: the more, the deeper the model.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from training_loops import on, plain_model, reference_step

from drivetl.config import OptimConfig
from drivetl.data.sharing import Batch
from drivetl.files.write import write_atomically
from drivetl.models.build import ModelSpec, architecture, build_model
from drivetl.models.gpu import choose_fused, choose_layout
from drivetl.models.norm import freeze_norm
from drivetl.training.capture import PRECISIONS
from drivetl.training.loop import Means, train_epoch
from drivetl.training.optimizer import build_optimizer
from drivetl.training.transfer import on_device

STEPS, BATCHES = 40, 8
"""Steps of a curve, and the batches that they repeat."""
OPTIM = OptimConfig(epochs=1, lr=0.001, name="sgd", schedule="constant", warmup_fraction=0.0, clip_norm=0.0)
PROPOSALS = 100
"""Of an image; a quarter of the samples at most are positive, so that four times as many hold them all."""
RECIPE = "torchvision's reference, fp32"
FIRST_DIFFERENCE, CURVE_DIFFERENCE = 1e-5, 0.05
"""In fp32: largest difference of the first losses, as a share of them, and of the means over BATCHES steps."""

Curves = dict[str, list[float]]
"""Name -> the loss of each step."""


def scenes(count: int, size: int, height: int, width: int) -> list[Batch]:
    """`count` batches of `size` noisy grey images with eight rectangles each, whose colour is their class (1..3)."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        images, targets = [], []
        for _ in range(size):
            image = torch.randint(70, 110, (3, height, width), dtype=torch.uint8, generator=generator)
            corner = torch.rand(8, 2, generator=generator) * torch.tensor([width * 0.75, height * 0.7])
            sides = torch.tensor([width, height]) * (0.08 + 0.15 * torch.rand(8, 2, generator=generator))
            boxes, labels = (
                torch.cat([corner, corner + sides], 1).round(),
                torch.randint(1, 4, (8,), generator=generator),
            )
            for (left, top, right, bottom), label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
                image[label - 1, top:bottom, left:right] = 230
            images.append(image)
            targets.append({"boxes": boxes, "labels": labels})
        batches.append((images, targets))
    return batches


def start_model(spec: ModelSpec, batches: Sequence[Batch], device: torch.device) -> nn.Module:
    """torchvision's detector with random weights and a frozen BatchNorm, whose statistics are those of the batches."""
    torch.manual_seed(0)
    model = plain_model(spec).to(device).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over the batches
    with torch.no_grad():
        for images, targets in batches:
            model([image.to(device).float() / 255 for image in images], on(targets, device))
    return freeze_norm(model)


def loss_curves(spec: ModelSpec, size: int, device: torch.device, fast: torch.dtype, steps: int = STEPS) -> Curves:
    """The losses of torchvision's reference in fp32, and of drivetl in fp32 and, where it is another, in `fast`."""
    from bench.training import unfused

    spec = dataclasses.replace(spec, proposals_train=PROPOSALS, rois_per_image=4 * PROPOSALS)
    batches = scenes(BATCHES, size, spec.min_size, spec.max_size)
    theirs = unfused(start_model(spec, batches, device))  # torchvision's own FrozenBatchNorm2d
    start = {key: value.clone() for key, value in theirs.state_dict().items()}
    curves = {RECIPE: _recipe(theirs, spec, batches, device, steps)}
    for precision in dict.fromkeys([torch.float32, fast]):
        ours = build_model(spec)
        ours.load_state_dict(start)
        word = next(word for word, dtype in PRECISIONS.items() if dtype == precision)
        curves[f"drivetl, {word}"] = _ours(ours.to(device), spec, batches, device, precision, steps)
    return curves


def _recipe(
    model: nn.Module, spec: ModelSpec, batches: Sequence[Batch], device: torch.device, steps: int
) -> list[float]:
    optimizer = build_optimizer(model.train(), spec.arch, OPTIM)
    losses = []
    for step in range(steps):
        images, targets = batches[step % len(batches)]
        torch.manual_seed(step)
        losses.append(
            reference_step(model, [image.float() / 255 for image in images], targets, optimizer, device, None)
        )
    return losses


def _ours(
    model: nn.Module,
    spec: ModelSpec,
    batches: Sequence[Batch],
    device: torch.device,
    precision: torch.dtype,
    steps: int,
) -> list[float]:
    if choose_layout("auto", device, precision, architecture(spec.arch).depthwise)[0]:
        model = model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model.train(), spec.arch, OPTIM, fused=choose_fused(device)[0])
    epoch = partial(train_epoch, model, optimizer=optimizer, config=OPTIM, device=device, precision=precision)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        means = Means()
        epoch(on_device([batches[step % len(batches)]], device), first_step=step, total_steps=steps, means=means)
        losses.append(means.means()["loss"])
    return losses


def differences(curves: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    """A row for each of drivetl's curves: how far it is from torchvision's in the first step, in any step, and in the
    means over BATCHES steps, as a share of torchvision's loss; and both losses at the end."""
    theirs = curves[RECIPE]
    rows: list[dict[str, object]] = []
    for name in (name for name in curves if name != RECIPE):
        ours = curves[name]
        shares = [abs(a / b - 1) for a, b in zip(ours, theirs, strict=True)]
        means = [abs(a / b - 1) for a, b in zip(_means(ours), _means(theirs), strict=True)]
        rows.append(
            {"curve": name, "steps": len(ours), "first step differs by": shares[0]}
            | {"largest of one step": max(shares), f"largest of {BATCHES} steps": max(means)}
            | {"first loss": ours[0], "last loss": _means(ours)[-1], "reference's last loss": _means(theirs)[-1]}
        )
    return rows


def _means(losses: Sequence[float]) -> list[float]:
    """The means over the last BATCHES steps, from the first step with that many on: over every batch once."""
    count = min(BATCHES, len(losses))
    return [sum(losses[end - count : end]) / count for end in range(count, len(losses) + 1)]


def plot(panels: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Write a PNG with a panel for each title, its curves over one another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(panels), 4.2), layout="tight")
    FigureCanvasAgg(figure)
    for axis, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (name, losses) in enumerate(curves.items()):
            style = {"color": "0.6", "linewidth": 4.0} if number == 0 else {"color": f"C{number}", "linewidth": 1.2}
            axis.plot(range(1, len(losses) + 1), losses, label=name, **style)
        axis.set(title=title, xlabel="step", ylabel="training loss")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
