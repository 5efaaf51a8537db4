"""Backbones that torchvision's detection builders do not have: MobileNetV2-FPN and a tiny one for CPUs."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool
from torchvision.ops.misc import Conv2dNormActivation


def mobilenet_v2_fpn(out_channels: int = 128) -> BackboneWithFPN:
    """MobileNetV2 with a five-level pyramid at strides 4, 8, 16, 32, 64."""
    features = mobilenet_v2(weights=None).features
    levels = {"3": "0", "6": "1", "13": "2", "18": "3"}
    return BackboneWithFPN(features, levels, [24, 32, 96, 1280], out_channels, extra_blocks=LastLevelMaxPool())


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = Conv2dNormActivation(channels, channels)
        self.second = Conv2dNormActivation(channels, channels, activation_layer=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.second(self.first(x)))  # type: ignore[no-any-return]


class NoExtraLevel(ExtraFPNBlock):  # type: ignore[misc]
    """No level beyond the body's: without this class `BackboneWithFPN` would add a pooled one."""

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return results, names


def tiny_fpn(out_channels: int = 48) -> BackboneWithFPN:
    """A convolutional body with a four-level pyramid at strides 4, 8, 16, 32: trains from random weights in minutes on
    a CPU."""
    widths = (24, 40, 64, 96, 128)
    stages = [Conv2dNormActivation(3, widths[0], stride=2)]
    for before, after in pairwise(widths):
        stages.append(nn.Sequential(Conv2dNormActivation(before, after, stride=2), Residual(after)))
    body = nn.Sequential(*stages)
    levels = {"1": "0", "2": "1", "3": "2", "4": "3"}
    return BackboneWithFPN(
        body, levels, list(widths[1:]), out_channels, extra_blocks=NoExtraLevel(), norm_layer=nn.BatchNorm2d
    )
