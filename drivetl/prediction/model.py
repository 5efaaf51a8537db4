"""A run's detector with its thresholds, and the folder of its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivetl.robustness.sweep import SupportsInfer


@dataclass
class Model:
    """One of the one or two models that a command runs."""

    name: str
    """What it is called in a drawing of two models."""
    detector: SupportsInfer
    categories: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    """(K,) lowest score of a detection of each class."""
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    """Detections of each class so far."""

    def count(self, labels: Iterable[int]) -> None:
        """Add the detections of an image, category ids 1..K."""
        self.counts.update(self.categories[int(label) - 1] for label in labels)
