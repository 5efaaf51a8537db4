"""The names of a network's class outputs, of which some may be no class: a background, gaps in the numbering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from drivetl.models.surgery import BACKGROUND, NO_CLASS

NOT_CLASSES = (BACKGROUND, "background", NO_CLASS)
"""Names of outputs that are no class."""


def labels_of_outputs(names: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """(the K classes among the names of C outputs, in their order; (C,) label 1..K of each output, 0 for no class)."""
    is_class = np.array([name not in NOT_CLASSES for name in names], bool)
    labels = np.where(is_class, np.cumsum(is_class), 0).astype(np.int64)
    return tuple(name for name, known in zip(names, is_class, strict=True) if known), labels
