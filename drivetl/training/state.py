"""The whole state of a training in one file, written atomically: resume is bit-exact after a kill at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from drivetl.errors import CheckpointError
from drivetl.files.write import write_atomically
from drivetl.training.ema import Average


def save_state(
    path: Path, model: nn.Module, optimizer: Optimizer, average: Average | None, progress: dict[str, Any]
) -> None:
    """Weights, optimizer moments, averages, random states and the progress (plain JSON values) as one safetensors
    file."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    scalars: dict[str, float] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optim.{index}.{name}"] = value
            elif value is not None:
                scalars[f"{index}.{name}"] = value
    if average is not None:
        tensors |= {f"ema.{key}": value for key, value in average.state.items()}
    tensors |= random_states(cuda=torch.cuda.is_available())
    meta = {"progress": progress, "scalars": scalars, "ema_steps": average.steps if average is not None else 0}
    # safetensors refuses shared and non-contiguous memory, so every tensor is copied
    plain = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    write_atomically(path, save(plain, metadata={"drivetl": json.dumps(meta)}))


def random_states(*, cuda: bool) -> dict[str, Tensor]:
    """torch's random states of this process, on the CPU and on the current GPU, as bytes."""
    return {"rng.cpu": torch.get_rng_state()} | ({"rng.cuda": torch.cuda.get_rng_state()} if cuda else {})


def set_random_states(states: dict[str, Tensor]) -> None:
    """Restore `random_states`; a GPU's are left out without a GPU. Raises KeyError, RuntimeError or TypeError."""
    torch.set_rng_state(states["rng.cpu"])
    if "rng.cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["rng.cuda"])


@contextmanager
def as_before(model: nn.Module, *, cuda: bool) -> Iterator[None]:
    """Restore the weights and this process's random states at the end, also after an error. The copy is kept in the
    CPU's memory."""
    random = random_states(cuda=cuda)
    start = {key: value.detach().to("cpu", copy=True) for key, value in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(start)
        set_random_states(random)


def is_finite(model: nn.Module) -> bool:
    """Whether all weights and statistics are finite."""
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


def load_state(path: Path, model: nn.Module, optimizer: Optimizer, average: Average | None) -> dict[str, Any]:
    """Restore everything; returns the progress. Raises CheckpointError when the file is damaged or of another
    model."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["drivetl"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        _restore(tensors, meta, model, optimizer, average)
        return dict(meta["progress"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(
            f"cannot be resumed ({reason})", remedy="resume with the configuration of this run", file=path
        ) from None


def _restore(
    tensors: dict[str, Tensor], meta: dict[str, Any], model: nn.Module, optimizer: Optimizer, average: Average | None
) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    model.load_state_dict(part("model."))
    entries: dict[int, dict[str, Any]] = {}
    for key, value in list(part("optim.").items()) + list(meta["scalars"].items()):
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
    if average is not None:
        device = next(iter(average.state.values())).device
        average.state = {key: value.to(device) for key, value in part("ema.").items()}
        average.steps = int(meta["ema_steps"])
    set_random_states(tensors)
