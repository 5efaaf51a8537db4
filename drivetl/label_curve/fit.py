"""AP against the number of labelled frames: intervals over seeds and drives, a saturating curve, what more labels buy.

Letters in shapes: S seeds, N label counts, B draws, C columns (first the mean over classes, then every class).
The curve is AP(n) = a - b * n^-c (a power law with an asymptote: Hestness et al. 2017, Rosenfeld et al. 2020).

What an interval covers: the mean AP of this recipe over seeds (which frames are labelled first, and the randomness of
the training), on drives like the validation drives. A draw resamples whole validation drives, the same ones for every
run, and shifts the mean over seeds by Student's t with S - 1 degrees of freedom: three seeds carry little information
about their own spread, and intervals of a plain bootstrap over three would be a third too narrow. A seed is one unit
over all label counts and regimes, so that errors common to the counts cancel in gains.

A curve is refused when it misses a point by more than the draws explain. Smaller misses count as noise of the points.
The curve of a draw may be convex (rise faster and faster), because few points cannot rule that out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import METRICS
from drivetl.metrics.truth import Floats
from drivetl.robustness.score_cells import Document, interval

REACH = 2.0
"""No curve is extrapolated beyond this multiple of the largest label count."""
LEAST_COUNTS = 3
"""Number of parameters of the curve: fewer label counts cannot be fitted."""
EXPONENTS: Floats = np.geomspace(0.05, 3.0, 64)
"""Candidates for c; for each, a and b follow by linear least squares."""
RISING: Floats = np.concatenate([-np.geomspace(0.05, 1.0, 20)[::-1], EXPONENTS])
"""Candidates for draws: also curves that do not saturate, up to a straight line (c = -1)."""
LEAST_MISFIT = 0.005
"""Half a point of AP: a curve that misses by less is accepted, however exact the points are."""


def class_draws(store: MatchStore, weights: Floats) -> dict[str, Floats]:
    """Metric -> (1 + B, 1 + K) of one run: row 0 as measured, then one per row of the (B, I) image weights.

    Column 0 is the mean over the classes that occur; then one column per class, NaN where it does not occur.
    """
    with_measured = np.vstack([np.ones((1, store.n_images)), weights])
    draws = {}
    for metric, iou in METRICS.items():
        per_class = coco_ap.class_ap(store, iou, with_measured)
        draws[metric] = np.column_stack([_mean(per_class, 1), per_class])
    return draws


def _mean(values: Floats, axis: int) -> Floats:
    """The mean of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def seed_multipliers(n_draws: int, n_seeds: int, seed: int = 0) -> Floats:
    """(B, S) factors: the sum over seeds of factor * (value - mean over seeds) is a draw of the error of the mean.

    Distributed as standard error times Student's t with S - 1 degrees of freedom; zeros for a single seed.
    """
    if n_seeds < 2:
        return np.zeros((n_draws, n_seeds))
    rng = np.random.default_rng([seed, n_seeds])
    normal = rng.standard_normal((n_draws, n_seeds))
    scale = np.sqrt(rng.chisquare(n_seeds - 1, (n_draws, 1)) / (n_seeds - 1))
    return np.asarray(normal / scale / np.sqrt(n_seeds * (n_seeds - 1)))


def combine(values: Floats, multipliers: Floats) -> tuple[Floats, Floats]:
    """(S, N, 1 + B, C) of all runs, (B, S) -> means over seeds (N, C), and their draws (B, N, C)."""
    points = values[:, :, 0].mean(axis=0)
    draws = values[:, :, 1:].mean(axis=0).swapaxes(0, 1)
    return points, draws + np.einsum("bs,snc->bnc", multipliers, values[:, :, 0] - points)


def precision_weights(at_seeds: Floats) -> Floats:
    """(S, N) -> (N,) least-squares weights: inverse variance over seeds, shrunk halfway to its mean over counts."""
    if len(at_seeds) < 2:
        return np.ones(at_seeds.shape[1])
    variance = at_seeds.var(axis=0, ddof=1)
    shrunk = (variance + variance.mean()) / 2
    return np.asarray(variance.mean() / shrunk) if variance.mean() > 1e-12 else np.ones(len(variance))


def fit(labels: Floats, values: Floats, weights: Floats, exponents: Floats = EXPONENTS) -> Floats:
    """Weighted least squares of a rising a - b * n^-c with 0 <= a <= 1 where c > 0; for many draws at once.

    labels (N,), values (B, N) in 0..1, weights (N,), exponents (E,) to try -> (B, 3) of a, b, c; NaN if a value is NaN.
    """
    scale, y, sign = float(labels.max()), np.clip(values, 0.0, 1.0), np.sign(exponents)
    x = sign[:, None] * (labels / scale)[None, :] ** -exponents[:, None]  # (E, N), falling with n
    w = weights / weights.sum()
    x_mean, y_mean = x @ w, y @ w
    deviation = (x - x_mean[:, None]) * w
    slope = np.maximum(0.0, -(y @ deviation.T) / (deviation * x).sum(axis=1))  # (B, E): b, at first free of a <= 1
    top = y_mean[:, None] + slope * x_mean
    above = (top > 1) & (sign > 0)
    slope = np.where(above, ((1 - y) @ (x * w).T) / (x**2 @ w), slope)
    top = np.where(above, 1.0, top)
    error = ((top[..., None] - slope[..., None] * x - y[:, None, :]) ** 2) @ w
    best, rows = error.argmin(axis=1), np.arange(len(y))
    a, b, c = top[rows, best], (sign * slope)[rows, best], exponents[best]
    return np.column_stack([a, b * scale**c, c])


def predict(curves: Floats, labels: Floats) -> Floats:
    """(B, 3) curves at (M,) label counts -> (B, M)."""
    return np.asarray(curves[:, :1] - curves[:, 1:2] * labels[None, :] ** -curves[:, 2:])


def labels_needed(curves: Floats, target: float) -> Floats:
    """(B, 3) curves -> (B,) label counts at which they reach a target; infinite if they never do."""
    a, b, c = curves.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        count = np.maximum((a - target) / b, 0.0) ** (-1 / c)
    return np.where(b != 0, count, np.where(a >= target, 0.0, np.inf))


def next_frames(largest: int) -> int:
    """A round number of further frames, about half of the largest count: 1, 2 or 5 times a power of ten."""
    half = max(1.0, largest / 2)
    power = 10 ** int(np.floor(np.log10(half)))
    return max(int(step * power) for step in (1, 2, 5) if step * power <= half)


TOO_FEW = "too few validation images or drives for a curve with intervals"


def no_curve(labels: Sequence[int], points: Floats) -> str | None:
    """Why no curve can be fitted to (N,) mean values; None if one can."""
    if len(labels) < LEAST_COUNTS:
        return f"a curve needs at least {LEAST_COUNTS} label counts, this study has {len(labels)}"
    if np.isnan(points).any():
        return "not measured at every label count"
    if points[-1] <= points[0] or fit(np.asarray(labels, float), points[None], np.ones(len(labels)))[0, 1] == 0:
        return "the values do not rise with the number of labelled frames: nothing is extrapolated"
    return None


def regime_document(
    labels: Sequence[int], names: Sequence[str], values: Floats, multipliers: Floats, target: float | None = None
) -> Document:
    """Results of one regime from its (S, N, 1 + B, 1 + K) values: `points`, `curve` or `why_not`, `next`, `target`.

    Intervals are {"point", "low", "high", "se"} at 95 %; values are fractions.
    """
    points, draws = combine(values, multipliers)
    bounded = np.clip(draws, 0.0, 1.0)
    regime: Document = {
        "points": [
            {
                "frames": count,
                "value": _interval(float(points[n, 0]), bounded[:, n, 0]),
                "seeds": values[:, n, 0, 0].tolist(),
                "per_class": {
                    name: _interval(float(points[n, k]), bounded[:, n, k]) for k, name in enumerate(names, 1)
                },
            }
            for n, count in enumerate(labels)
        ],
        "curve": None,
        "next": None,
        "target": None,
        "why_not": no_curve(labels, points[:, 0]) or (None if len(draws) else TOO_FEW),
    }
    if regime["why_not"] is None:
        fitted = [fit_draws(labels, points[:, k], draws[..., k], values[:, :, 0, k]) for k in range(len(names) + 1)]
        regime["why_not"] = fitted[0][1]
    if regime["why_not"] is None:
        curves = [np.full_like(curve, np.nan) if why_not else curve for curve, why_not in fitted]
        regime["curve"] = _curve_document(labels, points[:, 0], curves[0])
        regime["next"] = _next_document(labels, names, curves)
        regime["target"] = None if target is None else _target_document(labels, curves[0], target)
    return regime


def fit_draws(labels: Sequence[int], points: Floats, draws: Floats, at_seeds: Floats) -> tuple[Floats, str | None]:
    """(1 + B, 3) curves of the (N,) means and of their (B, N) draws; and why the fit is refused, or None."""
    counts, weights = np.asarray(labels, float), precision_weights(at_seeds)
    best = fit(counts, points[None], weights)
    residuals = predict(best, counts)[0] - points
    freedom = len(labels) - LEAST_COUNTS
    noise = np.sqrt((weights * residuals**2).sum() / freedom / weights) if freedom else np.zeros(len(labels))
    noisy = draws + noise * np.random.default_rng(len(labels)).standard_normal(draws.shape)
    curves = np.vstack([best, fit(counts, noisy, weights, RISING)])
    draw_residuals = predict(fit(counts, draws, weights), counts) - np.clip(draws, 0.0, 1.0)
    return curves, _misfit(labels, points, residuals, draw_residuals) or _implausible(labels, points, draws, curves)


def _misfit(labels: Sequence[int], points: Floats, residuals: Floats, draw_residuals: Floats) -> str | None:
    """The point that a curve misses by more than the (B, N) residuals of draws explain: 95 % over all points."""
    if np.isnan(points).any():
        return None
    tail = 2.5 / len(labels)
    low, high = np.nanpercentile(draw_residuals, [tail, 100 - tail], axis=0)
    significant = (np.abs(residuals) > LEAST_MISFIT) & ((low > 0) | (high < 0))
    if not significant.any():
        return None
    worst = int(np.where(significant, np.abs(residuals), 0.0).argmax())
    return (
        f"the points do not follow a saturating curve (off by {100 * abs(residuals[worst]):.1f} at {labels[worst]:,}), "
        "so nothing is predicted"
    )


def _implausible(labels: Sequence[int], points: Floats, draws: Floats, curves: Floats) -> str | None:
    """Why the extrapolation is refused: it is below the last point, or below nearly all curves of the draws."""
    ahead = labels[-1] + next_frames(labels[-1])
    predicted = predict(curves, np.array([ahead], float))[:, 0]
    if np.isnan(points).any():
        return None
    if predicted[0] < np.nanpercentile(draws[:, -1], 2.5):
        return (
            f"a saturating curve would give less at {ahead:,} ({100 * predicted[0]:.1f}) than was measured at "
            f"{labels[-1]:,} ({100 * points[-1]:.1f}), so nothing is predicted"
        )
    if predicted[0] + LEAST_MISFIT < np.nanpercentile(predicted[1:], 2.5):
        return "the points rise faster than a saturating curve, so nothing is predicted"
    return None


def _interval(point: float, draws: Floats) -> Document:
    """An interval as in all documents; null in place of NaN."""
    return {key: None if np.isnan(value) else value for key, value in interval(point, draws).items()}


def _curve_document(labels: Sequence[int], points: Floats, curves: Floats) -> Document:
    grid = np.unique(np.concatenate([np.geomspace(labels[0], REACH * labels[-1], 41), [labels[-1]]]))
    line = np.clip(predict(curves, grid), 0.0, 1.0)
    low, high = np.nanpercentile(line[1:], [2.5, 97.5], axis=0)
    misfit = np.abs(predict(curves[:1], np.asarray(labels, float))[0] - points).max()
    return {
        **dict(zip("abc", map(float, curves[0]), strict=True)),
        "largest_misfit": float(misfit),
        "line": np.column_stack([grid, line[0], low, high]).tolist(),
    }


def _next_document(labels: Sequence[int], names: Sequence[str], curves: Sequence[Floats]) -> Document:
    """The gain from the next frames, overall and per class; the class that gains most if half of the draws agree."""
    step, last = next_frames(labels[-1]), labels[-1]
    ends = np.array([last, last + step], float)
    at_ends = [np.clip(predict(curve, ends), 0.0, 1.0) for curve in curves]
    gains = [values[:, 1] - values[:, 0] for values in at_ends]
    by_class = np.where(np.isnan(gains[1:]), -np.inf, gains[1:])  # (K, 1 + B)
    first = int(by_class[:, 0].argmax())
    clear = len(names) > 1 and by_class[first, 0] > 0 and (by_class[:, 1:].argmax(axis=0) == first).mean() >= 0.5
    return {
        "frames": step,
        "from": last,
        "value": _interval(float(at_ends[0][0, 1]), at_ends[0][1:, 1]),
        "gain": _interval(float(gains[0][0]), gains[0][1:]),
        "per_class": {name: _interval(float(gain[0]), gain[1:]) for name, gain in zip(names, gains[1:], strict=True)},
        "mostly": names[first] if clear else None,
    }


def _target_document(labels: Sequence[int], curves: Floats, target: float) -> Document:
    """How many frames reach the target, at least the smallest count tried; null beyond the range of the curve."""
    needed = labels_needed(curves, target)
    low, high = np.percentile(needed[1:], [2.5, 97.5], method="nearest")
    most = REACH * labels[-1]
    shown = [
        None if not value <= most else max(float(labels[0]), float(np.ceil(value))) for value in (needed[0], low, high)
    ]
    return {
        "value": target,
        "frames": dict(zip(("point", "low", "high"), shown, strict=True)),
        "least": labels[0],
        "most": int(most),
    }


def gain_documents(
    labels: Sequence[int], values: Mapping[str, Floats], over: str, multipliers: Floats
) -> list[Document]:
    """The gain of every other regime over `over` at each label count: paired by drive and by seed."""
    base, base_draws = combine(values[over][..., :1], multipliers)
    rows = []
    for name, of_regime in values.items():
        if name != over:
            points, draws = combine(of_regime[..., :1], multipliers)
            rows += [
                {
                    "regime": name,
                    "over": over,
                    "frames": count,
                    "gain": _interval(float(points[n, 0] - base[n, 0]), draws[:, n, 0] - base_draws[:, n, 0]),
                }
                for n, count in enumerate(labels)
            ]
    return rows
