"""What measuring, predicting and exporting need of a model: images in, detections out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.errors import DataError
from drivetl.files.images import described, layout_remedy
from drivetl.models.build import forward_uint8


@dataclass
class Detector:
    """A trained model on its device, with what its results must be labelled with."""

    model: nn.Module
    categories: tuple[str, ...]
    device: torch.device
    precision: torch.dtype
    """float32, or bfloat16 where autocast is worth it on this device."""
    weights_hash: str
    """sha256 (16 hex digits) of the weights: the key of cached results."""
    augmentation: dict[str, Any] | None = None
    """The manifest of what was trained on (this run's and its ancestors'); None: UNVERIFIED."""
    run: Path | None = None
    relation: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the run; "" for a detector without one."""
        return self.run.name if self.run is not None else ""

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in a batch of (3, H, W) uint8 RGB tensors, sizes may differ. Deterministic, order kept.

        Raises DataError for anything else: another layout, type or range would give meaningless detections.
        """
        check_images(images)
        self.model.eval()
        return detect(self.model, images, self.device, self.precision)


def check_images(images: Sequence[Any]) -> None:
    """Raises DataError unless every image is a (3, H, W) uint8 tensor; says what it is and how to convert it."""
    if isinstance(images, torch.Tensor | np.ndarray | str | bytes) or not isinstance(images, Sequence):
        raise DataError(f"images are one {described(images)}", remedy="pass a list of (3, H, W) uint8 RGB tensors")
    for index, image in enumerate(images):
        if remedy := _remedy(image):
            raise DataError(f"images[{index}] is {described(image)}, not a (3, H, W) uint8 tensor", remedy=remedy)


def _remedy(image: Any) -> str:
    """How to turn an image into a (3, H, W) uint8 tensor; "" if it is one."""
    if not isinstance(image, torch.Tensor):
        return "convert it with torch.from_numpy(array).permute(2, 0, 1) from an (H, W, 3) uint8 RGB array"
    return layout_remedy(image, 0)


@torch.inference_mode()
def detect(
    model: nn.Module, images: list[torch.Tensor], device: torch.device, precision: torch.dtype
) -> list[Detections]:
    """Run a model that is in eval mode on (3, H, W) uint8 RGB tensors."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        outputs = forward_uint8(model, images, device)
    return _to_detections(outputs)


def _to_detections(outputs: list[dict[str, torch.Tensor]]) -> list[Detections]:
    """What a model found in the images of a batch; boxes, scores and labels are copied to the host at once."""
    if not outputs:
        return []
    columns = [
        torch.cat([output["boxes"].float(), output["scores"].float()[:, None], output["labels"].float()[:, None]], 1)
        for output in outputs
    ]
    rows = torch.split(torch.cat(columns).cpu(), [len(part) for part in columns])  # labels are exact below 2^24
    return [
        Detections(
            found[:, :4].numpy().copy(),
            found[:, 4].numpy().copy(),
            found[:, 5].long().numpy(),
            _encoded(output["masks"]) if "masks" in output else None,
        )
        for found, output in zip(rows, outputs, strict=True)
    ]


def _encoded(masks: torch.Tensor) -> list[dict[str, Any]]:
    """(N, 1, H, W) shares in 0..1 -> COCO's run lengths."""
    return [encode(mask) for mask in (masks[:, 0] > 0.5).cpu().numpy()]
