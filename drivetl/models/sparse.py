"""The RPN's 3x3 convolution with a backward pass over the few positions that have a gradient.

The RPN's loss uses 256 sampled anchors per image. The gradient at its hidden layer is zero everywhere else, at about
99 % of the positions of a pyramid. A dense backward pass multiplies all those zeros, which takes a fifth of a training
step on a CPU. The forward pass is the dense one, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DENSE_FROM = 0.1
"""Share of positions with a gradient above which the dense backward pass is used, as it is faster there."""


def conv3x3(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """(N, C, H, W) -> (N, R, H, W) as `layer` computes it: 3x3, stride 1, padding 1, with a bias.

    On a CPU in fp32 its gradients are summed only over the positions where the incoming gradient is not zero: equal to
    the dense ones up to the order of summation. On other devices and dtypes it is the layer itself.
    """
    fits = layer.kernel_size == (3, 3) and layer.stride == layer.padding == layer.dilation == (1, 1)
    fits = fits and layer.groups == 1 and layer.bias is not None
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if not (fits and on_cpu and layer.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return layer(x)  # type: ignore[no-any-return]
    return _Conv3x3.apply(x, layer.weight, layer.bias)  # type: ignore[no-any-return]


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient, (x, weight), needed = gradients[0], ctx.saved_tensors, ctx.needs_input_grad
        by_position = gradient.permute(0, 2, 3, 1)  # a view: rows of channels in channels_last
        nonzero = (by_position != 0).any(-1)
        positions = nonzero.nonzero()
        if len(positions) > DENSE_FROM * nonzero.numel():
            dense = torch.ops.aten.convolution_backward(
                gradient, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, list(needed)
            )
            return tuple(dense)
        return _sparse(by_position[nonzero], positions, x, weight, needed)


def _sparse(
    rows: Tensor, positions: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight and bias from (K, R) gradients at (K, 3) positions (image, y, x)."""
    outputs, channels = weight.shape[:2]
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    height, width = padded.shape[1:3]
    image, top, left = positions.unbind(1)
    step = torch.arange(3)
    pixel_rows = (image * height + top)[:, None, None] + step[:, None]
    pixels = pixel_rows * width + left[:, None, None] + step  # (K, 3, 3) indices into the flattened padded map
    flat = pixels.reshape(-1)
    weight_gradient = x_gradient = None
    if needed[1]:
        patches = padded.reshape(-1, channels)[flat].view(len(rows), 9 * channels)
        weight_gradient = (rows.T @ patches).view(outputs, 3, 3, channels).permute(0, 3, 1, 2)
    if needed[0]:
        spread = (rows @ weight.permute(0, 2, 3, 1).reshape(outputs, 9 * channels)).view(-1, channels)
        summed = x.new_zeros((len(x) * height * width, channels)).index_add_(0, flat, spread)
        x_gradient = summed.view(padded.shape)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
    return x_gradient, weight_gradient, rows.sum(0) if needed[2] else None
