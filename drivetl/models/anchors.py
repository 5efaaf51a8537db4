"""How well anchors cover a dataset's boxes at network input: after the resize, per pyramid level.

Torchvision's anchors are centred on a lattice with the level's stride, so the best anchor of a given shape is the one
whose centre is nearest along each axis. Coverage is therefore exact, with each box at its true position.
Ratios are height over width, as in torchvision. `drivetl.models.anchor_fit` proposes better anchors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from drivetl.coco.drives import Drives
from drivetl.coco.records import Dataset
from drivetl.errors import CheckpointError, ConfigError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

POSITIVE_IOU = 0.7
"""torchvision's `rpn_fg_iou_thresh`: below it an object gets its best anchor only by the low-quality rule."""
FLOAT32 = 1e-6
"""IoUs within this relative difference, and positions within this many strides, are equal to torchvision, which
computes in float32."""
MIN_SIDE_PX = 1.0
"""Thinner boxes are not trained on, so they need no anchor."""


@dataclass(frozen=True, slots=True)
class AnchorSpec:
    """Anchors per pyramid level, as torchvision's AnchorGenerator takes them. Raises ConfigError when unusable."""

    sizes: tuple[tuple[float, ...], ...]
    """Per level, px at network input: square root of the anchor's area."""
    ratios: tuple[tuple[float, ...], ...]
    """Per level, height over width; every size is combined with every ratio."""

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.ratios):
            raise ConfigError(
                f"anchors: {len(self.sizes)} levels of sizes, {len(self.ratios)} of ratios",
                remedy="give one tuple of sizes and one of ratios per level",
            )
        values = [value for level in (*self.sizes, *self.ratios) for value in level]
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise ConfigError("anchors: sizes and ratios must be positive numbers", remedy="fix the value")
        counts = [len(size) * len(ratio) for size, ratio in zip(self.sizes, self.ratios, strict=True)]
        if len(set(counts)) != 1 or counts[0] == 0:
            raise ConfigError(
                f"anchors per location differ between levels ({counts})",
                remedy="the RPN head is shared, make them equal",
            )

    @property
    def per_location(self) -> int:
        """Anchors per location, the same at every level."""
        return len(self.sizes[0]) * len(self.ratios[0])

    def shapes(self, level: int) -> Floats:
        """(A, 2) width and height in px, in the order of the RPN's rows and rounded as torchvision rounds them."""
        size = np.asarray(self.sizes[level], np.float32)  # torchvision's arithmetic: half pixels decide
        ratio = np.asarray(self.ratios[level], np.float32)
        tall = np.sqrt(ratio)[:, None]
        halves = np.stack([(1 / tall) * size, tall * size], axis=-1).reshape(-1, 2) / 2
        return np.asarray(2 * np.round(halves), np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, ready for JSON."""
        return {"sizes": [list(level) for level in self.sizes], "ratios": [list(level) for level in self.ratios]}

    def describe(self) -> str:
        """One line of text."""
        sizes = " | ".join(" ".join(f"{value:g}" for value in level) for level in self.sizes)
        ratios = " ".join(f"{value:g}" for value in self.ratios[0])
        return f"sizes {sizes} px, height/width {ratios}"


def spec_of(model: nn.Module) -> AnchorSpec:
    """The anchors of a torchvision detector."""
    generator: Any = model.rpn.anchor_generator  # type: ignore[union-attr]
    return AnchorSpec(
        tuple(tuple(float(value) for value in level) for level in generator.sizes),
        tuple(tuple(float(value) for value in level) for level in generator.aspect_ratios),
    )


@torch.no_grad()
def strides_of(model: nn.Module) -> tuple[int, ...]:
    """The nominal stride of every pyramid level, px, measured by passing one blank image through the backbone."""
    backbone: Any = model.backbone
    side, training = 512, backbone.training
    parameter = next(backbone.parameters())
    backbone.eval()
    features = backbone(parameter.new_zeros((1, 3, side, side)))
    backbone.train(training)
    maps = features.values() if isinstance(features, dict) else [features]
    return tuple(side // item.shape[-1] for item in maps)


@dataclass(frozen=True, slots=True)
class ScaledBoxes:
    """A dataset's boxes at network input."""

    boxes: Floats
    """(N, 4) xyxy px."""
    labels: Ints
    """(N,) category ids 1..K."""
    images: Ints
    """(N,) index of the image in the dataset."""
    padded_hw: Ints
    """(N, 2) height and width of the image's padded input, px."""
    drives: Drives
    """Of every image of the dataset."""
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, selection: npt.NDArray[Any]) -> ScaledBoxes:
        """The boxes selected by an index array or a mask."""
        return ScaledBoxes(
            self.boxes[selection],
            self.labels[selection],
            self.images[selection],
            self.padded_hw[selection],
            self.drives,
            self.categories,
        )


def resized(width: int, height: int, min_size: int, max_size: int) -> tuple[int, int]:
    """(width, height) after torchvision's resize: the shorter side to min_size unless max_size binds, rounded down."""
    scale = min(min_size / min(width, height), max_size / max(width, height))
    return max(math.floor(width * scale), 1), max(math.floor(height * scale), 1)


def scaled_boxes(dataset: Dataset, min_size: int, max_size: int, size_divisible: int = 32) -> ScaledBoxes:
    """All objects of a dataset at network input. Ignore regions and boxes under 1 px are left out."""
    boxes, labels, images, padded = [], [], [], []
    for index, image in enumerate(dataset.images):
        width, height = resized(image.width, image.height, min_size, max_size)
        x_scale, y_scale = width / image.width, height / image.height
        hw = [math.ceil(side / size_divisible) * size_divisible for side in (height, width)]
        for item in image.annotations:
            x, y, w, h = item.bbox_xywh
            if w >= MIN_SIDE_PX and h >= MIN_SIDE_PX:
                boxes.append((x * x_scale, y * y_scale, (x + w) * x_scale, (y + h) * y_scale))
                labels.append(item.category_id)
                images.append(index)
                padded.append(hw)
    return ScaledBoxes(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(images, np.int64),
        np.array(padded, np.int64).reshape(-1, 2),
        Drives.of(dataset.images),
        dataset.categories,
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How anchors cover N boxes."""

    best_iou: Floats
    """(N,) IoU with the best anchor."""
    level: Ints
    """(N,) pyramid level of the best anchor."""
    positives: Ints
    """(N,) anchors that torchvision's Matcher makes positive for an object alone in its image: those at POSITIVE_IOU or
    above; where there are none, every anchor tied at the best IoU (a large box contains an anchor at many positions,
    levels may repeat a shape). In a crowd the RPN assigns an anchor that several objects share to only one of them."""

    def share(self, iou: float) -> float:
        """Share of the boxes with an anchor at that IoU or above; nan for no boxes."""
        return float(np.mean(self.best_iou >= iou)) if len(self.best_iou) else float("nan")

    @property
    def low_quality(self) -> float:
        """Share of the boxes matched only by the low-quality rule; nan for no boxes."""
        return 1 - self.share(POSITIVE_IOU)

    def take(self, selection: npt.NDArray[Any]) -> Coverage:
        """The coverage of the boxes selected by an index array or a mask."""
        return Coverage(self.best_iou[selection], self.level[selection], self.positives[selection])


def coverage(boxes: ScaledBoxes, spec: AnchorSpec, strides: Sequence[int]) -> Coverage:
    """The best anchor of every box, and how many anchors it makes positive. Raises ConfigError on a level mismatch."""
    ious = level_ious(boxes, spec, strides)
    per_level = ious.max(axis=2)
    best_iou = per_level.max(axis=1)
    low = best_iou < POSITIVE_IOU
    counts = np.zeros(len(boxes), np.int64)
    for level, stride in enumerate(strides):
        for number, shape in enumerate(spec.shapes(level)):
            iou = ious[:, level, number]
            good = np.flatnonzero(iou >= POSITIVE_IOU)
            counts[good] += _count_positives(boxes.take(good), shape, stride)
            tied = np.flatnonzero(low & (iou >= best_iou * (1 - FLOAT32)))
            counts[tied] += _count_best(boxes.take(tied), iou[tied], shape, stride)
    return Coverage(best_iou, per_level.argmax(axis=1).astype(np.int64), counts)


def level_ious(boxes: ScaledBoxes, spec: AnchorSpec, strides: Sequence[int]) -> Floats:
    """(N, L, A) IoU of every box with the best positioned anchor of every level and shape."""
    if len(strides) != len(spec.sizes):
        raise ConfigError(
            f"anchors for {len(spec.sizes)} levels, the pyramid has {len(strides)}", remedy="give one tuple per level"
        )
    result = np.empty((len(boxes), len(strides), spec.per_location))
    for level, stride in enumerate(strides):
        result[:, level] = iou_with_shapes(boxes, spec.shapes(level), stride)
    return result


def iou_with_shapes(boxes: ScaledBoxes, shapes: Floats, stride: int) -> Floats:
    """(N, A) IoU of every box with the best positioned of the anchors of shapes (A, 2) at one level."""
    offset = np.abs(_offsets(boxes, stride))
    sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    inter = np.ones((len(boxes), len(shapes)))
    for axis in (0, 1):
        side, shape = sides[:, axis, None], shapes[None, :, axis]
        shifted_overlap = (side + shape) / 2 - offset[:, axis, None]
        inter *= np.minimum(np.minimum(side, shape), shifted_overlap).clip(min=0)
    return np.asarray(inter / (sides.prod(axis=1)[:, None] + shapes.prod(axis=1) - inter))


def _lattice(boxes: ScaledBoxes, stride: int) -> tuple[Floats, Floats]:
    """((N, 2) true strides, (N, 2) number of cells), x then y. Torchvision divides the padded side by the cells."""
    sides = boxes.padded_hw[:, ::-1]
    cells = np.ceil(sides / stride)
    return np.asarray(sides // cells, np.float64), cells


def _offsets(boxes: ScaledBoxes, stride: int) -> Floats:
    """(N, 2) px from the nearest anchor centre to the box centre, x and y."""
    step, cells = _lattice(boxes, stride)
    centres = (boxes.boxes[:, :2] + boxes.boxes[:, 2:]) / 2
    nearest = np.clip(np.round(centres / step), 0, cells - 1)
    return np.asarray(centres - nearest * step)


def _count_positives(boxes: ScaledBoxes, shape: Floats, stride: int, chunk: int = 4096) -> Ints:
    """(N,) lattice positions at which one shape reaches POSITIVE_IOU.

    With IoU >= t the overlap along an axis is at least t times the longer side (the union contains the longer box),
    so the centre is at most shape * (1 - t) / t away: the window is finite and complete.
    """
    counts = np.zeros(len(boxes), np.int64)
    for start in range(0, len(boxes), chunk):
        part = boxes.take(np.arange(start, min(start + chunk, len(boxes))))
        step, cells = _lattice(part, stride)
        reach = int(np.max(shape * (1 - POSITIVE_IOU) / POSITIVE_IOU) // step.min()) + 1
        window = np.arange(-reach, reach + 1)
        sides, centres = part.boxes[:, 2:] - part.boxes[:, :2], (part.boxes[:, :2] + part.boxes[:, 2:]) / 2
        positions = np.clip(np.round(centres / step), 0, cells - 1)[:, :, None] + window  # (n, 2, W)
        offset = np.abs(centres[:, :, None] - positions * step[:, :, None])
        overlap = np.minimum(np.minimum(sides, shape)[:, :, None], (sides + shape)[:, :, None] / 2 - offset)
        overlap = np.where((positions >= 0) & (positions < cells[:, :, None]), overlap, 0).clip(min=0)
        inter = overlap[:, 1, :, None] * overlap[:, 0, None, :]  # (n, W, W)
        union = (sides[:, 0] * sides[:, 1] + shape[0] * shape[1])[:, None, None] - inter
        counts[start : start + len(part)] = (inter / union >= POSITIVE_IOU).sum(axis=(1, 2))
    return counts


def _count_best(boxes: ScaledBoxes, iou: Floats, shape: Floats, stride: int) -> Ints:
    """(N,) lattice positions at which one shape has its best IoU, which is `iou` (N,).

    Along an axis the overlap equals the shorter side while the centres are at most half the difference of the sides
    apart, and decreases beyond that. The best positions are those within that distance, or else the nearest. At IoU 0
    all positions are tied.
    """
    step, cells = _lattice(boxes, stride)
    centres, sides = (boxes.boxes[:, :2] + boxes.boxes[:, 2:]) / 2, boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    reach = np.maximum(np.abs(sides - shape) / 2, np.abs(_offsets(boxes, stride)))
    reach[iou == 0] = np.inf
    first = np.ceil((centres - reach) / step - FLOAT32).clip(min=0)
    last = np.floor((centres + reach) / step + FLOAT32).clip(max=cells - 1)
    return np.asarray((last - first + 1).prod(axis=1), np.int64)


def nearest_rows(old: AnchorSpec, new: AnchorSpec) -> list[int]:
    """For every new anchor the old one to start from, by IoU of the shapes, mean over the levels.

    With equal counts every old anchor is used once, so that every row of the RPN is kept, and the sum of the IoUs is
    the highest possible. (1 - IoU is a metric: giving an unchanged anchor its own row never lowers the sum.) Otherwise
    each new anchor takes the most similar old one, and an old one may be used several times.
    """
    levels = range(len(old.sizes))
    similar = np.mean([_shape_iou(new.shapes(level), old.shapes(level)) for level in levels], axis=0)
    if old.per_location == new.per_location:
        rows = linear_sum_assignment(similar, maximize=True)[1]
    else:
        rows = similar.argmax(axis=1)
    return [int(row) for row in rows]


def _shape_iou(a: Floats, b: Floats) -> Floats:
    """(N, 2) and (M, 2) widths and heights -> (N, M) IoU with a common centre."""
    inter = np.minimum(a[:, None], b[None]).prod(axis=2)
    return np.asarray(inter / (a.prod(axis=1)[:, None] + b.prod(axis=1)[None] - inter))


def expand_rpn(state: dict[str, Tensor], old: AnchorSpec, new: AnchorSpec) -> dict[str, Tensor]:
    """The state with the RPN's rows for new anchors: each a copy of an old anchor's, see `nearest_rows`.

    Objectness rows are copied unchanged. Box rows are rewritten so that the new anchor predicts the box that the old
    one predicted: with dx = (x - xa) / wa and dw = log(w / wa), dx is multiplied by wa_old / wa_new and the log of that
    is added to dw. (The RPN is shared by the levels: the factor is their geometric mean.) An anchor of unchanged shape
    keeps its row bit for bit. Raises ConfigError for a different number of levels, CheckpointError when the state's RPN
    does not have the old anchors.
    """
    if len(old.sizes) != len(new.sizes):
        raise ConfigError(
            f"anchors for {len(new.sizes)} levels, the pyramid has {len(old.sizes)}", remedy="give one tuple per level"
        )
    rows = nearest_rows(old, new)
    logs = [np.log(old.shapes(level)[rows] / new.shapes(level)) for level in range(len(old.sizes))]
    log_factor = torch.from_numpy(np.mean(logs, axis=0))  # (A, 2) width, height
    result = dict(state)
    for key, value in state.items():
        part, _, kind = key.rpartition("rpn.head.")[2].rpartition(".")
        if "rpn.head." not in key or part not in ("cls_logits", "bbox_pred"):
            continue
        width = 1 if part == "cls_logits" else 4
        if len(value) != width * old.per_location:
            raise CheckpointError(
                f"tensor {key}: expected {width * old.per_location} rows for {old.per_location} anchors per location,"
                f" found {len(value)}",
                remedy="name the anchors this source was trained with",
            )
        grouped = value.reshape(old.per_location, width, *value.shape[1:])[rows]
        if width == 4:
            shift = log_factor.to(value.dtype).view(-1, 2, *[1] * (value.ndim - 1))
            centre = grouped[:, :2] * shift.exp()
            size = grouped[:, 2:] + shift if kind == "bias" else grouped[:, 2:]
            grouped = torch.cat([centre, size], 1)
        result[key] = grouped.flatten(0, 1)
    return result
