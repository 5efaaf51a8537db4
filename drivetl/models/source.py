"""What `model.start` names: one of our runs, torchvision's published weights, or any other weights file."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from drivetl import console
from drivetl.conditions import Family, Phenomenon
from drivetl.config import STARTS
from drivetl.errors import CheckpointError, ConfigError
from drivetl.files.runs import checkpoint_folder, run_root
from drivetl.models.build import ModelSpec, architecture, box_architecture, build_model
from drivetl.models.checkpoint import load_detector, read_manifest, read_spec
from drivetl.models.detector import Detector
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device
from drivetl.models.state_keys import State, modern_keys
from drivetl.models.surgery import BACKGROUND, NO_CLASS
from drivetl.models.weights import load_strict, read_bytes, read_weights


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
    description: str = ""
    """`run city`, `weights city.pth`, `coco weights`."""


def read_source(start: str, arch: str) -> Source | None:
    """The weights that `model.start` names, under the tensor names of current torchvision; None for `none`.

    A run, its checkpoint folder and the model.safetensors in that folder are the same source. Any other file contains
    a detector, or a backbone alone. A detector's class names are read from `<file>.classes.txt` (city.pth.classes.txt
    next to city.pth): one name per line in label order, without the background. Without that file a head of COCO's
    size has COCO's classes, and any other has classes without names, with a warning.
    Raises CheckpointError or ConfigError with the way out.
    """
    if start == "none":
        return None
    if start in STARTS:
        return _published(start, arch)
    folder = _own_checkpoint(start)
    if folder is not None:
        spec, relation = read_spec(folder)
        state, root = read_weights(folder / "model.safetensors"), run_root(folder.absolute())
        return Source(state, spec.categories, relation, spec, read_manifest(root), f"run {root.name}")
    path = _file_of(start)
    state = modern_keys(read_weights(path))
    scores = state.get("roi_heads.box_predictor.cls_score.weight")
    if scores is None:
        return Source(state, None, description=f"backbone {path.name}")
    return Source(state, _classes_of(path, len(scores) - 1, arch), description=f"weights {path.name}")


def outline_of(start: str, arch: str) -> Source | None:
    """As `read_source`, without weights (`state` is empty) where the classes are known without them: nothing is
    downloaded, and of a run only its description is read."""
    if start == "none":
        return None
    if start in STARTS:
        enum = _enum_of(start, arch)
        names = category_names(enum) if start == "coco" else None
        return Source({}, names, description=f"{start} weights")
    folder = _own_checkpoint(start)
    if folder is None:
        return read_source(start, arch)
    spec, relation = read_spec(folder)
    return Source({}, spec.categories, relation, spec, description=f"run {run_root(folder.absolute()).name}")


def _own_checkpoint(start: str) -> Path | None:
    """The checkpoint folder that `model.start` names: by its run, by itself, or by the weights in it; None for anything
    else.

    Raises CheckpointError for a folder without a checkpoint.
    """
    if start in STARTS:
        return None
    path = Path(start).expanduser()
    if path.name == "model.safetensors" and (path.parent / "model.json").is_file():
        path = path.parent
    return checkpoint_folder(path, "best") if path.is_dir() else None


def weights_file(start: str) -> Path | None:
    """The file with the weights that `model.start` names; None for published weights and for `none`.

    Raises CheckpointError as `read_source` does.
    """
    folder = _own_checkpoint(start)
    if folder is not None:
        return folder / "model.safetensors"
    return None if start in STARTS else _file_of(start)


def _file_of(start: str) -> Path:
    path = Path(start).expanduser()
    if not path.is_file():
        raise CheckpointError(
            "no such file or run", remedy="model.start is coco, imagenet, none, a weights file or a run", file=path
        )
    return path


def _classes_of(weights: Path, count: int, arch: str) -> tuple[str, ...]:
    """Names of the `count` classes of a weights file: from its classes.txt, else COCO's names, else numbers."""
    names_file = weights.with_name(weights.name + ".classes.txt")
    if names_file.is_file():
        return _read_names(names_file, count)
    enum = architecture(arch).coco
    names = category_names(enum) if enum is not None else ()
    if len(names) != count:
        console.warn(
            f"{weights}: its {count} classes have no names, so every class starts from the mean of all"
            f" - name them in {names_file.name} next to it, one per line in label order, without the background"
        )
        names = tuple(f"class {number}" for number in range(1, count + 1))
    return names


def _read_names(path: Path, count: int) -> tuple[str, ...]:
    """The class names in a text file, one per line. Raises CheckpointError unless they can be those of `count`
    classes."""
    remedy = "write one name per line in label order, without the background"
    if path.stat().st_size > 1_000_000:
        raise CheckpointError("more than a megabyte of names", remedy=remedy, file=path)
    try:
        names = tuple(line.strip() for line in read_bytes(path).decode("utf-8-sig").strip().splitlines())
    except UnicodeDecodeError:
        raise CheckpointError("not UTF-8 text", remedy=remedy, file=path) from None
    duplicates = [name for name, times in Counter(names).items() if times > 1 and name != NO_CLASS]
    problems = {
        f"{len(names)} names, the head has {count} classes": len(names) != count,
        "an empty line": "" in names,
        f"{BACKGROUND} is not a class": BACKGROUND in names,
        f"{', '.join(duplicates)} more than once": bool(duplicates),
    }
    for problem, occurs in problems.items():
        if occurs:
            raise CheckpointError(problem, remedy=remedy, file=path)
    return names


def load_source_detector(start: str, target: ModelSpec, device: str, precision: str) -> Detector:
    """The detector that `model.start` names, before any surgery. A run keeps its own settings. Published weights and
    weights files get the target's image size and limits, and no mask branch, as a file may lack it. Tensors that the
    model does not have are left out, as in surgery. Raises CheckpointError or ConfigError."""
    folder = _own_checkpoint(start)
    if folder is not None:
        return load_detector(folder, "best", device, precision)
    source = read_source(start, target.arch)
    if source is None or source.categories is None:
        raise ConfigError(f"model.start {start} is not a detector", remedy="name a run, coco, or a detector's weights")
    spec = dataclasses.replace(
        target,
        arch=box_architecture(target.arch),
        categories=source.categories,
        anchor_sizes=None,
        anchor_ratios=None,
        frozen_norm=True,
    )
    model = build_model(spec)
    known = model.state_dict().keys()
    load_strict(model, {key: value for key, value in source.state.items() if key in known}, Path(start))
    torch_device = choose_device(device)
    model.to(torch_device).eval()
    dtype, _ = choose_precision(precision, torch_device)
    return Detector(model, spec.categories, torch_device, dtype, "")


def _enum_of(start: str, arch: str) -> Any:
    """torchvision's enum of published weights. Raises ConfigError where there are none."""
    enum = getattr(architecture(arch), start)
    if enum is None:
        raise ConfigError(
            f"model.start: torchvision publishes no {start} weights for {arch}",
            remedy="use none, a weights file or a run",
        )
    return enum


def published_file(start: str, arch: str) -> Path | None:
    """Where torch keeps the published weights of a start, once they are downloaded; None for another start."""
    if start not in STARTS or start == "none":
        return None
    return _cached(_enum_of(start, arch))


def _cached(enum: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(enum.url).name


def _published(start: str, arch: str) -> Source:
    enum = _enum_of(start, arch)
    state = published_state(enum, f"{start} weights of {arch}", "use --model.start none")
    names = category_names(enum) if start == "coco" else None
    manifest = published_manifest(start)
    return Source(modern_keys(state), names, augmentation=manifest, description=f"{start} weights")


def published_state(enum: Any, description: str, otherwise: str) -> State:
    """The tensors of one of torchvision's published weights, downloaded where the cache of torch.hub lacks them.

    otherwise: what to do where they cannot be downloaded. Raises CheckpointError.
    """
    file = _cached(enum)
    try:
        return read_weights(file) if file.is_file() else _download(enum)
    except OSError as error:
        raise CheckpointError(
            f"{description} cannot be downloaded ({error})",
            remedy=f"put {file.name} into {file.parent}, or {otherwise}",
        ) from None
    except RuntimeError as error:
        raise CheckpointError(f"{error}", remedy="remove the damaged file and download it again", file=file) from None


def _download(enum: Any) -> State:
    """The tensors of published weights, downloaded and checked against the hash in their name."""
    state: State = enum.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


def published_manifest(start: str) -> dict[str, Any]:
    """What torchvision's published weights were trained on, according to its reference scripts.

    Detection (references/detection/presets.py): flips, for the v2 models large scale jitter. Classification
    (references/classification, recipe of IMAGENET1K_V2, Vryniotis 2021): crops, flips, erasing and TrivialAugment. They
    are listed without ranges, so a condition of the same model counts as seen at any strength. Pillow's contrast is the
    catalogue's: linear about the mean.
    """
    transforms = [
        {"name": name, "phenomenon": str(phenomenon), "model": model, "family": str(family), "range": {}, "p": 0.5}
        for name, phenomenon, model, family in _PUBLISHED_TRANSFORMS
    ]
    return {"version": 1, "preset": f"torchvision's {start} recipe", "transforms": transforms, "ancestors": []}


_PUBLISHED_TRANSFORMS = (
    ("flip", Phenomenon.MIRRORING, "pil_flip", Family.GEOMETRIC),
    ("scale_jitter", Phenomenon.FRAMING, "pil_scale_jitter", Family.GEOMETRIC),
    ("rotate", Phenomenon.FRAMING, "pil_rotate", Family.GEOMETRIC),
    ("translate", Phenomenon.FRAMING, "pil_translate", Family.GEOMETRIC),
    ("shear", Phenomenon.SHEAR, "pil_shear", Family.GEOMETRIC),
    ("erasing", Phenomenon.OCCLUSION, "erased_rectangle", Family.PHOTOMETRIC),
    ("brightness", Phenomenon.EXPOSURE, "pil_brightness", Family.PHOTOMETRIC),
    ("contrast", Phenomenon.LOW_CONTRAST, "linear_about_mean", Family.PHOTOMETRIC),
    ("color", Phenomenon.COLOUR, "pil_color", Family.PHOTOMETRIC),
    ("sharpness", Phenomenon.DEFOCUS, "pil_sharpness", Family.PHOTOMETRIC),
    ("posterize", Phenomenon.COLOUR, "pil_posterize", Family.PHOTOMETRIC),
    ("solarize", Phenomenon.EXPOSURE, "pil_solarize", Family.PHOTOMETRIC),
    ("autocontrast", Phenomenon.EXPOSURE, "pil_autocontrast", Family.PHOTOMETRIC),
    ("equalize", Phenomenon.EXPOSURE, "pil_equalize", Family.PHOTOMETRIC),
)
"""(name, phenomenon, model, family)."""


def category_names(enum: Any) -> tuple[str, ...]:
    """The class names of a weights enum in label order (COCO: 90 slots), without the background."""
    names = list(enum.meta["categories"])
    return tuple(names[1:] if names[0] == "__background__" else names)
