"""Parts of torchvision's training step and inference that seldom wait for the device; results are its own to the bit.

A host that launches work on a GPU waits for it wherever a shape depends on data, or where a constant of the host is
copied: the GPU is then without work until the host has launched more. The subclasses here have no state of their own;
`drivetl/models/ignore.py` gives them to a model. `tools/benchmark.py training --syncs` counts the waits.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torchvision
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher, encode_boxes
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import boxes as box_ops

TRICK_BELOW = 20_000
"""Coordinates of one image's boxes up to which every version of torchvision's `batched_nms` uses the coordinate trick
on a GPU."""
SMALLEST_PX = 1e-2
"""Side below which torchvision leaves a detection out."""
NMS_AT_ONCE = 1 << 14
"""Boxes in one call of NMS: its work grows with their square, a wait costs as much as a few million comparisons."""


def waits_for(device: torch.device) -> bool:
    """Whether the host waits for this device where it asks for a result."""
    return device.type != "cpu"


def positions(mask: Tensor, count: int) -> Tensor:
    """(N,) bool -> (count,) int64 the first `count` positions that are true, ascending. At least so many must be."""
    if not waits_for(mask.device):
        return torch.where(mask)[0][:count]
    return torch.nonzero_static(mask, size=count)[:, 0]


def counts_of(masks: list[Tensor]) -> list[int]:
    """How many are true in each mask; one wait."""
    counts: list[int] = torch.stack([mask.sum() for mask in masks]).tolist()
    return counts


@lru_cache(maxsize=32)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(N,) values on the device, which are copied there once."""
    with torch.inference_mode(False):
        return torch.as_tensor(values, dtype=dtype, device=device)


def sample(labels: list[Tensor], sampler: BalancedPositiveNegativeSampler) -> list[tuple[Tensor, Tensor]]:
    """Per image of (N,) labels the (P,) positive and (Q,) negative positions, ascending, that torchvision's sampler
    draws with the same random numbers; one wait for the whole batch."""
    masks = [mask for label in labels for mask in (label >= 1, label == 0)]
    counts = counts_of(masks) if masks else []
    drawn = []
    for image in range(0, len(masks), 2):
        n_positive = min(counts[image], int(sampler.batch_size_per_image * sampler.positive_fraction))
        n_negative = min(counts[image + 1], sampler.batch_size_per_image - n_positive)
        positive = _draw(masks[image], counts[image], n_positive)
        drawn.append((positive, _draw(masks[image + 1], counts[image + 1], n_negative)))
    return drawn


def _draw(mask: Tensor, count: int, wanted: int) -> Tensor:
    """(wanted,) of the `count` positions that are true, ascending."""
    order = torch.randperm(count, device=mask.device)[:wanted]
    return positions(mask, count)[order].sort().values


class FixedShapeMatcher(Matcher):  # type: ignore[misc]
    """Matcher that chooses among all anchors instead of listing those to change."""

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        best = match_quality_matrix == match_quality_matrix.amax(1, keepdim=True)
        matches.copy_(torch.where(best.any(0), all_matches, matches))


class CachedBoxCoder(BoxCoder):  # type: ignore[misc]
    """BoxCoder that copies no constant to the device, except its weights, once."""

    def encode_single(self, reference_boxes: Tensor, proposals: Tensor) -> Tensor:
        weights = constant(tuple(self.weights), reference_boxes.dtype, reference_boxes.device)
        targets: Tensor = encode_boxes(reference_boxes, proposals, weights)
        return targets

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4 K) deltas of (N, 4) xyxy boxes -> (N, 4 K) xyxy boxes (Girshick et al. 2014, "Rich feature
        hierarchies", appendix C)."""
        if not waits_for(rel_codes.device) or torchvision._is_tracing():
            return super().decode_single(rel_codes, boxes)  # type: ignore[no-any-return]
        boxes = boxes.to(rel_codes.dtype)
        decoded = []
        for axis in (0, 1):
            size = (boxes[:, axis + 2] - boxes[:, axis])[:, None]  # (N, 1)
            center = boxes[:, axis, None] + 0.5 * size
            shift, scale = (
                rel_codes[:, axis::4] / self.weights[axis],
                rel_codes[:, axis + 2 :: 4] / self.weights[axis + 2],
            )
            middle, half = shift * size + center, 0.5 * (torch.exp(scale.clamp(max=self.bbox_xform_clip)) * size)
            decoded.append((middle - half, middle + half))
        (left, right), (top, bottom) = decoded
        return torch.stack([left, top, right, bottom], 2).flatten(1)


class CountedRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """MultiScaleRoIAlign that counts the RoIs of all levels with one wait, instead of one wait per level."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        maps = [x[name] for name in x if name in self.featmap_names]
        unknown = self.scales is None or self.map_levels is None  # torchvision sets them at the first call
        if unknown or len(maps) == 1 or not waits_for(maps[0].device) or torchvision._is_tracing():
            return super().forward(x, boxes, image_shapes)  # type: ignore[no-any-return]
        numbers = torch.cat([box.new_full((len(box), 1), image) for image, box in enumerate(boxes)])
        rois = torch.cat([numbers, torch.cat(boxes)], 1)
        level_of = self.map_levels(boxes)
        masks = [level_of == level for level in range(len(maps))]
        pooled = maps[0].new_zeros((len(rois), maps[0].shape[1], *self.output_size))
        for features, scale, mask, count in zip(maps, self.scales, masks, counts_of(masks), strict=True):
            chosen = positions(mask, count)
            crops = torchvision.ops.roi_align(features, rois[chosen], self.output_size, scale, self.sampling_ratio)
            pooled[chosen] = crops.to(pooled.dtype)
        return pooled


def nms_per_image(
    boxes: Tensor, scores: Tensor, levels: Tensor, usable: Tensor, threshold: float, most: int
) -> list[Tensor]:
    """Positions in (N, A, 4) xyxy boxes, flattened to N * A, of each image's `most` best boxes after NMS within the
    image and the level; boxes that are not usable are left out.

    scores (N, A) >= 0, levels (N, A) int64, usable (N, A) bool; coordinates of usable boxes are >= 0. As torchvision's
    `batched_nms` of each image with the coordinate trick, to the bit: four images at a time are mirrored into the four
    quadrants of one plane, which is exact and where they cannot overlap. Two waits for four images.
    """
    n_images, n_boxes = scores.shape
    boxes = torch.where(usable[:, :, None], boxes, 0)  # without area: suppresses nothing, is not suppressed
    scores = torch.where(usable, scores, -1)
    x1, y1, x2, y2 = (boxes + (levels * (boxes.amax((1, 2)) + 1)[:, None])[:, :, None]).unbind(2)
    together = max(1, min(4, NMS_AT_ONCE // max(n_boxes, 1)))
    kept = []
    for first in range(0, n_images, together):
        placed = []
        for image in range(first, min(first + together, n_images)):
            left, right = (-x2[image], -x1[image]) if image - first in (1, 3) else (x1[image], x2[image])
            top, bottom = (-y2[image], -y1[image]) if image - first in (2, 3) else (y1[image], y2[image])
            placed.append(torch.stack([left, top, right, bottom], 1))
        some = scores[first : first + together].flatten()
        kept.append(box_ops.nms(torch.cat(placed), some, threshold) + first * n_boxes)
    order = torch.cat(kept)
    image_of, is_usable = order // n_boxes, usable.flatten()[order]
    masks = [(image_of == image) & is_usable for image in range(n_images)]
    return [order[positions(mask, min(count, most))] for mask, count in zip(masks, counts_of(masks), strict=True)]


Found = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""Boxes, scores and labels of each image."""


def detections_per_image(
    boxes: list[Tensor], scores: list[Tensor], *, above: float, threshold: float, most: int
) -> Found | None:
    """What torchvision's `postprocess_detections` returns, to the bit, for images with (N, K + 1, 4) clipped xyxy boxes
    and (N, K + 1) scores each; None where an image has too many boxes for one NMS over its classes.

    above: the score that a detection has to exceed; threshold: of NMS within a class; most: detections of an image. One
    wait for the batch, and two for four of its images.
    """
    flat_boxes = [box[:, 1:].reshape(-1, 4) for box in boxes]
    flat_scores = [score[:, 1:].reshape(-1) for score in scores]
    masks = [
        (score > above) & (box[:, 2:] - box[:, :2] >= SMALLEST_PX).all(1)
        for box, score in zip(flat_boxes, flat_scores, strict=True)
    ]
    counts = counts_of(masks)
    if 4 * max(counts) > TRICK_BELOW:
        return None
    chosen = [positions(mask, count) for mask, count in zip(masks, counts, strict=True)]
    found_boxes = [box[index] for box, index in zip(flat_boxes, chosen, strict=True)]
    found_scores = [score[index] for score, index in zip(flat_scores, chosen, strict=True)]
    found_labels = [index % (score.shape[1] - 1) + 1 for score, index in zip(scores, chosen, strict=True)]
    if not max(counts):
        return found_boxes, found_scores, found_labels
    usable = pad_sequence([torch.ones_like(index, dtype=torch.bool) for index in chosen], batch_first=True)
    padded = [pad_sequence(items, batch_first=True) for items in (found_boxes, found_scores, found_labels)]
    kept = nms_per_image(padded[0], padded[1], padded[2], usable, threshold, most)
    flat = [item.flatten(0, 1) for item in padded]
    best_boxes, best_scores, best_labels = ([item[index] for index in kept] for item in flat)
    return best_boxes, best_scores, best_labels
