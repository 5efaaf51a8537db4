"""AP against the number of labelled frames: intervals over seeds and drives, a saturating curve, what more labels buy.

Letters in shapes: S seeds, N label counts, B draws, C columns (first the mean over classes, then every class).
The curve is AP(n) = a - b * n^-c (a power law with an asymptote: Hestness et al. 2017, Rosenfeld et al. 2020).

What an interval covers: the AP that this recipe has on average over seeds (which frames are labelled first, how the
training turns out), on drives like the validation drives. A draw resamples whole validation drives, the same ones for
every run, and shifts the mean over seeds by Student's t with S - 1 degrees of freedom: three seeds say little about
their own spread, and a plain bootstrap over three would be a third too sure. A seed is one unit over all label counts
and regimes, so that errors that the counts share cancel in gains.

A curve is drawn only where the points bear it: one that misses a point by more than draws explain is refused. What it
misses within that counts as noise of the points, and a draw may rise ever faster: few points cannot rule that out.
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
"""No curve is followed beyond so many times the largest label count."""
LEAST_COUNTS = 3
"""Fewer label counts than the curve has parameters support none."""
EXPONENTS: Floats = np.geomspace(0.05, 3.0, 64)
"""The c that are tried; for each, a and b are linear least squares."""
RISING: Floats = np.concatenate([-np.geomspace(0.05, 1.0, 20)[::-1], EXPONENTS])
"""The same with curves that do not saturate, up to a straight line (c = -1): what draws may be."""
LEAST_MISFIT = 0.005
"""Half a point of AP: a curve that misses by less is good enough, however exact the points are."""


def class_draws(store: MatchStore, weights: Floats) -> dict[str, Floats]:
    """Metric -> (1 + B, 1 + K) of one run: row 0 as measured, then under each row of the (B, I) image weights.

    Column 0 is the mean over the classes that occur, then each class, NaN where it does not occur.
    """
    every = np.vstack([np.ones((1, store.n_images)), weights])
    found = {}
    for metric, iou in METRICS.items():
        each = coco_ap.class_ap(store, iou, every)
        found[metric] = np.column_stack([_mean(each, 1), each])
    return found


def _mean(values: Floats, axis: int) -> Floats:
    """The mean of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def seed_multipliers(n_draws: int, n_seeds: int, seed: int = 0) -> Floats:
    """(B, S) factors: the sum over seeds of factor * (value - mean over seeds) is one draw of the mean's error.

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
    """(S, N) -> (N,) least-squares weights: one over the variance between seeds, halfway to what all counts share."""
    if len(at_seeds) < 2:
        return np.ones(at_seeds.shape[1])
    own = at_seeds.var(axis=0, ddof=1)
    spread = (own + own.mean()) / 2
    return np.asarray(own.mean() / spread) if own.mean() > 1e-12 else np.ones(len(own))


def fit(labels: Floats, values: Floats, weights: Floats, exponents: Floats = EXPONENTS) -> Floats:
    """Weighted least squares of a rising a - b * n^-c with 0 <= a <= 1 where c > 0; for many draws at once.

    labels (N,), values (B, N) in 0..1, weights (N,), exponents (E,) to try -> (B, 3) of a, b, c; NaN where a value is.
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
    """(B, 3) curves -> (B,) label counts at which they reach a target; infinite where they never do."""
    a, b, c = curves.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        count = np.maximum((a - target) / b, 0.0) ** (-1 / c)
    return np.where(b != 0, count, np.where(a >= target, 0.0, np.inf))


def next_frames(largest: int) -> int:
    """A round number of further frames, about half of what there is: 1, 2 or 5 times a power of ten."""
    half = max(1.0, largest / 2)
    power = 10 ** int(np.floor(np.log10(half)))
    return max(int(step * power) for step in (1, 2, 5) if step * power <= half)


def no_curve(labels: Sequence[int], points: Floats) -> str | None:
    """Why (N,) mean values support no curve; None where they do."""
    if len(labels) < LEAST_COUNTS:
        few = "1 label count supports" if len(labels) == 1 else f"{len(labels)} label counts support"
        return f"{few} no curve: it takes at least {LEAST_COUNTS}"
    if np.isnan(points).any():
        return "not measured at every label count"
    if points[-1] <= points[0] or fit(np.asarray(labels, float), points[None], np.ones(len(labels)))[0, 1] == 0:
        return "the values do not rise with the number of labelled frames: nothing is extrapolated"
    return None


def regime_document(
    labels: Sequence[int], names: Sequence[str], values: Floats, multipliers: Floats, target: float | None = None
) -> Document:
    """What one regime's (S, N, 1 + B, 1 + K) say: `points`, `curve` or `why_not`, `next` and `target`.

    Intervals are {"point", "low", "high", "se"} at 95 %; values are fractions.
    """
    points, draws = combine(values, multipliers)
    bounded = np.clip(draws, 0.0, 1.0)
    found: Document = {
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
        "why_not": no_curve(labels, points[:, 0]),
    }
    if found["why_not"] is None:
        fitted = [fit_draws(labels, points[:, k], draws[..., k], values[:, :, 0, k]) for k in range(len(names) + 1)]
        found["why_not"] = fitted[0][1]
    if found["why_not"] is None:
        curves = [np.full_like(one, np.nan) if why_not else one for one, why_not in fitted]
        found["curve"] = _curve_document(labels, points[:, 0], curves[0])
        found["next"] = _next_document(labels, names, curves)
        found["target"] = None if target is None else _target_document(labels, curves[0], target)
    return found


def fit_draws(labels: Sequence[int], points: Floats, draws: Floats, at_seeds: Floats) -> tuple[Floats, str | None]:
    """(1 + B, 3): the curve of the (N,) means, then of their (B, N) draws; and why the points do not bear it, or
    None."""
    counts, weights = np.asarray(labels, float), precision_weights(at_seeds)
    best = fit(counts, points[None], weights)
    missed = predict(best, counts)[0] - points
    freedom = len(labels) - LEAST_COUNTS
    noise = np.sqrt((weights * missed**2).sum() / freedom / weights) if freedom else np.zeros(len(labels))
    shaken = draws + noise * np.random.default_rng(len(labels)).standard_normal(draws.shape)
    curves = np.vstack([best, fit(counts, shaken, weights, RISING)])
    of_draws = predict(fit(counts, draws, weights), counts) - np.clip(draws, 0.0, 1.0)
    return curves, _misfit(labels, points, missed, of_draws) or _behind(labels, points, draws, curves)


def _misfit(labels: Sequence[int], points: Floats, missed: Floats, of_draws: Floats) -> str | None:
    """Which point a curve misses by more than the (B, N) misses of draws explain: 95 % over all points together."""
    if np.isnan(points).any():
        return None
    tail = 2.5 / len(labels)
    low, high = np.nanpercentile(of_draws, [tail, 100 - tail], axis=0)
    told = (np.abs(missed) > LEAST_MISFIT) & ((low > 0) | (high < 0))
    if not told.any():
        return None
    worst = int(np.where(told, np.abs(missed), 0.0).argmax())
    return (
        f"the points do not follow a saturating curve (off by {100 * abs(missed[worst]):.1f} at {labels[worst]:,}), "
        "so nothing is predicted"
    )


def _behind(labels: Sequence[int], points: Floats, draws: Floats, curves: Floats) -> str | None:
    """Whether a curve ends below what was measured already, or below nearly all curves that may rise ever faster."""
    ahead = labels[-1] + next_frames(labels[-1])
    there = predict(curves, np.array([ahead], float))[:, 0]
    if np.isnan(points).any():
        return None
    if there[0] < np.nanpercentile(draws[:, -1], 2.5):
        return (
            f"a saturating curve would give less at {ahead:,} ({100 * there[0]:.1f}) than was measured at "
            f"{labels[-1]:,} ({100 * points[-1]:.1f}), so nothing is predicted"
        )
    if there[0] + LEAST_MISFIT < np.nanpercentile(there[1:], 2.5):
        return "the points rise faster than a saturating curve, so nothing is predicted"
    return None


def _interval(point: float, draws: Floats) -> Document:
    """As everywhere, and null where nothing is known."""
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
    """What the next frames buy, overall and per class, and the class that gains most where that can be told."""
    step, last = next_frames(labels[-1]), labels[-1]
    ends = np.array([last, last + step], float)
    at_end = [np.clip(predict(one, ends), 0.0, 1.0) for one in curves]
    gains = [one[:, 1] - one[:, 0] for one in at_end]
    by_class = np.where(np.isnan(gains[1:]), -np.inf, gains[1:])  # (K, 1 + B)
    first = int(by_class[:, 0].argmax())
    told = len(names) > 1 and by_class[first, 0] > 0 and (by_class[:, 1:].argmax(axis=0) == first).mean() >= 0.5
    return {
        "frames": step,
        "from": last,
        "value": _interval(float(at_end[0][0, 1]), at_end[0][1:, 1]),
        "gain": _interval(float(gains[0][0]), gains[0][1:]),
        "per_class": {name: _interval(float(one[0]), one[1:]) for name, one in zip(names, gains[1:], strict=True)},
        "mostly": names[first] if told else None,
    }


def _target_document(labels: Sequence[int], curves: Floats, target: float) -> Document:
    """How many frames reach the target, at least the fewest tried; null where beyond what the curve is followed to."""
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
    """What every other regime has more than `over` at each label count: paired by drive and by seed."""
    base, base_draws = combine(values[over][..., :1], multipliers)
    rows = []
    for name, mine in values.items():
        if name != over:
            points, draws = combine(mine[..., :1], multipliers)
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
