"""Detections of one image, as every detector returns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Detections:
    """What a detector found in one image, best first."""

    boxes: npt.NDArray[np.float32]
    """(N, 4) xyxy in px of the image as given, N may be 0."""
    scores: npt.NDArray[np.float32]
    """(N,) in 0..1."""
    labels: npt.NDArray[np.int64]
    """(N,) category ids 1..K."""
    masks: list[dict[str, Any]] | None = None
    """N compressed COCO RLEs with text counts, from a Mask R-CNN; else None."""
