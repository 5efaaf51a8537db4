"""Detectors by name: torchvision's builders, made exact under autocast, ignore-aware and ready for a new label set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, MobileNet_V3_Large_Weights, ResNet50_Weights, detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from drivetl.errors import ConfigError, nearest
from drivetl.models import backbones
from drivetl.models.ignore import make_ignore_aware
from drivetl.models.norm import freeze_norm
from drivetl.models.precision import make_exact

Stages = tuple[tuple[str, ...], ...]
"""Names of the children of `backbone.body`, grouped into stages from the image upwards."""

_RESNET: Stages = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_MOBILENET_V2: Stages = (
    ("0", "1"),
    ("2", "3"),
    ("4", "5", "6"),
    tuple(map(str, range(7, 14))),
    tuple(map(str, range(14, 19))),
)
_MOBILENET_V3: Stages = (
    ("0", "1"),
    ("2", "3"),
    ("4", "5", "6"),
    tuple(map(str, range(7, 13))),
    tuple(map(str, range(13, 17))),
)


@dataclass(frozen=True)
class Architecture:
    """How to build a detector, which pretrained weights exist for it, and its stages."""

    build: Callable[..., nn.Module]
    """(num_classes including background, **torchvision's FasterRCNN arguments) -> model with random weights."""
    stages: Stages
    coco: Any = None
    """torchvision's weights enum of the whole detector; None: not published."""
    imagenet: Any = None
    """torchvision's weights enum of the backbone; None: not published."""
    depthwise: bool = False
    """Depthwise convolutions gain from channels_last on a CPU even in fp32."""
    masks: bool = False
    """Whether it is a Mask R-CNN."""


def _torchvision(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def build(num_classes: int, **arguments: Any) -> nn.Module:
        model: nn.Module = builder(weights=None, weights_backbone=None, num_classes=num_classes, **arguments)
        return model

    return build


def slim(
    num_classes: int,
    *,
    backbone: Callable[[], BackboneWithFPN],
    width: int,
    anchor_sizes: tuple[float, ...],
    kind: type[FasterRCNN] = FasterRCNN,
    **arguments: Any,
) -> nn.Module:
    """A detector on a backbone, with one anchor size (px) per pyramid level and a slim box head of that width.

    On a CPU the RoI branch takes most of the time.
    """
    pyramid = backbone()
    anchors = AnchorGenerator(tuple((size,) for size in anchor_sizes), ((0.5, 1.0, 2.0),) * len(anchor_sizes))
    head = TwoMLPHead(pyramid.out_channels * 7 * 7, width)
    predictor = FastRCNNPredictor(width, num_classes)
    model: nn.Module = kind(pyramid, rpn_anchor_generator=anchors, box_head=head, box_predictor=predictor, **arguments)
    return model


def _mobilenet_v2(num_classes: int, *, channels: int = 128, **arguments: Any) -> nn.Module:
    backbone = partial(backbones.mobilenet_v2_fpn, channels)
    return slim(num_classes, backbone=backbone, width=512, anchor_sizes=(16.0, 32.0, 64.0, 128.0, 256.0), **arguments)


def _mask_mobilenet_v2(num_classes: int, *, channels: int = 128, **arguments: Any) -> nn.Module:
    """The same detector with a mask branch: two convolutions as wide as the pyramid, half of torchvision's four."""
    return _mobilenet_v2(
        num_classes,
        channels=channels,
        kind=MaskRCNN,
        mask_head=MaskRCNNHeads(channels, (channels, channels), 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes),
        **arguments,
    )


def _resnet(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, **arguments: Any) -> nn.Module:
        backbone = resnet_fpn_backbone(backbone_name=name, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
        model: nn.Module = FasterRCNN(backbone, num_classes, **arguments)
        return model

    return build


ARCHITECTURES: dict[str, Architecture] = {
    "fasterrcnn_resnet50_fpn_v2": Architecture(
        _torchvision(detection.fasterrcnn_resnet50_fpn_v2),
        _RESNET,
        detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        ResNet50_Weights.IMAGENET1K_V2,
    ),
    "fasterrcnn_resnet50_fpn": Architecture(
        _torchvision(detection.fasterrcnn_resnet50_fpn),
        _RESNET,
        detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
        ResNet50_Weights.IMAGENET1K_V1,
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Architecture(
        _torchvision(detection.fasterrcnn_mobilenet_v3_large_fpn),
        _MOBILENET_V3,
        detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
        MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        depthwise=True,
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Architecture(
        _torchvision(detection.fasterrcnn_mobilenet_v3_large_320_fpn),
        _MOBILENET_V3,
        detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        depthwise=True,
    ),
    "fasterrcnn_mobilenet_v2_fpn": Architecture(
        _mobilenet_v2, _MOBILENET_V2, None, MobileNet_V2_Weights.IMAGENET1K_V2, depthwise=True
    ),
    "maskrcnn_resnet50_fpn": Architecture(
        _torchvision(detection.maskrcnn_resnet50_fpn),
        _RESNET,
        detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1,
        ResNet50_Weights.IMAGENET1K_V1,
        masks=True,
    ),
    "maskrcnn_resnet50_fpn_v2": Architecture(
        _torchvision(detection.maskrcnn_resnet50_fpn_v2),
        _RESNET,
        detection.MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        ResNet50_Weights.IMAGENET1K_V2,
        masks=True,
    ),
    "maskrcnn_mobilenet_v2_fpn": Architecture(
        _mask_mobilenet_v2, _MOBILENET_V2, None, MobileNet_V2_Weights.IMAGENET1K_V2, depthwise=True, masks=True
    ),
    "fasterrcnn_mobilenet_v2_lite_fpn": Architecture(
        partial(_mobilenet_v2, channels=64), _MOBILENET_V2, None, MobileNet_V2_Weights.IMAGENET1K_V2, depthwise=True
    ),
    "maskrcnn_mobilenet_v2_lite_fpn": Architecture(
        partial(_mask_mobilenet_v2, channels=64),
        _MOBILENET_V2,
        None,
        MobileNet_V2_Weights.IMAGENET1K_V2,
        depthwise=True,
        masks=True,
    ),
    "fasterrcnn_resnet18_fpn": Architecture(_resnet("resnet18"), _RESNET),
    "fasterrcnn_resnet101_fpn": Architecture(_resnet("resnet101"), _RESNET),
    "fasterrcnn_tiny_fpn": Architecture(
        partial(slim, backbone=backbones.tiny_fpn, width=256, anchor_sizes=(12.0, 24.0, 48.0, 96.0)),
        stages=(("0",), ("1",), ("2",), ("3",), ("4",)),
    ),
}


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to rebuild a detector before its weights are loaded; saved next to them as model.json."""

    arch: str
    categories: tuple[str, ...]
    min_size: int
    max_size: int
    proposals_train: int
    proposals_test: int
    rois_per_image: int
    detections_per_image: int
    score_threshold: float
    frozen_norm: bool
    anchor_sizes: tuple[tuple[float, ...], ...] | None = None
    """Per pyramid level, px at network input; None: the architecture's own."""
    anchor_ratios: tuple[tuple[float, ...], ...] | None = None
    """Per pyramid level, height over width."""


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises ConfigError with the nearest known name."""
    if name not in ARCHITECTURES:
        raise ConfigError(f"model.arch {name!r} is unknown", remedy=nearest(name, ARCHITECTURES))
    return ARCHITECTURES[name]


def box_architecture(name: str) -> str:
    """The Faster R-CNN that remains of a Mask R-CNN without its mask branch; a Faster R-CNN's name is unchanged."""
    return name.replace("maskrcnn_", "fasterrcnn_", 1)


def build_model(spec: ModelSpec) -> nn.Module:
    """A detector with random weights for the classes of `spec`, exact under autocast and aware of ignore regions."""
    model = architecture(spec.arch).build(
        num_classes=len(spec.categories) + 1,
        min_size=spec.min_size,
        max_size=spec.max_size,
        rpn_pre_nms_top_n_train=2 * spec.proposals_train,
        rpn_pre_nms_top_n_test=2 * spec.proposals_test,
        rpn_post_nms_top_n_train=spec.proposals_train,
        rpn_post_nms_top_n_test=spec.proposals_test,
        rpn_score_thresh=0.0,
        box_batch_size_per_image=spec.rois_per_image,
        box_detections_per_img=spec.detections_per_image,
        box_score_thresh=spec.score_threshold,
    )
    if spec.anchor_sizes is not None:
        set_anchors(model, spec.anchor_sizes, spec.anchor_ratios)
    make_exact(model)
    make_ignore_aware(model)
    if spec.frozen_norm:
        freeze_norm(model)
    return model


def set_anchors(
    model: nn.Module, sizes: tuple[tuple[float, ...], ...], ratios: tuple[tuple[float, ...], ...] | None
) -> None:
    """Replace the anchors, and the RPN head's last layers when the count per location changes. Raises ConfigError."""
    ratios = ratios or ((0.5, 1.0, 2.0),) * len(sizes)
    old: Any = model.rpn.anchor_generator  # type: ignore[union-attr]
    if len(sizes) != len(old.sizes) or len(ratios) != len(sizes):
        raise ConfigError(
            f"anchors for {len(sizes)} levels, the pyramid has {len(old.sizes)}", remedy="give one tuple per level"
        )
    counts = [len(size) * len(ratio) for size, ratio in zip(sizes, ratios, strict=True)]
    if len(set(counts)) != 1:
        raise ConfigError(
            f"anchors per location differ between levels ({counts})", remedy="the RPN head is shared, make them equal"
        )
    model.rpn.anchor_generator = AnchorGenerator(sizes, ratios)  # type: ignore[union-attr]
    if counts[0] != old.num_anchors_per_location()[0]:
        head: Any = model.rpn.head  # type: ignore[union-attr]
        model.rpn.head = RPNHead(head.cls_logits.in_channels, counts[0], conv_depth=len(head.conv))  # type: ignore[union-attr]


def stage_parameters(model: nn.Module, arch: str) -> list[list[tuple[str, nn.Parameter]]]:
    """Named parameters grouped bottom to top: the backbone's stages, then the neck (FPN), then the heads."""
    groups: list[tuple[str, ...]] = [
        tuple(f"backbone.body.{name}." for name in names) for names in ARCHITECTURES[arch].stages
    ]
    groups += [("backbone.fpn.",), ("rpn.", "roi_heads.")]
    grouped = [[(name, p) for name, p in model.named_parameters() if name.startswith(prefixes)] for prefixes in groups]
    missing = sum(1 for _ in model.parameters()) - sum(map(len, grouped))
    assert missing == 0, f"{missing} parameters of {arch} belong to no stage"
    return grouped


ON_THE_HOST = ("image_id", "stream", "skipped")
"""Keys of a target that the network does not read."""


def forward_uint8(
    model: nn.Module, images: list[Tensor], device: torch.device, targets: list[dict[str, Tensor]] | None = None
) -> Any:
    """Run a detector on (3, H, W) uint8 RGB tensors, which are copied to the device as bytes and converted to floats
    there."""
    floats = [image.to(device, non_blocking=True).float().div_(255.0) for image in images]
    if targets is None:
        return model(floats)
    moved = [
        {key: value.to(device, non_blocking=True) for key, value in target.items() if key not in ON_THE_HOST}
        for target in targets
    ]
    return model(floats, moved)
