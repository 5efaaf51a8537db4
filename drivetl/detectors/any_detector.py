"""Any detector in a sweep: an object with `categories` and `infer(images)`, whose answers are checked.

`infer` gets a list of (3, H, W) uint8 RGB tensors, or of (H, W, 3) arrays if the object says `layout = "HWC"`. It
returns for each image what was found: `Detections`, a tuple (boxes, scores, labels), or a dict or object with these
names, and optionally masks. boxes: (N, 4) xyxy px of the image, scores: (N,) 0..1, labels: (N,) 1..K (label 1 is
categories[0]), masks: (N, H, W) of 0 and 1. N may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.errors import ConfigError, DataError
from drivetl.files.images import described
from drivetl.models.detector import Detector

PROTOCOL = "an object with `categories` (class names) and `infer(images)`, see docs/python.md"
EXPECTED = "boxes (N, 4) xyxy px, scores (N,) 0..1, labels (N,) 1..K"


class AnyDetector:
    """Somebody's own detector with what a sweep needs to know of it; what it returns is checked and converted."""

    run = None
    precision = None
    device = None

    def __init__(self, detector: Any) -> None:
        """Raises ConfigError for an object that is not a detector.

        Read where it has them: `name`, `layout` (CHW tensors, or HWC arrays), `weights_hash` (a text that changes with
        its weights, for stored detections) and `augmentation` (the manifest of what it was trained on, for held-out
        levels).
        """
        self.detector = detector
        self.categories = _categories(detector)
        if not callable(getattr(detector, "infer", None)):
            raise ConfigError(f"the detector is {described(detector)} without infer(images)", remedy=f"pass {PROTOCOL}")
        self.layout = getattr(detector, "layout", "CHW")
        if self.layout not in ("CHW", "HWC"):
            raise ConfigError(
                f"the detector's layout is {self.layout!r}",
                remedy="use 'CHW' (tensors) or 'HWC' (arrays), or leave it out",
            )
        self.name = str(getattr(detector, "name", "") or type(detector).__name__)
        self.weights_hash = str(getattr(detector, "weights_hash", "") or "")
        self.augmentation: dict[str, Any] | None = getattr(detector, "augmentation", None)

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        """Detect in (3, H, W) uint8 RGB tensors. Raises DataError that says what came and what was expected."""
        given = images if self.layout == "CHW" else [image.permute(1, 2, 0).contiguous().numpy() for image in images]
        outputs = self.detector.infer(given)
        if isinstance(outputs, Mapping | str) or not isinstance(outputs, Sequence):
            raise DataError(
                f"{self.name}.infer returned {described(outputs)}",
                remedy=f"return a list with one entry per image: {EXPECTED}",
            )
        if len(outputs) != len(images):
            raise DataError(
                f"{self.name}.infer returned {len(outputs)} entries for {len(images)} images",
                remedy="return one entry per image, in their order",
            )
        return [
            checked(output, len(self.categories), (image.shape[1], image.shape[2]), f"{self.name}.infer, image {index}")
            for index, (output, image) in enumerate(zip(outputs, images, strict=True))
        ]


def as_detector(detector: Any) -> Detector | AnyDetector:
    """A detector of a run as it is; anything else as an `AnyDetector`."""
    return detector if isinstance(detector, Detector | AnyDetector) else AnyDetector(detector)


def _categories(detector: Any) -> tuple[str, ...]:
    names = getattr(detector, "categories", None)
    if names is None:
        raise ConfigError(f"the detector is {described(detector)} without categories", remedy=f"pass {PROTOCOL}")
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"the detector's categories are {described(names)}", remedy="give a list of class names, label 1 first"
        )
    return tuple(names)


def checked(output: Any, n_classes: int, size_hw: tuple[int, int], where: str) -> Detections:
    """What a detector gave for one image of that size, as Detections, best first.

    Raises DataError for what cannot be detections of this image; the remedy names the likely cause.
    """
    boxes, scores, labels, masks = _parts(output, where)
    boxes, scores, labels = (
        _array(boxes, "boxes", where),
        _array(scores, "scores", where),
        _array(labels, "labels", where),
    )
    if boxes.size == 0 and scores.size == 0 and labels.size == 0:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks and [])
    _check_shapes(boxes, scores, labels, where)
    _check_values(boxes, scores, labels, n_classes, where)
    _check_boxes(boxes, size_hw, where)
    order = np.argsort(-scores, kind="stable")
    rles = None if masks is None else _rles(masks, len(boxes), size_hw, where)
    return Detections(
        np.ascontiguousarray(boxes[order], np.float32),
        np.ascontiguousarray(scores[order], np.float32),
        labels[order].astype(np.int64),
        None if rles is None else [rles[row] for row in order],
    )


def _parts(output: Any, where: str) -> tuple[Any, Any, Any, Any]:
    """(boxes, scores, labels, masks or None) of an output of any accepted form."""
    if isinstance(output, Mapping) and {"boxes", "scores", "labels"} <= output.keys():
        return output["boxes"], output["scores"], output["labels"], output.get("masks")
    if all(hasattr(output, name) for name in ("boxes", "scores", "labels")):
        return output.boxes, output.scores, output.labels, getattr(output, "masks", None)
    if isinstance(output, tuple) and len(output) in (3, 4):
        return output[0], output[1], output[2], output[3] if len(output) == 4 else None
    keys = f" with the keys {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise DataError(
        f"{where}: {described(output)}{keys}", remedy=f"return Detections, a dict or a tuple with {EXPECTED}"
    )


def _array(values: Any, name: str, where: str) -> npt.NDArray[Any]:
    """Numbers as an array; a tensor may be on any device."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu() if values.dtype == torch.bfloat16 else values.detach().cpu()
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype == object or (array.size and array.dtype.kind not in "iuf"):
        raise DataError(f"{where}: {name} are {described(values)}", remedy=f"return numbers: {EXPECTED}")
    return array


def _check_shapes(boxes: npt.NDArray[Any], scores: npt.NDArray[Any], labels: npt.NDArray[Any], where: str) -> None:
    shapes = f"boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape}"
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 1 or labels.ndim != 1:
        raise DataError(f"{where}: {shapes}", remedy=f"return {EXPECTED}")
    if not len(boxes) == len(scores) == len(labels):
        raise DataError(f"{where}: {shapes}", remedy="return as many boxes as scores and labels")


def _check_values(
    boxes: npt.NDArray[Any], scores: npt.NDArray[Any], labels: npt.NDArray[Any], n_classes: int, where: str
) -> None:
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise DataError(f"{where}: {name} contain NaN or infinity", remedy="return finite numbers")
    if scores.min() < 0 or scores.max() > 1:
        range_of = f"{scores.min():g} to {scores.max():g}"
        raise DataError(f"{where}: scores from {range_of}", remedy="return 0..1: logits need a sigmoid or a softmax")
    if labels.dtype.kind == "f" and not np.array_equal(labels, labels.round()):
        raise DataError(f"{where}: labels are not whole numbers", remedy=f"return {EXPECTED}")
    if labels.min() < 1 or labels.max() > n_classes:
        hint = "labels begin at 1 (0 is background): add 1" if labels.min() == 0 else "label 1 is categories[0]"
        raise DataError(
            f"{where}: labels from {labels.min():g} to {labels.max():g}, for {n_classes} classes", remedy=hint
        )


def _check_boxes(boxes: npt.NDArray[Any], size_hw: tuple[int, int], where: str) -> None:
    height, width = size_hw
    inverted = np.flatnonzero((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1]))
    if len(inverted):
        raise DataError(
            f"{where}: {_box(boxes[inverted[0]])} ends before it begins",
            remedy="return x1, y1, x2, y2 (is this x, y, width, height, or centre and size?)",
        )
    if boxes.max() <= 1.5 and max(size_hw) > 16:
        raise DataError(
            f"{where}: no box goes beyond {boxes.max():g}, the image is {width} x {height} px",
            remedy="return pixels (are these 0..1 of the image's size?)",
        )
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height) | (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if outside.any():
        raise DataError(
            f"{where}: {_box(boxes[outside][0])} is outside the image of {width} x {height} px",
            remedy="return pixels of the image as given (are these of a resized or padded one?)",
        )


def _box(box: npt.NDArray[Any]) -> str:
    return f"the box ({', '.join(f'{side:g}' for side in box)})"


def _rles(masks: Any, n_boxes: int, size_hw: tuple[int, int], where: str) -> list[dict[str, Any]]:
    """N RLEs of pixel masks, or the RLEs themselves as drivetl's own detections have them."""
    if isinstance(masks, list) and len(masks) == n_boxes and all(isinstance(mask, dict) for mask in masks):
        return masks
    pixels = masks.detach().cpu().numpy() if isinstance(masks, torch.Tensor) else np.asarray(masks)
    if pixels.shape != (n_boxes, *size_hw):
        raise DataError(
            f"{where}: masks are {described(pixels)}",
            remedy=f"return ({n_boxes}, {size_hw[0]}, {size_hw[1]}) of 0 and 1",
        )
    return [encode(mask > 0.5) for mask in pixels]
