"""Targets that may say "nobody knows": ignore regions, boxes without masks, classes a source never labelled.

torchvision's modules, extended at their seams; state dict keys stay. A target may carry, beside torchvision's keys,
- `ignore_boxes` (M, 4) xyxy px, M may be 0: what lies in them is neither object nor background,
- `labelled` (K + 1,) bool: the classes this image's source labels (index 0, background, counts as labelled),
- `has_mask` (N,) bool: which objects were drawn as masks; a target without `masks` has none.
Without these keys, or where they say nothing (no region, everything labelled, every mask there), losses are
torchvision's bit for bit.

What this cannot do: the RPN knows no classes, so an object of an unlabelled class is background to its objectness.
Where such objects are many, write them as ignore regions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

Target = dict[str, Tensor]

BACKGROUND, NEITHER = 0, -1
"""Labels of torchvision's samplers: negative, and never sampled."""


def covered_share(boxes: Tensor, regions: Tensor) -> Tensor:
    """(N, 4) and (M, 4) xyxy px -> (N,) the largest share of a box's own area inside one region, in 0..1.

    0 for a box without area, and where there is no region.
    """
    if not len(boxes) or not len(regions):
        return boxes.new_zeros(len(boxes))
    best = boxes.new_zeros(len(boxes))
    for region in regions:  # one region at a time: (N, M) temporaries of 200,000 anchors cost more than the loop
        width = torch.minimum(boxes[:, 2], region[2]) - torch.maximum(boxes[:, 0], region[0])
        height = torch.minimum(boxes[:, 3], region[3]) - torch.maximum(boxes[:, 1], region[1])
        torch.maximum(best, width.clamp(min=0) * height.clamp(min=0), out=best)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return torch.where(area > 0, best / area, 0)


def drop_ignored_background(labels: Tensor, boxes: Tensor, regions: Tensor | None, threshold: float) -> Tensor:
    """(N,) labels in which background inside an ignore region became NEITHER; matches to real objects stay."""
    if regions is None or not len(regions) or not len(boxes):
        return labels
    hidden = (labels == BACKGROUND) & (covered_share(boxes, regions) > threshold)
    return torch.where(hidden, torch.full_like(labels, NEITHER), labels)


class IgnoreAwareTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Resizes `ignore_boxes` together with the boxes."""

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        before = image.shape[-2:]
        image, target = super().resize(image, target)
        if target is not None and "ignore_boxes" in target and image.shape[-2:] != before:
            target["ignore_boxes"] = resize_boxes(target["ignore_boxes"], before, image.shape[-2:])
        return image, target


class IgnoreAwareRPN(RegionProposalNetwork):  # type: ignore[misc]
    """Background anchors inside an ignore region are never sampled; anchors of real objects are."""

    ignore_threshold: float = 0.5
    """Share of an anchor's own area inside one region above which it takes no part."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        spared = [
            drop_ignored_background(label, boxes, target.get("ignore_boxes"), self.ignore_threshold)
            for label, boxes, target in zip(labels, anchors, targets, strict=True)
        ]
        return spared, matched

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """torchvision's losses; 0 where an ignore region hides every anchor of the batch (a mean over none is NaN)."""
        if not any(bool((label >= BACKGROUND).any()) for label in labels):
            return zero_losses(objectness, pred_bbox_deltas)
        losses: tuple[Tensor, Tensor] = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        return losses


class IgnoreAwareRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoI heads whose losses leave out what nobody knows."""

    ignore_threshold: float = 0.5
    """Share of a proposal's own area inside one region above which it takes no part as background."""
    _regions: list[Tensor | None] | None = None

    def check_targets(self, targets: list[Target] | None) -> None:
        """torchvision's check, but masks may be missing."""
        if targets is None or not all("boxes" in item and "labels" in item for item in targets):
            raise ValueError("every target needs boxes and labels while training")

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        # torchvision calls assign_targets_to_proposals from in here, without the targets.
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
        spared = [
            drop_ignored_background(label, boxes, region, self.ignore_threshold)
            for label, boxes, region in zip(labels, proposals, regions, strict=True)
        ]
        return matched, spared

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """At inference torchvision's forward; while training its losses without what nobody knows."""
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
        """torchvision's mask loss over the positive proposals whose object has a mask; 0 when there is none."""
        chosen = [
            torch.where((label > 0) & _has_mask(target)[index])[0] if len(target["boxes"]) else index.new_empty(0)
            for label, target, index in zip(labels, targets, matched, strict=True)
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
    """(R, K + 1) bool: the classes that RoI r's image labels; None when every image labels every class.

    `labels`: per image the (R_i,) classes of its sampled RoIs. Background is always known, and so is what an
    image's own objects are, whatever `labelled` says.
    """
    masks = [item.get("labelled") for item in targets]
    if all(mask is None or bool(mask[1:].all()) for mask in masks):
        return None
    rows = []
    for mask, label, target in zip(masks, labels, targets, strict=True):
        known = torch.ones(n_classes, dtype=torch.bool, device=label.device) if mask is None else mask.clone()
        known[0] = True
        known[target["labels"]] = True
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
    known (R, K + 1) bool as from `known_classes`. A class that is not known stays out of the RoI's softmax: its
    logit gets gradient exactly 0, in the spirit of the partial-label losses of Zhao et al. 2020, "Object detection
    with a unified label space from multiple datasets". With `known` None this is torchvision's `fastrcnn_loss`; with no
    RoI (ignore regions hide all) both are 0.
    """
    if not len(class_logits):
        return zero_losses(class_logits, box_deltas)
    if known is not None:
        class_logits = class_logits.masked_fill(~known, float("-inf"))
    losses: tuple[Tensor, Tensor] = fastrcnn_loss(class_logits, box_deltas, labels, regression_targets)
    return losses


def zero_losses(scores: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Two losses of 0 that every prediction is part of: its gradient is 0, and a group of processes waits for
    nobody."""
    return scores.sum() * 0, deltas.sum() * 0


_OURS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "transform": (GeneralizedRCNNTransform, IgnoreAwareTransform),
    "rpn": (RegionProposalNetwork, IgnoreAwareRPN),
    "roi_heads": (RoIHeads, IgnoreAwareRoIHeads),
}


def make_ignore_aware(model: nn.Module, threshold: float = 0.5) -> nn.Module:
    """Turn a torchvision Faster / Mask R-CNN's transform, RPN and RoI heads into the ignore-aware ones, in place.

    Parameters, buffers and state dict keys stay as they are; doing it twice changes only the threshold. Returns the
    model. Raises TypeError for a model without these parts, with parts of another class, or with keypoints.
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
