"""Reading tensors from disk and loading them into a model: each is accounted for, and no pickle is ever executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from drivetl.errors import CheckpointError
from drivetl.models.state_keys import State, without_counters
from drivetl.models.surgery import and_more

_DETECTOR = re.compile(r"(^|\.)(roi_heads|rpn|fpn)\.")


def portable_state(model: nn.Module) -> State:
    """Weights on the CPU, contiguous, without batch counters: frozen and trained BatchNorm have the same keys."""
    return {key: value.detach().cpu().contiguous() for key, value in without_counters(model.state_dict()).items()}


def read_weights(path: Path) -> State:
    """A flat dict of finite floating-point tensors from .safetensors or a torch file, never executing code.

    Raises CheckpointError that names the file, and the tensor where one is invalid.
    """
    if path.suffix == ".safetensors":
        return parse_safetensors(read_bytes(path), path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # with arbitrary bytes torch raises exceptions of any class
        reason, remedy = _unreadable(error)
        raise CheckpointError(reason, remedy=remedy, file=path) from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(
            f"expected a dict of tensors, found {type(loaded).__name__}", remedy="save model.state_dict()", file=path
        )
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"expected a dict of tensors, {key!r} is of type {type(value).__name__}",
                remedy="save model.state_dict()",
                file=path,
            )
    return _checked({str(key): value for key, value in loaded.items()}, path)


def _unreadable(error: Exception) -> tuple[str, str]:
    """(what is wrong with a torch file, from the first sentence of torch's own message; the remedy)."""
    text = str(error).split("WeightsUnpickler error:")[-1].strip()
    code = re.search(r"GLOBAL (\S+)", text)
    if code:
        reason = f"contains code (a pickled {code[1]}), which is never run"
        return reason, "save model.state_dict() alone, or a safetensors file"
    reason = re.split(r"[.:]?\s*\n|\. ", text)[0] or type(error).__name__
    return f"not a file of plain weights ({reason})", "it is damaged: download or save it again"


def parse_safetensors(data: bytes, path: Path) -> State:
    """The finite floating-point tensors of a safetensors file's bytes. Raises CheckpointError."""
    try:
        state = dict(load_safetensors(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"not a safetensors file ({error})", remedy="it may be truncated: download or save it again", file=path
        ) from None
    return _checked(state, path)


def _checked(state: State, path: Path) -> State:
    """The state, if every tensor can be a model's weight. Raises CheckpointError that names the first that cannot."""
    for key, value in without_counters(state).items():
        if not value.is_floating_point() or value.layout is not torch.strided or value.is_meta:
            kind = f"{value.dtype}, {value.layout}, {value.device}".replace("torch.", "")
            raise CheckpointError(
                f"tensor {key}: expected dense floating-point numbers, found {kind}",
                remedy="save the weights as they were trained",
                file=path,
            )
        if value.ndim == 0 and _DETECTOR.search(key):
            raise CheckpointError(
                f"tensor {key}: a single number", remedy="use weights of this architecture", file=path
            )
        if not bool(value.float().isfinite().all()):
            raise CheckpointError(
                f"tensor {key}: contains values that are not finite",
                remedy="use weights saved before the training diverged",
                file=path,
            )
    return state


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises CheckpointError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"cannot be read ({error.strerror or error})", remedy="check the path", file=path
        ) from None


def load_strict(model: nn.Module, state: State, path: Path) -> None:
    """Load every tensor. Raises CheckpointError that names the tensors that are missing, unknown or of another
    shape."""
    own, state = without_counters(model.state_dict()), without_counters(state)
    wrong = [
        key
        for key in sorted(own.keys() | state.keys())
        if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if wrong:
        expected, actual = (tuple(part[wrong[0]].shape) if wrong[0] in part else "nothing" for part in (own, state))
        raise CheckpointError(
            f"{path}: tensor {wrong[0]}: expected {expected}, found {actual}{and_more(wrong)}",
            remedy="use weights of this architecture",
        )
    model.load_state_dict(state, strict=False)


def load_backbone(model: nn.Module, state: State, description: str) -> int:
    """Load a classifier's features into `backbone.body`, by name, or in order when only the names differ.

    description: of the weights, for errors. Returns the number of tensors loaded. Raises CheckpointError that names the
    first tensor that does not fit, or a tensor of a detector under other names than torchvision's: such a file cannot
    be loaded in order.
    """
    body: Any = model.backbone.body  # type: ignore[union-attr]
    own = without_counters(body.state_dict())
    state = {key.removeprefix("features."): value for key, value in without_counters(state).items()}
    if not own.keys() <= state.keys():
        detector_key = next((key for key in state if _DETECTOR.search(key)), None)
        if detector_key is not None:
            raise CheckpointError(
                f"{description}: tensor {detector_key}: a detector's, but roi_heads.box_predictor.cls_score.weight is"
                " missing",
                remedy="save a detector under torchvision's names, or its backbone's body alone",
            )
        if len(state) < len(own):
            raise CheckpointError(
                f"{description}: {len(state)} tensors found, the backbone has {len(own)}",
                remedy="use weights of this architecture",
            )
        state = dict(zip(own, state.values(), strict=False))
    for key, value in own.items():
        if value.shape != state[key].shape:
            raise CheckpointError(
                f"{description}: tensor {key}: expected {tuple(value.shape)}, found {tuple(state[key].shape)}",
                remedy="use weights of this architecture",
            )
    body.load_state_dict({key: state[key] for key in own}, strict=False)
    return len(own)
