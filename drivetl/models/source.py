"""What `model.start` names: a run of ours, torchvision's published weights, or a weights file of anybody's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.build import ModelSpec, architecture, box_architecture, build_model
from drivetl.models.checkpoint import checkpoint_folder, load_detector, read_manifest, read_spec
from drivetl.models.detector import Detector
from drivetl.models.precision import choose_device, choose_precision
from drivetl.models.state_keys import modern_keys
from drivetl.models.surgery import MASK_BRANCH
from drivetl.models.weights import State, load_strict, read_weights


@dataclass
class Source:
    """Weights to start from, and what is known about them."""

    state: State
    categories: tuple[str, ...] | None
    """Class names in label order, background excluded; None: a backbone without a head."""
    relation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What the source's own classes grew out of."""
    spec: ModelSpec | None = None
    augmentation: dict[str, Any] | None = None
    """The source's manifest: a run inherits what its ancestors were trained on."""
    described: str = ""


def read_source(start: str, arch: str) -> Source | None:
    """The weights that `model.start` names; None for `none`. Raises CheckpointError or ConfigError with the way out."""
    if start == "none":
        return None
    if start in ("coco", "imagenet"):
        return _published(start, arch)
    path = Path(start).expanduser()
    if path.is_dir():
        folder = checkpoint_folder(path, "best")
        spec, relation = read_spec(folder)
        state = read_weights(folder / "model.safetensors")
        return Source(state, spec.categories, relation, spec, read_manifest(path), f"run {path.name}")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file or run - model.start is coco, imagenet, none, a weights file or a run"
        )
    state = read_weights(path)
    scores = state.get("roi_heads.box_predictor.cls_score.weight")
    if scores is None:
        return Source(state, None, described=f"backbone {path.name}")
    enum = architecture(arch).coco
    names = _category_names(enum) if enum is not None else ()
    if len(names) + 1 != len(scores):
        names = tuple(f"class {number}" for number in range(1, len(scores)))
    return Source(state, names, described=f"weights {path.name}")


def load_source_detector(start: str, target: ModelSpec, device: str, precision: str) -> Detector:
    """The detector that `model.start` names, as it was: a run with its own settings, published weights or a weights
    file with the target's image size and limits, without masks: a file may lack that branch. Raises CheckpointError or
    ConfigError."""
    if Path(start).expanduser().is_dir():
        return load_detector(Path(start).expanduser(), "best", device, precision)
    source = read_source(start, target.arch)
    if source is None or source.categories is None:
        raise ConfigError(f"model.start {start} is no detector - name a run, coco, or a detector's weights")
    spec = dataclasses.replace(
        target,
        arch=box_architecture(target.arch),
        categories=source.categories,
        anchor_sizes=None,
        anchor_ratios=None,
        frozen_norm=True,
    )
    model = build_model(spec)
    state = {key: value for key, value in modern_keys(source.state).items() if not MASK_BRANCH.search(key)}
    load_strict(model, state, Path(start))
    place = choose_device(device)
    model.to(place).eval()
    dtype, _ = choose_precision(precision, place)
    return Detector(model, spec.categories, place, dtype, "")


def _published(start: str, arch: str) -> Source:
    enum = getattr(architecture(arch), start)
    if enum is None:
        raise ConfigError(
            f"model.start: torchvision publishes no {start} weights for {arch} - use none, a weights file or a run"
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(enum.url).name
    try:
        state = (
            enum.get_state_dict(progress=False, check_hash=True) if not file.is_file() else read_weights(file)
        )
    except OSError as error:
        raise CheckpointError(
            f"{start} weights of {arch} cannot be downloaded ({error}) - put {file.name} into {file.parent}, or use --model.start none"
        ) from None
    except RuntimeError as error:
        raise CheckpointError(f"{file}: {error} - remove the damaged file and fetch it again") from None
    names = _category_names(enum) if start == "coco" else None
    return Source(state, names, augmentation=published_manifest(start), described=f"{start} weights")


def published_manifest(start: str) -> dict[str, Any]:
    """What torchvision's published weights were trained on, as its reference scripts have it.

    Detection (references/detection/presets.py): flips, for the v2 models large scale jitter. Classification
    (references/classification, recipe of IMAGENET1K_V2, Vryniotis 2021): crops, flips, erasing and TrivialAugment,
    whose photometric operations are listed without ranges, so that they count as seen at any strength.
    """
    geometric = {"flip": "mirroring", "scale_jitter": "framing"}
    looks = {"brightness": "exposure", "contrast": "low contrast", "color": "colour", "sharpness": "defocus"}
    families = {"geometric": geometric, "photometric": looks}
    transforms = [
        {
            "name": name,
            "phenomenon": phenomenon,
            "model": f"pil_{name}",
            "family": family,
            "range": {},
            "p": 0.5,
        }
        for family, members in families.items()
        for name, phenomenon in members.items()
    ]
    return {
        "version": 1,
        "preset": f"torchvision's {start} recipe",
        "transforms": transforms,
        "ancestors": [],
    }


def _category_names(enum: Any) -> tuple[str, ...]:
    """COCO's 90 slots in label order; background left out."""
    names = list(enum.meta["categories"])
    return tuple(names[1:] if names[0] == "__background__" else names)
