"""What `tests/conditions/golden_conditions.json` holds: a coarse fingerprint of every condition at severity 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from street_cases import street

from drivetl.conditions import CATALOG, PROTOCOL_VERSION, apply, pixel_seed

PATH = Path(__file__).parents[1] / "conditions" / "golden_conditions.json"


def fingerprint(image: np.ndarray) -> list[float]:
    """Mean and deviation of 3 x 4 tiles: stable against the last bit of another machine, not against a change."""
    tiles = [t for rows in np.array_split(image.astype(float), 3) for t in np.array_split(rows, 4, axis=1)]
    return [round(float(value), 2) for t in tiles for value in (t.mean(), t.std())]


def golden() -> dict[str, Any]:
    """The document, computed from today's code."""
    images = {f"{name} 3": apply(street(), name, 3, pixel_seed("golden", name, 3)) for name in CATALOG}
    return {
        "protocol_version": PROTOCOL_VERSION,
        "fingerprints": {key: fingerprint(image) for key, image in images.items()},
    }


def as_text(document: dict[str, Any]) -> str:
    """The bytes of the file."""
    return json.dumps(document, indent=1) + "\n"
