"""How sure a number is: bootstrap over drives, paired tests, and what a difference must be to be seen.

What is resampled is the drive, because its frames resemble each other; an image of unknown drive is resampled alone.
The same draw serves every cell and every model, so that intervals of P, mPC, rPC and of differences belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.coco.drives import Drives
from drivetl.metrics.truth import Floats

Units = Sequence[int] | Sequence[str]
"""(I,) what each image is resampled with (`Drives.units`): its drive, a block of a lone drive, or the image itself."""
FEW_DRIVES = 20
"""Fewer drives than this and a percentile interval is too narrow to trust."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate and the interval around it; NaN where nothing was measured."""

    point: float
    low: float
    high: float
    standard_error: float

    @property
    def width(self) -> float:
        return self.high - self.low


def draw_weights(units: Units, n_draws: int, seed: int = 0) -> Floats:
    """How often each image counts in each bootstrap draw: (n_draws, n_images), images of one unit alike.

    units: in the store's image order (`store.units()`). A draw picks as many units as there are, with replacement.
    Deterministic in (units, n_draws, seed): cells and models share the draws.
    """
    _, unit_of_image = np.unique(np.asarray(units), return_inverse=True)
    n_units = int(unit_of_image.max()) + 1 if len(unit_of_image) else 0
    if not n_units:
        return np.zeros((n_draws, 0))
    drawn = np.random.default_rng(seed).multinomial(n_draws * [n_units], np.full(n_units, 1 / n_units))
    return drawn[:, unit_of_image].astype(np.float64)


def few_drives(drives: Drives) -> str | None:
    """Why intervals over these drives are too narrow: unknown, one alone, or few; None where there are enough."""
    count, n_blocks = len(drives.known), len(set(drives.units()))
    if drives.n_unknown:
        return drives.unknown_in_words()
    if count == 1 < n_blocks:
        return (
            f"one drive only: the intervals resample {n_blocks} blocks of its consecutive frames, so they show "
            "the scatter within it and say nothing of other drives"
        )
    if count >= FEW_DRIVES:
        return None
    return (
        f"too few drives: {count} (fewer than {FEW_DRIVES}), so the intervals are too narrow; "
        "evaluate on more drives before deciding on a small difference"
    )


def percentile_interval(draws: Floats, point: float, level: float = 0.95) -> Interval:
    """The percentile bootstrap interval of (B,) draws around a point estimate; NaN draws are left out."""
    known = draws[~np.isnan(draws)]
    if not len(known) or np.isnan(point):
        return Interval(point, float("nan"), float("nan"), float("nan"))
    tail = 50 * (1 - level)
    low, high = np.percentile(known, [tail, 100 - tail])
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
    return Interval(point, float(low), float(high), spread)


def drive_bootstrap(
    measure: Callable[[Floats], Floats], units: Units, n_draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of any weighted measure, (B, n_images) weights -> (B,) values, with drives resampled.

    For example `drive_bootstrap(lambda w: coco_ap.ap(store, 0.5, w), store.units())`.
    """
    point = float(measure(np.ones((1, len(units))))[0])
    return percentile_interval(measure(draw_weights(units, n_draws, seed)), point, level)


def minimum_detectable(standard_error: float) -> float:
    """The smallest true difference that a test at 5 % finds in 80 % of cases: (1.96 + 0.84) standard errors."""
    return 2.8 * standard_error


def sign_flips(units: Units, n_draws: int, seed: int = 0) -> npt.NDArray[np.bool_]:
    """(B, n_images) True where A and B change places; all images of a unit (a drive) together.

    With few drives these are all 2^n - 1 ways but the one in which nobody changes place: the test is then exact and
    no p falls below what so few drives can show. With many drives they are `n_draws` random ones.
    """
    _, unit_of_image = np.unique(np.asarray(units), return_inverse=True)
    n_units = int(unit_of_image.max()) + 1 if len(unit_of_image) else 0
    if 2**n_units - 1 <= n_draws:
        flips = (np.arange(1, 2**n_units)[:, None] >> np.arange(n_units)) % 2 == 1
    else:
        flips = np.random.default_rng(seed).random((n_draws, n_units)) < 0.5
    return np.asarray(flips[:, unit_of_image], np.bool_)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: p values that keep the chance of any false alarm at the level; NaN stays NaN."""
    known = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted = dict(p_values)
    highest = 0.0
    for place, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        adjusted[name] = highest
    return adjusted
