"""What a detector that is not a run of drivetl was trained on: the files of `--augmentation`.

The file is a manifest like a run's augmentation.json, in YAML or JSON, or a pipeline that albumentations saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from drivetl.coco.io import load_json
from drivetl.conditions import CATALOG
from drivetl.data.albumentations_manifest import albumentations_manifest, is_albumentations
from drivetl.errors import DataError, DrivetlError
from drivetl.files.yaml_reader import load_yaml
from drivetl.robustness.held_out import TrainedTransform, trained_transforms

HOW = "write it like the file of `drivetl conditions --augmentation-template FILE.yaml`"


def read_augmentation(paths: Sequence[Path]) -> dict[str, Any] | None:
    """The manifest of everything that the files list; None without a file. Raises DrivetlError naming the file."""
    manifests = [_read(path) for path in paths]
    if len(manifests) < 2:
        return manifests[0] if manifests else None
    preset = " + ".join(str(manifest.get("preset", "unnamed")) for manifest in manifests)
    return {"version": 1, "preset": preset, "transforms": [], "ancestors": manifests}


def _read(path: Path) -> dict[str, Any]:
    document = load_json(path) if path.suffix.lower() == ".json" else load_yaml(path)
    try:
        manifest = albumentations_manifest(document, path.stem) if is_albumentations(document) else document
        if not isinstance(manifest, dict) or "transforms" not in manifest:
            raise DataError("not an augmentation manifest: it has no transforms", remedy=HOW)
        for transform in trained_transforms(manifest) or ():
            _check_model(transform)
    except DrivetlError as error:
        error.file = path
        error.remedy = HOW if error.reason.startswith("not a manifest") else error.remedy
        raise
    return manifest


def _check_model(transform: TrainedTransform) -> None:
    """Raises DataError for a model that is nearly that of a condition: as another one it would count as held out."""
    known = {condition.model.replace("_", " ") for condition in CATALOG.values()}
    near = [] if transform.model in known else get_close_matches(transform.model, known, n=1, cutoff=0.85)
    if near:
        raise DataError(
            f"transform {transform.name!r} has the model {transform.model!r}, nearly that of a condition",
            remedy=f"write {near[0].replace(' ', '_')!r} if it is that one, or a name that differs clearly",
        )
