"""A checkpoint of ours: safetensors beside a model.json that says how to rebuild the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_safetensors

from drivetl.coco.files import write_atomically
from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.build import ModelSpec, architecture, build_model
from drivetl.models.detector import Detector
from drivetl.models.precision import choose_device, choose_precision
from drivetl.models.weights import State, load_strict, parse_safetensors, read_bytes


def save_model(
    folder: Path, state: State, spec: ModelSpec, relation: Mapping[str, Mapping[str, float]]
) -> None:
    """Write `model.safetensors` and `model.json` into a folder, each atomically, the weights last."""
    about = {
        "format": 1,
        "spec": dataclasses.asdict(spec),
        "relation": {key: dict(value) for key, value in relation.items()},
    }
    write_atomically(folder / "model.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
    write_atomically(folder / "model.safetensors", save_safetensors(state))


def load_detector(run: Path, which: str = "best", device: str = "auto", precision: str = "auto") -> Detector:
    """The trained detector of a run directory (or of one checkpoint folder). Raises CheckpointError."""
    folder = checkpoint_folder(run, which)
    spec, relation = read_spec(folder)
    data = read_bytes(folder / "model.safetensors")
    model = build_model(spec)
    load_strict(model, parse_safetensors(data, folder / "model.safetensors"), folder)
    place = choose_device(device)
    model.to(place).eval()
    dtype, _ = choose_precision(precision, place)
    digest = hashlib.sha256(data).hexdigest()[:16]
    root = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    return Detector(model, spec.categories, place, dtype, digest, read_manifest(root), root, relation)


def checkpoint_folder(run: Path, which: str) -> Path:
    """The folder that holds model.safetensors. Raises CheckpointError with what was looked for."""
    for folder in (run / "checkpoints" / which, run):
        if (folder / "model.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    what = (
        "no such folder"
        if not run.is_dir()
        else f"no checkpoints/{which}/model.safetensors and model.json in it"
    )
    raise CheckpointError(f"{run}: {what} - name a run directory that finetune wrote")


def read_spec(folder: Path) -> tuple[ModelSpec, dict[str, dict[str, float]]]:
    """(how to rebuild the model, what its classes grew out of) from model.json. Raises CheckpointError."""
    path = folder / "model.json"
    try:
        about = json.loads(read_bytes(path))
        values = dict(about["spec"])
        for key in ("anchor_sizes", "anchor_ratios"):
            values[key] = (
                None
                if values[key] is None
                else tuple(tuple(float(x) for x in level) for level in values[key])
            )
        spec = ModelSpec(**(values | {"categories": tuple(map(str, values["categories"]))}))
        relation = {
            str(key): {str(k): float(v) for k, v in value.items()} for key, value in about["relation"].items()
        }
        sizes = (spec.min_size, spec.max_size, spec.proposals_train, spec.proposals_test, spec.rois_per_image)
        if (
            not all(isinstance(size, int) and 0 < size <= 100_000 for size in sizes)
            or not 1 <= len(spec.categories) <= 10_000
        ):
            raise ValueError("a size is out of range")
        architecture(spec.arch)
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ConfigError,
    ) as error:
        raise CheckpointError(
            f"{path}: does not describe a model ({error}) - use a run that finetune wrote"
        ) from None
    return spec, relation


def read_manifest(run: Path) -> dict[str, Any] | None:
    """The run's augmentation manifest, or None when it has none. Raises CheckpointError when it cannot be read."""
    path = run / "augmentation.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}) - restore it or train again") from None
    return manifest if isinstance(manifest, dict) else None
