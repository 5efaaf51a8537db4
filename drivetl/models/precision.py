"""Which number format is fastest on this device, and the casts that keep boxes exact under autocast.

torchvision decodes boxes in the dtype of the head's output and makes anchors in the dtype of the features: under
bf16 autocast both are rounded to whole pixels (2 px beyond x = 256, 4 px beyond 512). The subclasses here cast where
predictions leave a head: boxes and losses are computed in fp32, everything before them in the fast format.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from drivetl.models.sparse import conv3x3


def choose_precision(setting: str, device: torch.device) -> tuple[torch.dtype, str]:
    """(dtype of autocast, the reason) for `auto`, `fp32`, `bf16`."""
    if setting == "fp32":
        return torch.float32, "as configured"
    if setting == "bf16":
        return torch.bfloat16, "as configured"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes in bf16"
        return torch.float32, "the GPU has no bf16 units"
    extensions = _cpu_flags() & {"avx512_bf16", "amx_bf16"}
    if extensions:
        return torch.bfloat16, f"the CPU has {' and '.join(sorted(extensions))}"
    return torch.float32, "the CPU has no bf16 instructions"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())


class ExactRPNHead(RPNHead):  # type: ignore[misc]
    """RPNHead that returns logits and deltas in fp32, so that proposals are decoded in fp32; those of an anchor do not
    depend on how many other anchors there are."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [self._hidden(item) for item in x]
        logits = [conv_by_row(item, self.cls_logits).float() for item in hidden]
        return logits, [conv_by_row(item, self.bbox_pred).float() for item in hidden]

    def _hidden(self, x: Tensor) -> Tensor:
        for convolution, activation in self.conv:
            x = activation(conv3x3(x, convolution))
        return x


class ExactPredictor(FastRCNNPredictor):  # type: ignore[misc]
    """FastRCNNPredictor that returns scores and deltas in fp32; those of a class do not depend on the other classes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(start_dim=1)
        return linear_by_row(x, self.cls_score).float(), linear_by_row(x, self.bbox_pred).float()


def linear_by_row(x: Tensor, layer: nn.Linear) -> Tensor:
    """(N, C) -> (N, R) as `layer` computes it; the bits of an output do not depend on the layer's other rows.

    A BLAS sums in another order for matrices of few rows and for the remainder of a block. Padding with rows of zeros
    to a multiple of 16 keeps all rows in the same kernel, so that a class moved to another head scores exactly as
    before.
    """
    if torchvision._is_tracing():  # an exported graph must contain the layer's own constants
        return layer(x)  # type: ignore[no-any-return]
    rows = layer.out_features
    padding = -rows % 16
    weight, bias = F.pad(layer.weight, (0, 0, 0, padding)), F.pad(layer.bias, (0, padding))
    return F.linear(x, weight, bias)[:, :rows]


def conv_by_row(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """(N, C, H, W) -> (N, R, H, W) by a 1x1 convolution; the bits of a channel do not depend on the other channels."""
    if torchvision._is_tracing():
        return layer(x)  # type: ignore[no-any-return]
    rows, padding = layer.out_channels, -layer.out_channels % 16  # for the reason given in `linear_by_row`
    weight = F.pad(layer.weight, (0, 0, 0, 0, 0, 0, 0, padding))
    bias = None if layer.bias is None else F.pad(layer.bias, (0, padding))
    return F.conv2d(x, weight, bias)[:, :rows]


class ExactMaskPredictor(MaskRCNNPredictor):  # type: ignore[misc]
    """MaskRCNNPredictor that returns logits in fp32; those of a class do not depend on the other classes."""

    def forward(self, x: Tensor) -> Tensor:
        return conv_by_row(self.relu(self.conv5_mask(x)), self.mask_fcn_logits).float()


class ExactAnchorGenerator(AnchorGenerator):  # type: ignore[misc]
    """AnchorGenerator whose anchors are fp32 whatever the dtype of the features."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        # torchvision reads only the shape, dtype and device of the maps: a broadcast scalar has all three for free
        placeholders = [item.new_zeros((), dtype=torch.float32).expand(item.shape) for item in feature_maps]
        return super().forward(image_list, placeholders)  # type: ignore[no-any-return]


_EXACT: dict[type[nn.Module], type[nn.Module]] = {
    RPNHead: ExactRPNHead,
    FastRCNNPredictor: ExactPredictor,
    MaskRCNNPredictor: ExactMaskPredictor,
    AnchorGenerator: ExactAnchorGenerator,
}


def make_exact(model: nn.Module) -> None:
    """Turn a torchvision detector's heads and anchor generator into the exact ones, in place; weights are unchanged."""
    for module in model.modules():
        exact = _EXACT.get(type(module))
        if exact is not None:
            module.__class__ = exact
