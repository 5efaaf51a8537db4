"""What `tests/data/golden_presets.json` holds: coarse fingerprints of images that each shipped preset makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from golden_conditions import fingerprint
from street_cases import street

from drivetl.data.augment import PRESETS, build, load_preset
from drivetl.data.sample import Sample

PATH = Path(__file__).parents[1] / "data" / "golden_presets.json"
SAMPLES = 12


def golden() -> dict[str, Any]:
    """Preset -> of each sample the image's size, its fingerprint and the boxes, from today's code."""
    return {name: [_facts(name, number) for number in range(SAMPLES)] for name in PRESETS}


def _facts(preset: str, number: int) -> dict[str, Any]:
    image = street()
    height, width = image.shape[:2]
    boxes = np.array([[0.1, 0.5, 0.3, 0.8], [0.55, 0.5, 0.6, 0.6]], np.float32) * (width, height, width, height)
    none = np.zeros((0, 4), np.float32)
    before = Sample(image, boxes.astype(np.float32), np.array([1, 2]), none, 1)
    after = build(load_preset(preset))(before, np.random.default_rng([0, 0, number]))
    return {
        "size": list(after.image.shape[:2]),
        "tiles": fingerprint(after.image),
        "boxes": np.round(after.boxes.astype(float), 2).tolist(),
    }


def as_text(document: dict[str, Any]) -> str:
    """The bytes of the file: one sample a line."""
    presets = [f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in document.items()]
    return "{" + ",\n".join(presets) + "}\n"
