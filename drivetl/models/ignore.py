"""Targets with unknown parts: ignore regions, boxes without masks, classes a source never labelled.

Subclasses of torchvision's modules with the same state dict keys. In addition to torchvision's keys, a target may have
- `ignore_boxes` (M, 4) xyxy px, M may be 0: regions that are neither object nor background,
- `labelled` (K + 1,) bool: the classes this image's source labels (index 0, background, counts as labelled); left out
  where all are, as to look into it would wait for the device,
- `has_mask` (N,) bool: which objects have a mask; a target without `masks` has none,
- `loss_weights` (2,): an image whose labels are less certain, such as pseudo-labels. The images of a batch with this
  key have losses of their own, whose classification part (RPN and RoI heads) counts by the first number and whose box
  part by the second: L = L(images without it) + weight * L(images with it), as in Liu et al. 2021, "Unbiased Teacher".
  It is the same in all images of a batch that have it. Masks are not weighted.
Without these keys, or where they change nothing (no region, every class labelled, every object with a mask), losses
are torchvision's bit for bit.

Limitation: the RPN does not distinguish classes, so an object of an unlabelled class is background to its objectness.
Where there are many such objects, write them as ignore regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    expand_boxes,
    expand_masks,
    fastrcnn_loss,
    maskrcnn_loss,
    paste_mask_in_image,
)
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops import boxes as box_ops

from drivetl.models import gpu, waits
from drivetl.models.gpu import Shape

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


class IgnoreAwareRCNN(GeneralizedRCNN):  # type: ignore[misc]
    """In training, boxes on a GPU are not checked for a positive size: that would wait once per image, and the loader
    leaves such boxes out."""

    def forward(self, images: list[Tensor], targets: list[Target] | None = None) -> Any:
        if not self.training or not targets or not waits.waits_for(targets[0]["boxes"].device):
            return super().forward(images, targets)
        batch, targets = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        proposals, losses = self.rpn(batch, features, targets)
        return self.roi_heads(features, proposals, batch.image_sizes, targets)[1] | losses


LossGroup = tuple[list[int], Tensor | None]
"""The images of a batch whose losses are a mean of their own, and the (2,) weights of their losses; None: 1."""


def loss_groups(targets: list[Target]) -> list[LossGroup]:
    """The images without `loss_weights`, and those with it; a group without images is left out."""
    weighted = [row for row, target in enumerate(targets) if "loss_weights" in target]
    plain = [row for row in range(len(targets)) if row not in weighted]
    groups: list[LossGroup] = [(plain, None)] if plain or not weighted else []
    return groups + ([(weighted, targets[weighted[0]]["loss_weights"])] if weighted else [])


def added(losses: list[tuple[Tensor, Tensor]], groups: list[LossGroup]) -> tuple[Tensor, Tensor]:
    """The (classification, box) losses of the groups, weighted and added."""
    weighted = [
        pair if weights is None else (pair[0] * weights[0], pair[1] * weights[1])
        for pair, (_, weights) in zip(losses, groups, strict=True)
    ]
    if len(weighted) == 1:
        return weighted[0]
    return weighted[0][0] + weighted[1][0], weighted[0][1] + weighted[1][1]


class IgnoreAwareTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Resizes `ignore_boxes` together with the boxes; constants are copied to the device once."""

    fixed_shapes: tuple[Shape, ...] = ()
    """(height, width) that training batches are padded to with zeros, the smallest that holds them; evaluation never
    is."""

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        batch: Tensor = super().batch_images(images, size_divisible)
        shape = gpu.smallest_fit((batch.shape[2], batch.shape[3]), self.fixed_shapes) if self.training else None
        if shape is None:
            return batch
        return F.pad(batch, (0, shape[1] - batch.shape[3], 0, shape[0] - batch.shape[2]))

    def normalize(self, image: Tensor) -> Tensor:
        if torchvision._is_tracing() or not image.is_floating_point():
            return super().normalize(image)  # type: ignore[no-any-return]
        mean, std = (waits.constant(tuple(v), image.dtype, image.device) for v in (self.image_mean, self.image_std))
        return (image - mean[:, None, None]) / std[:, None, None]

    def resize(self, image: Tensor, target: Target | None = None) -> tuple[Tensor, Target | None]:
        before = image.shape[-2:]
        image, _ = super().resize(image, None)
        if target is None or image.shape[-2:] == before:
            return image, target
        resized = dict(target)
        for key in ("boxes", "ignore_boxes"):
            if key in target:
                resized[key] = _scaled(target[key], before, image.shape[-2:])
        if "masks" in target:
            resized["masks"] = F.interpolate(target["masks"][:, None].float(), size=image.shape[-2:])[:, 0].byte()
        return image, resized

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[Shape], original_image_sizes: list[Shape]
    ) -> list[dict[str, Tensor]]:
        """torchvision's; on a GPU it waits once for the corners of a batch's masks, and not at all without masks."""
        if self.training or not result or not waits.waits_for(result[0]["boxes"].device) or torchvision._is_tracing():
            return super().postprocess(result, image_shapes, original_image_sizes)  # type: ignore[no-any-return]
        for found, before, after in zip(result, image_shapes, original_image_sizes, strict=True):
            found["boxes"] = _scaled(found["boxes"], before, after)
        if "masks" in result[0]:
            masks = _pasted(
                [found["masks"] for found in result], [found["boxes"] for found in result], original_image_sizes
            )
            for found, mask in zip(result, masks, strict=True):
                found["masks"] = mask
        return result


def _pasted(masks: list[Tensor], boxes: list[Tensor], sizes_hw: list[Shape]) -> list[Tensor]:
    """torchvision's `paste_masks_in_image` of every image, (N, 1, M, M) and (N, 4) -> (N, 1, H, W), whose corners are
    read by the host at once."""
    padded, scale = zip(*(expand_masks(item, padding=1) for item in masks), strict=True)
    corners = iter(expand_boxes(torch.cat(boxes), scale[0]).to(torch.int64).tolist())
    images = []
    for crops, (height, width) in zip(padded, sizes_hw, strict=True):
        pasted = [paste_mask_in_image(crop[0], next(corners), height, width) for crop in crops]
        images.append(torch.stack(pasted)[:, None] if pasted else crops.new_empty((0, 1, height, width)))
    return images


def _scaled(boxes: Tensor, before_hw: Sequence[int], after_hw: Sequence[int]) -> Tensor:
    """torchvision's `resize_boxes` to the bit, without copying the ratios to the device."""
    y, x = (np.float32(after) / np.float32(before) for before, after in zip(before_hw, after_hw, strict=True))
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([left * float(x), top * float(y), right * float(x), bottom * float(y)], 1)


class IgnoreAwareRPN(RegionProposalNetwork):  # type: ignore[misc]
    """Background anchors inside an ignore region are never sampled; anchors of real objects are."""

    ignore_threshold: float = 0.5
    """A background anchor with more than this share of its own area inside one region is ignored."""
    _groups: list[LossGroup] | None = None

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        self._groups = loss_groups(targets)  # compute_loss is called next, without the targets
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        labels = [
            drop_ignored_background(label, boxes, target.get("ignore_boxes"), self.ignore_threshold)
            for label, boxes, target in zip(labels, anchors, targets, strict=True)
        ]
        return labels, matched

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """torchvision's losses over the same sampled anchors (Ren et al. 2015, "Faster R-CNN", eq. 1); 0 where ignore
        regions cover every anchor of the batch: torchvision's are then NaN, the mean over no anchor. Those of images
        with `loss_weights` are weighted and added."""
        starts = accumulate(map(len, labels[:-1]), initial=0)  # of each image among all anchors
        drawn = list(zip(waits.sample(labels, self.fg_bg_sampler), starts, strict=True))
        all_labels, all_targets = torch.cat(labels), torch.cat(regression_targets)
        groups, losses = self._groups or [(list(range(len(labels))), None)], []
        for rows, _ in groups:
            positive = torch.cat([drawn[row][0][0] + drawn[row][1] for row in rows])
            sampled = torch.cat([positive] + [drawn[row][0][1] + drawn[row][1] for row in rows])
            if not len(sampled):
                losses.append(zero_losses(objectness, pred_bbox_deltas))
                continue
            wanted = all_targets[positive]
            box_loss = F.smooth_l1_loss(pred_bbox_deltas[positive], wanted, beta=1 / 9, reduction="sum") / len(sampled)
            score_loss = F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], all_labels[sampled])
            losses.append((score_loss, box_loss))
        return added(losses, groups)

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """torchvision's proposals; on a GPU those of the whole batch are filtered with a few waits, see
        `waits.nms_per_image`."""
        if not waits.waits_for(proposals.device) or torchvision._is_tracing():
            return super().filter_proposals(  # type: ignore[no-any-return]
                proposals, objectness, image_shapes, num_anchors_per_level
            )
        logits = objectness.detach().reshape(len(proposals), -1)
        best = self._get_top_n_idx(logits, num_anchors_per_level)  # (N, A)
        levels = torch.stack([best >= end for end in accumulate(num_anchors_per_level)]).sum(0)
        scores = torch.sigmoid(logits.gather(1, best))
        found = proposals.gather(1, best[:, :, None].expand(-1, -1, 4))
        boxes = torch.stack(
            [box_ops.clip_boxes_to_image(box, shape) for box, shape in zip(found, image_shapes, strict=True)]
        )
        large = (boxes[:, :, 2:] - boxes[:, :, :2] >= self.min_size).all(2)
        usable = large & (scores >= self.score_thresh)
        kept = waits.nms_per_image(boxes, scores, levels, usable, self.nms_thresh, self.post_nms_top_n())
        flat_boxes, flat_scores = boxes.flatten(0, 1), scores.flatten()
        return [flat_boxes[index] for index in kept], [flat_scores[index] for index in kept]


class IgnoreAwareRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoI heads whose losses exclude the unknown parts of targets."""

    ignore_threshold: float = 0.5
    """A background proposal with more than this share of its own area inside one region is ignored."""
    _regions: list[Tensor | None] | None = None
    _n_positive: tuple[int, ...] = ()
    """Positive proposals of each image in the last sample of a batch."""

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

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        drawn = waits.sample(labels, self.fg_bg_sampler)
        self._n_positive = tuple(len(positive) for positive, _ in drawn)
        return [torch.cat(both).sort().values for both in drawn]

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
        groups, counts = loss_groups(targets), list(map(len, labels))
        box_losses = added(
            [
                roi_loss(
                    _rows_of(class_logits, counts, rows),
                    _rows_of(box_deltas, counts, rows),
                    [labels[row] for row in rows],
                    [regression_targets[row] for row in rows],
                    None if known is None else _rows_of(known, counts, rows),
                    sum(self._n_positive[row] for row in rows),
                )
                for rows, _ in groups
            ],
            groups,
        )
        losses = dict(zip(("loss_classifier", "loss_box_reg"), box_losses, strict=True))
        if self.has_mask():
            losses["loss_mask"] = self._mask_loss(features, proposals, image_shapes, targets, labels, matched)
        return [], losses

    def postprocess_detections(
        self, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> waits.Found:
        """torchvision's detections; on a GPU those of the whole batch are found with a few waits."""
        if waits.waits_for(class_logits.device) and not torchvision._is_tracing():
            counts = [len(boxes) for boxes in proposals]
            decoded = self.box_coder.decode(box_regression, proposals).reshape(*class_logits.shape, 4)
            boxes = [
                box_ops.clip_boxes_to_image(part, shape)
                for part, shape in zip(torch.split(decoded, counts), image_shapes, strict=True)
            ]
            scores = list(torch.split(F.softmax(class_logits, -1), counts))
            limits = {"above": self.score_thresh, "threshold": self.nms_thresh, "most": self.detections_per_img}
            found = waits.detections_per_image(boxes, scores, **limits)
            if found is not None:
                return found
        return super().postprocess_detections(  # type: ignore[no-any-return]
            class_logits, box_regression, proposals, image_shapes
        )

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
        counts = waits.counts_of(used)  # one wait for the whole batch
        chosen = [waits.positions(item, count) for item, count in zip(used, counts, strict=True)]
        boxes = [item[index] for item, index in zip(proposals, chosen, strict=True)]
        objects = [item[index] for item, index in zip(matched, chosen, strict=True)]
        pooled = self.mask_head(self.mask_roi_pool(features, boxes, image_shapes))
        logits = self.mask_predictor(pooled)
        masks = [item["masks"] if "masks" in item else logits.new_zeros((len(item["boxes"]), 1, 1)) for item in targets]
        loss: Tensor = maskrcnn_loss(logits, boxes, masks, [item["labels"] for item in targets], objects)
        return loss


def _rows_of(rows: Tensor, counts: list[int], images: list[int]) -> Tensor:
    """Those of (R, ...) rows that belong to some of the images, of which each has `counts` rows in order."""
    if len(images) == len(counts):
        return rows
    parts = torch.split(rows, counts)
    return torch.cat([parts[image] for image in images])


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
    n_positive: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(classification loss, box loss) of R sampled RoIs.

    class_logits (R, K + 1), box_deltas (R, 4 (K + 1)), labels and regression_targets per image (R_i,), (R_i, 4);
    known (R, K + 1) bool as from `known_classes`. A class that is not known is excluded from the RoI's softmax: the
    gradient of its logit is exactly 0, similar to the partial-label losses of Zhao et al. 2020, "Object detection with
    a unified label space from multiple datasets". With `known` None this is torchvision's `fastrcnn_loss`, to the bit;
    `n_positive`, where it is known, saves the wait for the number of positive RoIs. Without RoIs (ignore regions cover
    everything) both losses are 0.
    """
    if not len(class_logits):
        return zero_losses(class_logits, box_deltas)
    if known is not None:
        class_logits = class_logits.masked_fill(~known, float("-inf"))
    if n_positive is None:
        losses: tuple[Tensor, Tensor] = fastrcnn_loss(class_logits, box_deltas, labels, regression_targets)
        return losses
    classes, wanted = torch.cat(labels), torch.cat(regression_targets)
    positive = waits.positions(classes > 0, n_positive)
    deltas = box_deltas.view(len(classes), -1, 4)[positive, classes[positive]]  # (P, 4) those of the own class
    box_loss = F.smooth_l1_loss(deltas, wanted[positive], beta=1 / 9, reduction="sum") / len(classes)
    return F.cross_entropy(class_logits, classes), box_loss


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
    model.__class__ = IgnoreAwareRCNN
    for part in (model.rpn, heads):
        _replace(part, "proposal_matcher", Matcher, waits.FixedShapeMatcher)
        _replace(part, "box_coder", BoxCoder, waits.CachedBoxCoder)
    for name in ("box_roi_pool", "mask_roi_pool"):
        _replace(heads, name, MultiScaleRoIAlign, waits.CountedRoIAlign)
    return model


def _replace(owner: Any, name: str, theirs: type, ours: type) -> None:
    """Give an attribute of exactly that class ours, which adds no state; anything else is left as it is."""
    part = getattr(owner, name)
    if type(part) is theirs:
        part.__class__ = ours
