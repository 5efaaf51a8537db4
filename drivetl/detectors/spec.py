"""A detector by a text, `KIND:REST`, as `--detector` and `drivetl.evaluate_robustness` take it.

results:DIR                     COCO results, one file per cell (robustness only)
python:FILE.py:FACTORY          the user's code; python:package.module:FACTORY
torchvision:NAME[:WEIGHTS]      published weights
onnx:FILE.onnx[:LAYOUT.yaml]    our export, or another file with a description of its layout
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.errors import ConfigError
from drivetl.files.paths import require, require_directory

if TYPE_CHECKING:
    from drivetl.detectors.any_detector import AnyDetector
    from drivetl.detectors.exported import OnnxModel
    from drivetl.detectors.torchvision_detector import TorchvisionDetector

FORMS = {
    "results": "results:DIR",
    "python": "python:FILE.py:FACTORY",
    "torchvision": "torchvision:NAME",
    "onnx": "onnx:FILE.onnx",
}
"""Kind -> how it is written."""


@dataclass(frozen=True)
class DetectorSpec:
    """A detector that was named and is not loaded yet."""

    kind: str
    """A key of FORMS."""
    name: str
    """The folder, the file or module, the model's name."""
    detail: str = ""
    """The factory, the weights, the layout file; "" where none is named."""


def parse_spec(text: str) -> DetectorSpec:
    """The detector that a text names; imports nothing slow.

    Raises ConfigError for a text of another form, DataError for a file or folder that does not exist.
    """
    kind, _, rest = text.partition(":")
    if kind not in FORMS or not rest:
        forms = f"write {', '.join(FORMS.values())}"
        raise ConfigError(f"--detector {text!r} is not a detector", remedy=f"{forms}, for example results:detections")
    if kind == "results":
        require_directory(Path(rest), remedy="name the folder with clean/0.json, fog/3.json, ...")
        return DetectorSpec(kind, rest)
    name, colon, detail = rest.partition(":") if kind == "torchvision" else rest.rpartition(":")
    if kind == "onnx" and not detail.lower().endswith((".yaml", ".yml")):
        name, colon, detail = rest, "", ""
    if not name or (colon and not detail) or (kind == "python" and not colon):
        raise ConfigError(f"--detector {text!r} is not {FORMS[kind]}", remedy="give both parts")
    if kind == "onnx" or (kind == "python" and name.endswith(".py")):
        require(Path(name))
    if kind == "onnx" and detail:
        require(Path(detail))
    return DetectorSpec(kind, name, detail)


def open_detector(
    spec: DetectorSpec, *, device: str = "auto", manifest: dict[str, Any] | None = None
) -> AnyDetector | OnnxModel | TorchvisionDetector:
    """Load a detector.

    manifest: the augmentation that it was trained with, in place of what it says itself. Raises DrivetlError for one
    that cannot be loaded, and for `results`, which `robustness.results_folder` reads.
    """
    if spec.kind == "results":
        raise ConfigError("a folder of results cannot detect", remedy="evaluate it with drivetl eval-robustness")
    detector: AnyDetector | OnnxModel | TorchvisionDetector
    if spec.kind == "python":
        from drivetl.detectors.python_detector import python_detector

        detector = python_detector(spec.name, spec.detail)
    elif spec.kind == "torchvision":
        from drivetl.detectors.torchvision_detector import TorchvisionDetector

        detector = TorchvisionDetector(spec.name, spec.detail, device)
    else:
        from drivetl.detectors.onnx_detector import onnx_detector

        detector = onnx_detector(Path(spec.name), Path(spec.detail) if spec.detail else None)
    if manifest is not None:
        detector.augmentation = manifest
    return detector
