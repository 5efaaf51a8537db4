"""Our checkpoints: safetensors, and next to them a model.json that says how to rebuild the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as save_safetensors

from drivetl.errors import CheckpointError, ConfigError
from drivetl.files.runs import checkpoint_folder, run_root
from drivetl.files.write import write_atomically
from drivetl.models.build import ModelSpec, architecture, build_model
from drivetl.models.detector import Detector
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device
from drivetl.models.state_keys import State
from drivetl.models.weights import load_strict, parse_safetensors, read_bytes

_COUNTS = ("min_size", "max_size", "proposals_train", "proposals_test", "rois_per_image", "detections_per_image")
"""Fields of ModelSpec that count something, or are a length in px."""


def save_model(folder: Path, state: State, spec: ModelSpec, relation: Mapping[str, Mapping[str, float]]) -> None:
    """Write `model.safetensors` and `model.json` into a folder, each atomically, the weights last."""
    document = {
        "format": 1,
        "spec": dataclasses.asdict(spec),
        "relation": {key: dict(value) for key, value in relation.items()},
    }
    write_atomically(folder / "model.json", json.dumps(document, indent=1, sort_keys=True) + "\n")
    write_atomically(folder / "model.safetensors", save_safetensors(state))


def load_detector(run: Path, which: str = "best", device: str = "auto", precision: str = "auto") -> Detector:
    """The trained detector of a run directory (or of one checkpoint folder).

    Raises CheckpointError, and ConfigError for anchors that do not fit the pyramid.
    """
    folder = checkpoint_folder(run, which)
    spec, relation = read_spec(folder)
    data = read_bytes(folder / "model.safetensors")
    model = build_model(spec)
    load_strict(model, parse_safetensors(data, folder / "model.safetensors"), folder)
    torch_device = choose_device(device)
    model.to(torch_device).eval()
    dtype, _ = choose_precision(precision, torch_device)
    digest = hashlib.sha256(data).hexdigest()[:16]
    root = run_root(folder)
    return Detector(model, spec.categories, torch_device, dtype, digest, read_manifest(root), root, relation)


def read_spec(folder: Path) -> tuple[ModelSpec, dict[str, dict[str, float]]]:
    """(how to rebuild the model, which classes its own were derived from) from model.json. Raises CheckpointError."""
    path = folder / "model.json"
    try:
        document = json.loads(read_bytes(path))
        spec, relation = _spec_of(dict(document["spec"])), _relation_of(document["relation"])
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
            f"does not describe a model ({error})", remedy="use a run that finetune wrote", file=path
        ) from None
    return spec, relation


def _spec_of(values: dict[str, Any]) -> ModelSpec:
    """The spec in model.json. Raises ValueError that names the first invalid field."""
    for key in ("anchor_sizes", "anchor_ratios"):
        if values[key] is not None:
            values[key] = tuple(tuple(_positive(key, value) for value in level) for level in values[key])
            if not all(values[key]):
                raise ValueError(f"{key}: a level is empty")
    names = values["categories"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("categories: not a list of names")
    if not 1 <= len(names) <= 10_000 or len(set(names)) < len(names):
        raise ValueError("categories: none, more than 10000, or a duplicate name")
    spec = ModelSpec(**(values | {"categories": tuple(names)}))
    for key in _COUNTS:
        value = values[key]
        if type(value) is not int or not 1 <= value <= 100_000:
            raise ValueError(f"{key}: {value!r} is not a whole number from 1 to 100000")
    if type(spec.frozen_norm) is not bool:
        raise ValueError(f"frozen_norm: {spec.frozen_norm!r} is neither true nor false")
    if spec.score_threshold != 0 and _positive("score_threshold", spec.score_threshold) >= 1:
        raise ValueError(f"score_threshold: {spec.score_threshold!r} is not below 1")
    return spec


def _relation_of(values: Any) -> dict[str, dict[str, float]]:
    return {
        str(name): {str(parent): _positive(f"relation of {name}", weight) for parent, weight in parents.items()}
        for name, parents in values.items()
    }


def _positive(name: str, value: Any) -> float:
    """The value, if it is a number above 0 and below a million (so not NaN). Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError(f"{name}: {value!r} is not a positive number")
    return float(value)


def read_manifest(run: Path) -> dict[str, Any] | None:
    """The run's augmentation manifest, or None when it has none. Raises CheckpointError when it cannot be read."""
    path = run / "augmentation.json"
    if not path.is_file():
        return None
    try:
        manifest = json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not valid JSON ({error})", remedy="restore it or train again", file=path) from None
    return manifest if isinstance(manifest, dict) else None
