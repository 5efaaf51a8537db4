"""Milliseconds per image and core for every training preset and transform, and the share of a training step.

    python tools/bench/augmentation.py

One thread, processor time. A preset's time is the mean over the images of an epoch, a transform's the median of images
that it changes. The step is that of the fastest shipped network on this machine's device (`training`), measured in the
same run. On a CPU both are processor time, so other work on the machine has little influence. A GPU waits for nothing
while its loader's processes together make more images a second than it trains on.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

from conditions import picture
from training import BATCH, batch, step

from drivetl.data.augment import PRESETS, AugmentConfig, Choice, Step, build, load_preset
from drivetl.data.dataset import to_tensors
from drivetl.data.sample import Sample
from drivetl.data.transforms import TRANSFORMS
from drivetl.files.images import read_rgb
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device

TITLE = "Augmentation: milliseconds per image and core"
SIZES = {"1242x375": (375, 1242), "800x400": (400, 800)}
NETWORK = "fasterrcnn_mobilenet_v2_lite_fpn"
IMAGES = 120


def run() -> list[dict[str, Any]]:
    """A row for reading an image, for every preset and for every transform."""
    threads = cv2.getNumThreads()
    seconds_a_step = step_seconds()
    cv2.setNumThreads(1)
    try:
        samples = {size: street(*shape) for size, shape in SIZES.items()}
        reading = {size: reading_ms(sample) for size, sample in samples.items()}
        rows = [{"what": "read a JPEG, make tensors"} | {f"ms {size}": ms for size, ms in reading.items()}]
        for preset in PRESETS[1:]:
            rows.append({"what": f"preset {preset}"} | {f"ms {s}": preset_ms(preset, samples[s]) for s in SIZES})
            made = rows[-1]["ms 800x400"] / 1000
            rows[-1]["images/s of a worker, 800x400"] = 1 / (made + reading["800x400"] / 1000)
            rows[-1]["% of a step, 800x400"] = 100 * made / seconds_a_step
        for name in (name for name in TRANSFORMS if not name.startswith("condition:")):
            rows += [{"what": name} | {f"ms {s}": transform_ms(name, samples[s]) for s in SIZES}]
        rows.append({"what": f"training step of {NETWORK}, per image", "ms 800x400": 1000 * seconds_a_step})
    finally:
        cv2.setNumThreads(threads)
    columns = ["what", *(f"ms {s}" for s in SIZES), "images/s of a worker, 800x400", "% of a step, 800x400"]
    return [{column: row.get(column, "") for column in columns} for row in rows]


def street(height: int, width: int) -> Sample:
    """A street-like image with twelve objects, as many as KITTI's images have."""
    rng = np.random.default_rng(0)
    corners = rng.uniform((0, 0.4 * height), (width - 60, height - 60), (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(12, 58, (12, 2))], axis=1).astype(np.float32)
    return Sample(picture(height, width), boxes, np.ones(12, np.int64), np.zeros((0, 4), np.float32), 1)


def milliseconds(work: Callable[[], object]) -> float:
    """Processor time of this thread."""
    start = time.thread_time()
    work()
    return 1000 * (time.thread_time() - start)


def reading_ms(sample: Sample) -> float:
    """Decode the sample's image from a JPEG file and make tensors, without augmentation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        cv2.imwrite(str(path), sample.image)
        times = []
        for _ in range(10):
            start = time.thread_time()
            to_tensors(replace(sample, image=read_rgb(path)), 3)
            times.append(1000 * (time.thread_time() - start))
    return float(np.median(times))


def preset_ms(name: str, sample: Sample) -> float:
    """The mean over IMAGES images."""
    augmentation = build(load_preset(name))
    augmentation(sample, np.random.default_rng(0))
    works = [partial(augmentation, sample, np.random.default_rng([1, 0, index])) for index in range(IMAGES)]
    return float(np.mean([milliseconds(work) for work in works]))


def transform_ms(name: str, sample: Sample) -> float:
    """The median over a few images; parameters in their default ranges."""
    augmentation = build(AugmentConfig(name, (Step(1.0, (Choice(name, dict(TRANSFORMS[name].defaults)),)),)))
    augmentation(sample, np.random.default_rng(0))
    works = [partial(augmentation, sample, np.random.default_rng([2, 0, index])) for index in range(9)]
    return float(np.median([milliseconds(work) for work in works]))


def step_seconds() -> float:
    """Seconds per image of forward and backward at 800x400: of all threads on a CPU, else by the clock."""
    device = choose_device("auto")
    precision, _ = choose_precision("auto", device)
    spec = ModelSpec(NETWORK, ("a", "b", "c"), 400, 800, 500, 300, 128, 100, 0.05, frozen_norm=True)
    model = build_model(spec).to(device).to(memory_format=torch.channels_last)
    images, targets = batch(400, 800)
    now = time.process_time if device.type == "cpu" else time.perf_counter
    times = []
    for _ in range(4):
        start = now()
        step(model, images=images, targets=targets, device=device, precision=precision, tricks=True)
        times.append(now() - start)
    return min(times) / BATCH


def main() -> None:
    """Print the rows."""
    from drivetl.console import table

    rows = run()
    columns = list(rows[0])
    table(TITLE, columns, [[format(v, ".3g") if isinstance(v, float) else v for v in row.values()] for row in rows])


if __name__ == "__main__":
    main()
