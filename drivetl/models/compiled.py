"""`runtime.compile`: the backbone through torch.compile, or a word on why not."""

from __future__ import annotations

import torch
from torch import nn


def compile_backbone(model: nn.Module) -> str:
    """Compile the model's backbone in place (names of parameters stay), at its first use; what was done, in one line.

    Where this machine cannot compile (no C++ compiler, no Triton), the model is left as it is.
    """
    try:
        torch.compile(nn.ReLU())(torch.zeros(2))
    except (
        Exception
    ) as error:  # inductor's failures share no base class: a missing compiler, header, or Triton
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"backbone not compiled: {reason} - install a C++ compiler, or leave runtime.compile false"
    model.get_submodule("backbone.body").compile(dynamic=True)
    return "backbone compiled by torch.compile at its first use, which takes a minute or more"
