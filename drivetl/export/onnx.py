"""A detector as one ONNX file that takes bytes and gives boxes, checked against the model it came from.

Input `image`: (3, H, W) uint8 RGB of one fixed size; scaling to 0..1, normalisation and the network's resize are in
the graph. Outputs: `boxes` (N, 4) float32 xyxy px of the image as given, `labels` (N,) int64 1..K, `scores` (N,)
float32, best first, and for a Mask R-CNN `masks` (N, 1, H, W) float32 0..1. N differs from image to image.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drivetl import __version__
from drivetl.errors import ConfigError, DrivetlError
from drivetl.files.images import Rgb
from drivetl.files.write import write_atomically
from drivetl.models.detector import Detector

OPSET = 17
BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3
"""Of scores and mask probabilities: what other summation orders may cost, and far less than a wrong graph would."""
MAX_SIDE = 8192


class BytesToDetections(nn.Module):
    """(3, H, W) uint8 -> (boxes, labels, scores[, masks]) of one image, as a tuple, which is what ONNX knows."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = self.model([image.float() / 255.0])[0]
        return tuple(found[name] for name in ("boxes", "labels", "scores", "masks") if name in found)


@dataclass(frozen=True, slots=True)
class Check:
    """How far ONNX Runtime is from the model, over the images compared."""

    images: int
    detections: int
    box_px: float
    """Largest difference of a coordinate, px."""
    score: float
    """Largest difference of a score or a mask's probability."""


def export(detector: Detector, path: Path, height: int, width: int, images: Sequence[Rgb] = ()) -> Check:
    """Write `path` after ONNX Runtime agreed with the model on noise, on soft shapes and on `images` ((H, W, 3) uint8
    RGB).

    Raises ConfigError when the onnx extra is missing, a size is unusable or the file exists, DrivetlError when the
    outputs differ; nothing is written then.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"export needs {' and '.join(missing)}", remedy="pip install 'drivetl[onnx]'")
    if path.exists():
        raise ConfigError("exists already and is never overwritten", remedy="name another file with --out", file=path)
    if not (32 <= height <= MAX_SIDE and 32 <= width <= MAX_SIDE):
        raise ConfigError(f"input of {width} x {height} px", remedy=f"--height and --width go from 32 to {MAX_SIDE}")
    model = BytesToDetections(detector.model.cpu().float()).eval()
    samples = [_noise(height, width), _blobs(height, width), *(_to_chw(image) for image in images)]
    graph = _with_metadata(_trace(model, samples[0], names := _outputs(model, samples[0])), detector, names)
    check = _compare(model, graph, samples)
    if check.box_px > BOX_TOLERANCE_PX or check.score > SCORE_TOLERANCE:
        raise DrivetlError(
            f"ONNX Runtime differs from the model by {check.box_px:.3g} px and {check.score:.3g} in score",
            remedy="nothing was written; report it with the versions of torch, onnx and onnxruntime",
        )
    write_atomically(path, graph)
    return check


@torch.inference_mode()
def _outputs(model: nn.Module, sample: Tensor) -> list[str]:
    return ["boxes", "labels", "scores", "masks"][: len(model(sample))]


def _trace(model: nn.Module, sample: Tensor, names: list[str]) -> bytes:
    """The graph by torch's TorchScript exporter: the torch.export one stops at torchvision's NMS, whose loop depends
    on data (torch 2.15, torchvision 0.29)."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing freezes the image size: that is what is wanted here
        torch.onnx.export(
            model,
            (sample,),
            file := Path(folder) / "model.onnx",
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "detections"} for name in names},
        )
        return file.read_bytes()


def _with_metadata(graph: bytes, detector: Detector, names: list[str]) -> bytes:
    """The graph with what its numbers mean, readable by `session.get_modelmeta().custom_metadata_map`."""
    import onnx

    transform: Any = detector.model.transform
    model = onnx.load_model_from_string(graph)
    facts = {
        "classes": json.dumps(["__background__", *detector.categories]),
        "input": "image: (3, H, W) uint8 RGB; scaling, normalisation and resize are in the graph",
        "outputs": f"{', '.join(names)}; boxes are xyxy px of the input image, labels index classes",
        "resize": json.dumps({"min_size": int(transform.min_size[-1]), "max_size": int(transform.max_size)}),
        "normalisation": json.dumps({"mean": list(transform.image_mean), "std": list(transform.image_std)}),
        "weights_hash": detector.weights_hash,
        "drivetl": __version__,
    }
    onnx.helper.set_model_props(model, facts)
    model.producer_name, model.producer_version = "drivetl", __version__
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@torch.inference_mode()
def _compare(model: nn.Module, graph: bytes, samples: list[Tensor]) -> Check:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every shape that differs from the traced image's
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    boxes_px, scores, detections = 0.0, 0.0, 0
    for sample in samples:
        ours = [item.numpy() for item in model(sample)]
        theirs = session.run(None, {"image": sample.numpy()})
        order = _partners(ours, theirs)
        if order is None:
            raise DrivetlError(
                f"ONNX Runtime finds {len(theirs[0])} detections, the model {len(ours[0])}, or others",
                remedy="nothing was written; report it with the versions of torch, onnx and onnxruntime",
            )
        theirs = [item[order] for item in theirs]
        detections += len(order)
        boxes_px = max(boxes_px, _distance(ours[0], theirs[0]))
        scores = max(scores, *(_distance(a, b) for a, b in zip(ours[2:], theirs[2:], strict=True)))
    return Check(len(samples), detections, boxes_px, scores)


def _partners(ours: list[Any], theirs: list[Any]) -> npt.NDArray[np.int64] | None:
    """For each of our detections the index of theirs of that class nearest to it; None unless it is one to one.

    Detections of equal score may come in another order.
    """
    if ours[0].shape != theirs[0].shape or not len(ours[0]):
        return np.zeros(0, np.int64) if ours[0].shape == theirs[0].shape else None
    apart = np.abs(ours[0][:, None] - theirs[0][None]).max(axis=2)
    apart[ours[1][:, None] != theirs[1][None]] = np.inf
    order = apart.argmin(axis=1).astype(np.int64)
    one_to_one = len(set(order.tolist())) == len(order) and bool(np.isfinite(apart.min(axis=1)).all())
    return order if one_to_one else None


def _distance(a: Any, b: Any) -> float:
    return float(np.abs(a.astype(np.float64) - b).max()) if a.size else 0.0


def _noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def _blobs(height: int, width: int) -> Tensor:
    """Soft random shapes: large things to find, and no two places alike (equal scores have no order to compare)."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((1, 3, 6, 10), generator=generator) * 255
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
    return (0.9 * smooth + 0.1 * _noise(height, width)).to(torch.uint8)


def _to_chw(image: Rgb) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
