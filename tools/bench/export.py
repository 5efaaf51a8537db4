"""One frame through a detector: PyTorch against ONNX Runtime, with an input of a fixed size and of any size.

Both run on one thread, in turns, and the median of their processor time is taken. The frame is of KITTI's size, and of
noise. The weights are random: the number of proposals and detections is capped, so the work is that of a trained
detector.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from drivetl.detectors.exported import OnnxModel
from drivetl.export.onnx import to_graph
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.detector import Detector

TITLE = "One frame: PyTorch against ONNX Runtime"
HEIGHT, WIDTH = 375, 1242
ROUNDS = 9
MODELS = (
    ("fasterrcnn_mobilenet_v2_lite_fpn", 256, 832),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", 320, 1060),
    ("fasterrcnn_resnet18_fpn", 256, 832),
)


def run() -> list[dict[str, object]]:
    """One row per model: milliseconds per frame, and how many times longer PyTorch takes."""
    torch.set_num_threads(1)
    return [_row(*model) for model in MODELS]


def _row(arch: str, min_size: int, max_size: int) -> dict[str, object]:
    torch.manual_seed(0)
    spec = ModelSpec(arch, ("a", "b", "c"), min_size, max_size, 500, 300, 128, 100, 0.05, frozen_norm=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    frame = [torch.from_numpy(pixels)]
    detector = Detector(build_model(spec).eval(), spec.categories, torch.device("cpu"), torch.float32, "random")
    with tempfile.TemporaryDirectory() as folder:
        fixed, free = Path(folder) / "fixed.onnx", Path(folder) / "any.onnx"
        fixed.write_bytes(to_graph(detector, HEIGHT, WIDTH))
        free.write_bytes(to_graph(detector, HEIGHT, WIDTH, any_size=True))
        sides = {
            "torch": partial(detector.infer, frame),
            "fixed size": partial(OnnxModel(fixed, threads=1).infer, frame),
            "any size": partial(OnnxModel(free, threads=1).infer, frame),
        }
        took_ms = _in_turns(sides)
    row: dict[str, object] = {"model": arch, "network input": f"at most {max_size}x{min_size}"}
    row |= {f"{name} ms": value for name, value in took_ms.items()}
    row |= {f"torch / {name}": took_ms["torch"] / took_ms[name] for name in ("fixed size", "any size")}
    return row


def _in_turns(sides: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of processor time of each side; the sides take turns, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS + 1):
        for name, once in sides.items():
            began = time.process_time()
            once()
            if number:
                took[name].append(1000 * (time.process_time() - began))
    return {name: statistics.median(values) for name, values in took.items()}
