"""Weights on disk: safetensors beside a model.json that says how to rebuild the model. No pickle is ever executed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from drivetl.coco.files import write_atomically
from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.build import ModelSpec, architecture, box_architecture, build_model
from drivetl.models.detector import Detector
from drivetl.models.precision import choose_device, choose_precision
from drivetl.models.state_keys import modern_keys
from drivetl.models.surgery import MASK_BRANCH, and_more

State = dict[str, Tensor]


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


def portable_state(model: nn.Module) -> State:
    """Weights on the CPU, contiguous, without batch counters: frozen and trained BatchNorm have the same keys."""
    state = model.state_dict()
    return {
        key: value.detach().cpu().contiguous()
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


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
    data = _read(folder / "model.safetensors")
    model = build_model(spec)
    load_strict(model, _parse_safetensors(data, folder / "model.safetensors"), folder)
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
        about = json.loads(_read(path))
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
        manifest = json.loads(_read(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}) - restore it or train again") from None
    return manifest if isinstance(manifest, dict) else None


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


def read_weights(path: Path) -> State:
    """A flat dict of tensors from .safetensors or a torch file, never executing code. Raises CheckpointError."""
    if path.suffix == ".safetensors":
        return _parse_safetensors(_read(path), path)
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


def _parse_safetensors(data: bytes, path: Path) -> State:
    try:
        return dict(load_safetensors(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}) - it may be cut off") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}) - check the path"
        ) from None


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
