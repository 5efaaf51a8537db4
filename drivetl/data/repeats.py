"""Repeat-factor sampling: images of rare classes are in an epoch more often.

Gupta et al. 2019, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", appendix B.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from drivetl.coco.records import ImageRecord

Factors = npt.NDArray[np.float64]
"""(N,) how often each image is in an epoch on average, at least 1."""
_BILLION = 1_000_000_000


def images_per_epoch(factors: Factors) -> int:
    """The images of an epoch, copies counted: the sum of the factors, rounded up."""
    return int(-(-_billionths(factors).sum() // _BILLION))


def copies_of(factors: Factors, rng: np.random.Generator) -> list[int]:
    """(N,) whole numbers whose mean over epochs is the factors: each one's floor or ceiling.

    Systematic sampling in random order: one offset for all, so that their sum is its floor or ceiling as well.
    """
    order = rng.permutation(len(factors))
    ends = (np.cumsum(_billionths(factors)[order]) + rng.integers(_BILLION)) // _BILLION
    copies = np.empty(len(factors), np.int64)
    copies[order] = np.diff(ends, prepend=0)
    return [int(count) for count in copies]


def _billionths(factors: Factors) -> npt.NDArray[np.int64]:
    """Whole numbers add up to the same sum in any order."""
    return np.rint(factors * _BILLION).astype(np.int64)


def repeat_factors(images: Sequence[ImageRecord], threshold: float) -> Factors:
    """(N,) how often an image is in an epoch on average: max(1, sqrt(threshold / f)) of its rarest class.

    f is the share of images that have an object of the class, among those whose source labels the class. An image
    without objects has factor 1.
    """
    by_class = class_factors(images, threshold)
    return np.array([max((by_class[category] for category in _classes(image)), default=1.0) for image in images])


def class_factors(images: Sequence[ImageRecord], threshold: float) -> dict[int, float]:
    """Category id -> its repeat factor, for the classes that have objects."""
    having = Counter(category for image in images for category in _classes(image))
    everything = sum(image.labelled is None for image in images)
    partly = [set(image.labelled) | _classes(image) for image in images if image.labelled is not None]
    labelling = Counter(category for categories in partly for category in categories)
    shares = {category: count / (everything + labelling[category]) for category, count in having.items()}
    return {category: max(1.0, math.sqrt(threshold / share)) for category, share in shares.items()}


def sampling_in_words(images: Sequence[ImageRecord], categories: Sequence[str], threshold: float) -> str:
    """The length of an epoch under repeat-factor sampling, and the classes that make it longer."""
    length = images_per_epoch(repeat_factors(images, threshold))
    factors = sorted(class_factors(images, threshold).items(), key=lambda item: -item[1])
    rare = [f"{categories[category - 1]} x{factor:.1f}" for category, factor in factors if factor > 1]
    if not rare:
        return f"data.sampling: no class is in fewer than {threshold:.0%} of the images, so all are seen equally often"
    return (
        f"data.sampling: an epoch has {length} images instead of {len(images)}: those of rare classes repeat,"
        f" {', '.join(rare)}"
    )


def _classes(image: ImageRecord) -> set[int]:
    return {item.category_id for item in image.annotations}
