"""Names of a state dict's tensors: old names translated to current ones, batch counters left out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

State = dict[str, Tensor]


def modern_keys(state: State) -> State:
    """The state under current torchvision's keys: wrappers' prefixes removed, single convolutions as blocks of one.

    torchvision renames `fpn.inner_blocks.0.weight`, `rpn.head.conv.weight` and `mask_fcn1.weight` of its older
    checkpoints while loading; here it must happen earlier, or the tensors would count as missing.
    """
    for prefix in ("module.", "_orig_mod.", "model."):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return {_modern(key): value for key, value in state.items()}


def _modern(key: str) -> str:
    key = re.sub(r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", key)
    key = re.sub(r"(^|\.)(rpn\.head\.conv)\.(weight|bias)$", r"\1\2.0.0.\3", key)
    return re.sub(r"(\.mask_head)\.mask_fcn(\d+)\.(weight|bias)$", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}", key)


def without_counters(state: Mapping[str, Tensor]) -> State:
    """The state without batch counters: frozen BatchNorm has none, and a trained one with fixed momentum ignores it."""
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
