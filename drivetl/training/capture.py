"""A loss that is not finite, kept so that it can be computed again: the batch, the random state, the weights before.

python -m drivetl.training.capture runs/NAME/captures/step_0000120
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from drivetl import console
from drivetl.data.sharing import Batch
from drivetl.errors import CheckpointError, DrivetlError
from drivetl.files.write import write_atomically
from drivetl.models.build import ModelSpec, build_model, forward_uint8
from drivetl.models.checkpoint import read_spec, save_model
from drivetl.models.runtime import choose_device
from drivetl.models.weights import load_strict, portable_state, read_bytes
from drivetl.training.state import set_random_states

FOLDER = "captures"
"""In the run directory."""
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def write_capture(
    folder: Path,
    model: nn.Module,
    spec: ModelSpec,
    batch: Batch,
    random: dict[str, Tensor],
    precision: torch.dtype,
    facts: dict[str, Any],
) -> None:
    """Write model.json, model.safetensors, batch.safetensors and capture.json (`facts`: step, losses, image ids).

    model: with the weights that the loss was computed with. random: the random states before the forward pass.
    """
    save_model(folder, portable_state(model), spec, {})
    tensors = dict(random)
    images, targets = batch
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        tensors[f"{number}.image"] = image
        tensors |= {f"{number}.target.{key}": value for key, value in target.items()}
    plain = {key: value.cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    write_atomically(folder / "batch.safetensors", save_safetensors(plain))
    document = facts | {
        "losses": {key: str(value) for key, value in facts["losses"].items()},  # JSON has no NaN
        "precision": next(name for name, dtype in PRECISIONS.items() if dtype == precision),
        "channels_last": _is_channels_last(model),
        "fixed_shapes": model.get_submodule("transform").fixed_shapes,
        "modules_in_eval": [name for name, module in model.named_modules() if not module.training],
    }
    write_atomically(folder / "capture.json", json.dumps(document, indent=1, sort_keys=True) + "\n")


def replay(folder: Path, device: str = "auto") -> tuple[dict[str, float], dict[str, float]]:
    """(losses as they were captured, losses computed again) of a capture, by their names.

    The same numbers on the same kind of device; of the terms, L2-SP is not computed again. Raises CheckpointError when
    the folder cannot be read.
    """
    spec, _ = read_spec(folder)
    model, where = build_model(spec), choose_device(device)
    try:
        document = json.loads(read_bytes(folder / "capture.json"))
        load_strict(model, load_safetensors(read_bytes(folder / "model.safetensors")), folder)
        tensors = load_safetensors(read_bytes(folder / "batch.safetensors"))
        before = {str(key): float(value) for key, value in document["losses"].items()}
        precision, in_eval = PRECISIONS[document["precision"]], set(document["modules_in_eval"])
        images, targets = _batch_of(tensors)
        layout = torch.channels_last if document["channels_last"] else torch.preserve_format
        shapes = tuple((int(height), int(width)) for height, width in document["fixed_shapes"])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200]
        remedy = "name a folder in captures/ of a run"
        raise CheckpointError(f"not a capture ({reason})", remedy=remedy, file=folder) from None
    model = model.to(where).to(memory_format=layout).train()
    vars(model.get_submodule("transform"))["fixed_shapes"] = shapes
    for name, module in model.named_modules():
        module.training = name not in in_eval
    with torch.random.fork_rng(), torch.no_grad():
        set_random_states(tensors)
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            losses = forward_uint8(model, images, where, targets)
    return before, {key: float(value) for key, value in losses.items()}


def _batch_of(tensors: dict[str, Tensor]) -> Batch:
    """The images and targets in batch.safetensors. Raises KeyError or ValueError for another content."""
    images: list[Tensor] = []
    targets: list[dict[str, Tensor]] = []
    while f"{len(images)}.image" in tensors:
        prefix = f"{len(images)}.target."
        targets.append({key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
        images.append(tensors[f"{len(images)}.image"])
    if not images or any(image.dtype != torch.uint8 or image.ndim != 3 for image in images):
        raise ValueError("batch.safetensors has no images")
    return images, targets


def _is_channels_last(model: nn.Module) -> bool:
    """Whether the convolutions have that layout; kernels of one pixel have both."""
    kernels = [weight for weight in model.parameters() if weight.ndim == 4 and weight.shape[-1] > 1]
    return any(not kernel.is_contiguous() for kernel in kernels)


def main(argv: list[str] | None = None) -> int:
    """Compute a captured loss again and print both. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drivetl.training.capture", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="runs/NAME/captures/step_N")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    args = parser.parse_args(argv)
    try:
        before, now = replay(args.folder, args.device)
    except DrivetlError as error:
        console.error(str(error))
        return 2
    rows = [(key, f"{value:.6g}", f"{now[key]:.6g}" if key in now else "-") for key, value in before.items()]
    console.table(str(args.folder), ("loss", "captured", "computed again"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
