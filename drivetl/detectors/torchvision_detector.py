"""torchvision's published detectors by name: `fasterrcnn_resnet50_fpn`, `retinanet_resnet50_fpn:COCO_V1`.

`NAME:random` has random weights (seed 0), for tests without a network.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn
from torchvision.models import detection, get_model, get_model_weights, list_models

from drivetl.coco.detections import Detections
from drivetl.detectors.classes import labels_of_outputs
from drivetl.errors import ConfigError, nearest
from drivetl.models.detector import check_images, detect
from drivetl.models.runtime import choose_device
from drivetl.models.source import published_manifest, published_state
from drivetl.models.surgery import BACKGROUND

RANDOM = "random"
UNTRAINED: dict[str, Any] = {"version": 1, "preset": "random weights", "transforms": [], "ancestors": []}


class TorchvisionDetector:
    """A detector of torchvision with the classes of its weights; outputs that are no class (COCO's gaps) are left out.

    It runs in fp32: torchvision's own heads round boxes under autocast.
    """

    run = None
    precision = torch.float32

    def __init__(self, name: str, weights: str = "", device: str = "auto"):
        """weights: as torchvision names them; "": the newest; `random`. `augmentation` is torchvision's recipe.

        Raises ConfigError for an unknown model or weights, CheckpointError for weights that cannot be downloaded.
        """
        enum = _published(name, weights)
        self.name = name
        self.device = choose_device(device)
        self.model = _model(name, None if weights == RANDOM else enum, len(enum.meta["categories"]))
        self.model.to(self.device).eval()
        self.weights_hash = _digest(self.model)
        self.augmentation: dict[str, Any] | None = UNTRAINED if weights == RANDOM else published_manifest("coco")
        self.categories, self.label_of = labels_of_outputs([BACKGROUND, *enum.meta["categories"][1:]])

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in (3, H, W) uint8 RGB tensors. Raises DataError for anything else."""
        check_images(images)
        return [self._known(found) for found in detect(self.model, images, self.device, self.precision)]

    def _known(self, found: Detections) -> Detections:
        labels = self.label_of[found.labels]
        rows = labels.nonzero()[0]
        masks = None if found.masks is None else [found.masks[row] for row in rows]
        return Detections(found.boxes[rows], found.scores[rows], labels[rows], masks)


def _published(name: str, weights: str) -> Any:
    """The published weights of that name; the newest for "" and for random ones. Raises ConfigError."""
    known = list_models(module=detection)
    if name not in known:
        raise ConfigError(
            f"torchvision has no detector {name!r}", remedy=nearest(name, known, f"known: {', '.join(known)}")
        )
    published = get_model_weights(name)
    if weights in ("", "DEFAULT", RANDOM):
        return published.DEFAULT
    names = [item.name for item in published]
    if weights not in names:
        raise ConfigError(
            f"torchvision publishes no weights {weights!r} for {name}", remedy=f"use {', '.join(names)} or {RANDOM}"
        )
    return published[weights]


def _model(name: str, enum: Any, n_outputs: int) -> nn.Module:
    """The model with the published weights, or without an enum with random ones, the same ones each time."""
    if enum is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=n_outputs)
        return model
    published_state(enum, f"the {enum.name} weights of {name}", f"use torchvision:{name}:{RANDOM} for a trial")
    loaded: nn.Module = get_model(name, weights=enum, progress=False)  # from the file that was just checked
    return loaded


def _digest(model: nn.Module) -> str:
    """16 hex digits of the weights."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
