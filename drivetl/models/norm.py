"""BatchNorm, frozen or trained by rule; a frozen one is folded into the convolution before it."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from drivetl.console.text import counted

SMALL_BATCH = 16
"""Below this many images per device, batch statistics are too noisy to fine-tune with (torchvision issue 6543)."""


class FusedFrozenBatchNorm2d(FrozenBatchNorm2d):  # type: ignore[misc]
    """FrozenBatchNorm2d as one fused call.

    torchvision's computes x * scale + bias with fp32 buffers: under autocast the activation is promoted to fp32 and
    passes through memory twice. `F.batch_norm` is the same arithmetic and keeps the activation's dtype.
    """

    folded = False
    """The convolution before it applies the scale and shift: the call returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        if self.folded:
            return x
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) and (C,): what an activation is multiplied with, and what is then added."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FoldedConv2d(nn.Conv2d):
    """A convolution without bias that applies the frozen BatchNorm after it with its own weights.

    conv(x, w) * scale + shift = conv(x, w * scale) + shift, which saves a pass over the activations forward and one
    backward. Parameters, buffers and their names are unchanged; values differ in rounding.
    """

    norm: tuple[FusedFrozenBatchNorm2d]
    """In a tuple, so that it is not a submodule here as well."""

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.norm[0].scale_and_shift()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)  # type: ignore[no-any-return]


_IN_ORDER = (nn.Sequential, IntermediateLayerGetter, BasicBlock, Bottleneck)
"""Modules of which a norm that is registered right after a convolution is the only one to read its output."""


def _fold(module: nn.Module) -> None:
    """Let every convolution of `module` without a bias apply the frozen norm that follows it."""
    for parent in module.modules():
        if not isinstance(parent, _IN_ORDER):
            continue
        for conv, norm in pairwise(parent.children()):
            if type(conv) is nn.Conv2d and conv.bias is None and isinstance(norm, FusedFrozenBatchNorm2d):
                conv.__class__ = FoldedConv2d
                vars(conv)["norm"] = (norm,)
                norm.folded = True


def freeze_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d / FrozenBatchNorm2d in `module` by the fused frozen one, folded into the convolution
    before it where there is one, in place; returns the root, which is a new module if it is a BatchNorm itself."""
    module = _frozen(module)
    _fold(module)
    return module


def _frozen(module: nn.Module) -> nn.Module:
    if isinstance(module, FusedFrozenBatchNorm2d):
        return module
    if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
        frozen = FusedFrozenBatchNorm2d(module.running_mean.numel(), eps=module.eps)  # type: ignore[union-attr]
        state = {key: value for key, value in module.state_dict().items() if key != "num_batches_tracked"}
        frozen.load_state_dict(state)
        frozen.to(module.weight.device)
        return frozen
    for name, child in module.named_children():
        replacement = _frozen(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def choose_norm(setting: str, start: str, batch_size: int) -> tuple[bool, str]:
    """(whether to freeze BatchNorm, the reason) for `auto`, `frozen`, `train`.

    Statistics of a random start must be trained; inherited ones are kept when batches are small.
    """
    if setting != "auto":
        return setting == "frozen", "as configured"
    if start == "none":
        return False, "a random start has no statistics to keep"
    images = f"{counted(batch_size, 'image')} per device {'is' if batch_size == 1 else 'are'}"
    if batch_size < SMALL_BATCH:
        return True, f"{images} too few for batch statistics"
    return False, f"{images} enough for batch statistics"
