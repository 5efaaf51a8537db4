"""Tensors on disk, and into a model: every one is accounted for, and no pickle is ever executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from drivetl.errors import CheckpointError
from drivetl.models.surgery import and_more

State = dict[str, Tensor]


def portable_state(model: nn.Module) -> State:
    """Weights on the CPU, contiguous, without batch counters: frozen and trained BatchNorm have the same keys."""
    state = model.state_dict()
    return {
        key: value.detach().cpu().contiguous()
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


def read_weights(path: Path) -> State:
    """A flat dict of tensors from .safetensors or a torch file, never executing code. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        return parse_safetensors(read_bytes(path), path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        KeyError,
        ValueError,
        AttributeError,
        IndexError,
    ) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: not a file of plain weights ({reason}) - it is damaged, or holds code, which is never run"
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise CheckpointError(
            f"{path}: expected a dict of tensors, found {type(loaded).__name__} - save model.state_dict()"
        )
    return {str(key): value for key, value in loaded.items()}


def parse_safetensors(data: bytes, path: Path) -> State:
    try:
        return dict(load_safetensors(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}) - it may be cut off") from None


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}) - check the path"
        ) from None


def load_strict(model: nn.Module, state: State, where: Path) -> None:
    """Load every tensor; CheckpointError that names the tensors that are missing, unknown or of another shape."""
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    wrong = [
        key
        for key in sorted(own.keys() | state.keys())
        if key not in own or key not in state or own[key].shape != state[key].shape
    ]
    if wrong:
        expected, found = (
            tuple(part[wrong[0]].shape) if wrong[0] in part else "nothing" for part in (own, state)
        )
        raise CheckpointError(
            f"{where}: tensor {wrong[0]}: expected {expected}, found {found}{and_more(wrong)}"
            " - use weights of this architecture"
        )
    model.load_state_dict(state, strict=False)


def load_backbone(model: nn.Module, state: State, described: str) -> int:
    """Load a classifier's features into `backbone.body`, by name, or in order when only the names differ.

    Returns the number of tensors loaded. Raises CheckpointError that names the first tensor that does not fit.
    """
    body: Any = model.backbone.body  # type: ignore[union-attr]
    own = {key: value for key, value in body.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {
        key.removeprefix("features."): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    if not own.keys() <= state.keys():
        if len(state) < len(own):
            raise CheckpointError(
                f"{described}: {len(state)} tensors found, the backbone has {len(own)} - use weights of this architecture"
            )
        state = dict(zip(own, state.values(), strict=False))
    for key, value in own.items():
        if value.shape != state[key].shape:
            raise CheckpointError(
                f"{described}: tensor {key}: expected {tuple(value.shape)}, found {tuple(state[key].shape)} - use weights of this architecture"
            )
    body.load_state_dict({key: state[key] for key in own}, strict=False)
    return len(own)
