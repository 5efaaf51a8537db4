"""Targets with unknown parts: ignore regions, boxes without masks, classes a source never labelled.

Subclasses of torchvision's modules with the same state dict keys. In addition to torchvision's keys, a target may have
- `ignore_boxes` (M, 4) xyxy px, M may be 0: regions that are neither object nor background,
- `labelled` (K + 1,) bool: the classes this image's source labels (index 0, background, counts as labelled); left out
  where all are, as to look into it would wait for the device,
- `has_mask` (N,) bool: which objects have a mask; a target without `masks` has none.
Without these keys, or where they change nothing (no region, every class labelled, every object with a mask), losses
are torchvision's bit for bit.

Limitation: the RPN does not distinguish classes, so an object of an unlabelled class is background to its objectness.
Where there are many such objects, write them as ignore regions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform

Target = dict[str, Tensor]

BACKGROUND, NOT_SAMPLED = 0, -1
"""Labels of torchvision's samplers: negative, and never sampled."""


CPU_NUMBERS, GPU_NUMBERS = 1 << 18, 1 << 23
"""Numbers in one temporary of `covered_share`."""


def covered_share(boxes: Tensor, regions: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy px -> (N,) the largest share of a box's own area inside a single region, in 0..1.

    0 for a box without area, and 0 without regions.
    """
    best = boxes.new_zeros(len(boxes))
    if not len(boxes) or not len(regions):
        return best
    # temporaries of 200,000 anchors and all regions leave a CPU's cache; a loop over regions starves a GPU
    at_once = max(1, (CPU_NUMBERS if boxes.device.type == "cpu" else GPU_NUMBERS) // len(boxes))
    left, top, right, bottom = boxes.T.contiguous()  # (N,) each
    for some in torch.split(regions.T, at_once, dim=1):
        x1, y1, x2, y2 = some[:, :, None]  # (M, 1) each
        width = torch.minimum(right, x2).sub_(torch.maximum(left, x1)).clamp_(min=0)  # (M, N)
        height = torch.minimum(bottom, y2).sub_(torch.maximum(top, y1)).clamp_(min=0)
        torch.maximum(best, width.mul_(height).amax(0), out=best)
    area = (right - left) * (bottom - top)
    return torch.where(area > 0, best / area, 0)


def drop_ignored_background(labels: Tensor, boxes: Tensor, regions: Tensor | None, threshold: float) -> Tensor:
    """(N,) labels with background inside an ignore region set to NOT_SAMPLED; matches to real objects are unchanged."""
    if regions is None or not len(regions) or not len(boxes):
        return labels
    ignored = (labels == BACKGROUND) & (covered_share(boxes, regions) > threshold)
    return labels.masked_fill(ignored, NOT_SAMPLED)


class IgnoreAwareTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Resizes `ignore_boxes` together with the boxes."""

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        before = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignore_boxes" in target and image.shape[-2:] != before:
            target["ignore_boxes"] = _scaled(target["ignore_boxes"], before, image.shape[-2:])
        return image, target


def _scaled(boxes: Tensor, before_hw: torch.Size, after_hw: torch.Size) -> Tensor:
    """torchvision's `resize_boxes` to the bit, without copying the ratios to the device."""
    y, x = (np.float32(after) / np.float32(before) for before, after in zip(before_hw, after_hw, strict=True))
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([left * float(x), top * float(y), right * float(x), bottom * float(y)], 1)


class IgnoreAwareRPN(RegionProposalNetwork):  # type: ignore[misc]
    """Background anchors inside an ignore region are never sampled; anchors of real objects are."""

    ignore_threshold: float = 0.5
    """A background anchor with more than this share of its own area inside one region is ignored."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        labels = [
            drop_ignored_background(label, boxes, target.get("ignore_boxes"), self.ignore_threshold)
            for label, boxes, target in zip(labels, anchors, targets, strict=True)
        ]
        return labels, matched

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """torchvision's losses; 0 where ignore regions cover every anchor of the batch: torchvision's are then NaN, the
        mean over no anchor, with gradients of 0."""
        losses = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        sampled = (torch.cat(labels) >= BACKGROUND).any()
        score_loss, box_loss = (torch.where(sampled, loss, 0) for loss in losses)
        return score_loss, box_loss


class IgnoreAwareRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoI heads whose losses exclude the unknown parts of targets."""

    ignore_threshold: float = 0.5
    """A background proposal with more than this share of its own area inside one region is ignored."""
    _regions: list[Tensor | None] | None = None

    def check_targets(self, targets: list[Target] | None) -> None:
        """torchvision's check, but masks may be missing."""
        if targets is None or not all("boxes" in item and "labels" in item for item in targets):
            raise ValueError("every target needs boxes and labels while training")

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        # torchvision's method calls assign_targets_to_proposals without the targets.
        self._regions = [item.get("ignore_boxes") for item in targets]
        try:
            return super().select_training_samples(proposals, targets)  # type: ignore[no-any-return]
        finally:
            self._regions = None

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        regions = self._regions or [None] * len(labels)
        labels = [
            drop_ignored_background(label, boxes, region, self.ignore_threshold)
            for label, boxes, region in zip(labels, proposals, regions, strict=True)
        ]
        return matched, labels

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """At inference torchvision's forward; in training its losses without the unknown parts of targets."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)  # type: ignore[no-any-return]
        self.check_targets(targets)
        assert targets is not None
        proposals, matched, labels, regression_targets = self.select_training_samples(proposals, targets)
        pooled = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        class_logits, box_deltas = self.box_predictor(pooled)
        known = known_classes(targets, labels, class_logits.shape[1])
        box_losses = roi_loss(class_logits, box_deltas, labels, regression_targets, known)
        losses = dict(zip(("loss_classifier", "loss_box_reg"), box_losses, strict=True))
        if self.has_mask():
            losses["loss_mask"] = self._mask_loss(features, proposals, image_shapes, targets, labels, matched)
        return [], losses

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
        labels: list[Tensor],
        matched: list[Tensor],
    ) -> Tensor:
        """torchvision's mask loss over the positive proposals whose object has a mask; 0 without such proposals."""
        used = [
            (label > 0) & _has_mask(target)[index]
            if len(target["boxes"])
            else torch.zeros_like(label, dtype=torch.bool)
            for label, target, index in zip(labels, targets, matched, strict=True)
        ]
        counts = torch.stack([item.sum() for item in used]).tolist()  # one wait for the whole batch
        chosen = [
            torch.argsort(~item, stable=True)[:count]  # the indices of the proposals that are used, in order
            for item, count in zip(used, counts, strict=True)
        ]
        boxes = [item[index] for item, index in zip(proposals, chosen, strict=True)]
        objects = [item[index] for item, index in zip(matched, chosen, strict=True)]
        pooled = self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        logits = self.mask_predictor(pooled)
        masks = [item["masks"] if "masks" in item else logits.new_zeros((len(item["boxes"]), 1, 1)) for item in targets]
        loss: Tensor = maskrcnn_loss(logits, boxes, masks, [item["labels"] for item in targets], objects)
        return loss


def _has_mask(target: Target) -> Tensor:
    """(N,) bool."""
    if "masks" not in target:
        return torch.zeros(len(target["boxes"]), dtype=torch.bool, device=target["boxes"].device)
    if "has_mask" in target:
        return target["has_mask"]
    return torch.ones(len(target["boxes"]), dtype=torch.bool, device=target["boxes"].device)


def known_classes(targets: list[Target], labels: list[Tensor], n_classes: int) -> Tensor | None:
    """(R, K + 1) bool: the classes labelled in the image of RoI r; None when no target has `labelled`.

    `labels`: per image the (R_i,) classes of its sampled RoIs. Background and the classes of an image's own objects
    always count as known, whatever `labelled` says.
    """
    masks = [item.get("labelled") for item in targets]
    if all(mask is None for mask in masks):
        return None
    rows = []
    for mask, label, target in zip(masks, labels, targets, strict=True):
        known = torch.ones(n_classes, dtype=torch.bool, device=label.device) if mask is None else mask.clone()
        known[0] = True
        known.index_fill_(0, target["labels"], True)
        rows.append(known.expand(len(label), n_classes))
    return torch.cat(rows)


def roi_loss(
    class_logits: Tensor,
    box_deltas: Tensor,
    labels: list[Tensor],
    regression_targets: list[Tensor],
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(classification loss, box loss) of R sampled RoIs.

    class_logits (R, K + 1), box_deltas (R, 4 (K + 1)), labels and regression_targets per image (R_i,), (R_i, 4);
    known (R, K + 1) bool as from `known_classes`. A class that is not known is excluded from the RoI's softmax: the
    gradient of its logit is exactly 0, similar to the partial-label losses of Zhao et al. 2020, "Object detection with
    a unified label space from multiple datasets". With `known` None this is torchvision's `fastrcnn_loss`; without
    RoIs (ignore regions cover everything) both losses are 0.
    """
    if not len(class_logits):
        return zero_losses(class_logits, box_deltas)
    if known is not None:
        class_logits = class_logits.masked_fill(~known, float("-inf"))
    losses: tuple[Tensor, Tensor] = fastrcnn_loss(class_logits, box_deltas, labels, regression_targets)
    return losses


def zero_losses(scores: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Two losses of 0 that depend on every prediction: gradients are 0 but exist, as all-reduce across processes
    requires."""
    return scores.sum() * 0, deltas.sum() * 0


_OURS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "transform": (GeneralizedRCNNTransform, IgnoreAwareTransform),
    "rpn": (RegionProposalNetwork, IgnoreAwareRPN),
    "roi_heads": (RoIHeads, IgnoreAwareRoIHeads),
}


def make_ignore_aware(model: nn.Module, threshold: float = 0.5) -> nn.Module:
    """Turn a torchvision Faster / Mask R-CNN's transform, RPN and RoI heads into the ignore-aware ones, in place.

    Parameters, buffers and state dict keys are unchanged; a second call changes only the threshold. Returns the model.
    Raises TypeError for a model without these parts, with parts of another class, or with keypoints, ValueError for a
    threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"ignore threshold {threshold} is not in 0..1")
    for name, (theirs, ours) in _OURS.items():
        part: Any = getattr(model, name, None)
        if not isinstance(part, ours) and type(part) is not theirs:
            raise TypeError(f"model.{name} is a {type(part).__name__}, expected torchvision's {theirs.__name__}")
    heads: Any = model.roi_heads
    if heads.has_keypoint():
        raise TypeError("keypoint heads are not supported")
    for name, (_, ours) in _OURS.items():
        part = getattr(model, name)
        if not isinstance(part, ours):
            # The subclasses add no state: the same object, with the overridden methods.
            part.__class__ = ours
        if name != "transform":
            part.ignore_threshold = threshold
    return model
