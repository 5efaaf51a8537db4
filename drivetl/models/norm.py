"""BatchNorm, frozen or trained by rule."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

SMALL_BATCH = 16
"""Below this many images per device, batch statistics are too noisy to fine-tune with (torchvision issue 6543)."""


class FusedFrozenBatchNorm2d(FrozenBatchNorm2d):  # type: ignore[misc]
    """FrozenBatchNorm2d as one fused call.

    torchvision's computes x * scale + bias with fp32 buffers: under autocast the activation is promoted to fp32 and
    passes through memory twice. `F.batch_norm` is the same arithmetic and keeps the activation's dtype.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def freeze_norm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d / FrozenBatchNorm2d in `module` by the fused frozen one, in place; returns the
    root, which is a new module if it is a BatchNorm itself."""
    if isinstance(module, FusedFrozenBatchNorm2d):
        return module
    if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
        frozen = FusedFrozenBatchNorm2d(module.running_mean.numel(), eps=module.eps)  # type: ignore[union-attr]
        state = {key: value for key, value in module.state_dict().items() if key != "num_batches_tracked"}
        frozen.load_state_dict(state)
        frozen.to(module.weight.device)
        return frozen
    for name, child in module.named_children():
        replacement = freeze_norm(child)
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
    if batch_size < SMALL_BATCH:
        return True, f"{batch_size} images per device are too few for batch statistics"
    return False, f"{batch_size} images per device are enough for batch statistics"
