"""The search of `anchor_fit`: coordinate descent over anchor sizes and ratios, on the boxes to fit on only."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from drivetl.models.anchors import AnchorSpec, Floats, ScaledBoxes, iou_with_shapes

_MARGIN, _PENALTY = 0.003, 3.0
"""Penalty for every group that loses coverage at IoU 0.5, as the loss would show on held-out boxes as well."""
_FACTOR = 2.0
_RATIO_RANGE = (0.15, 6.0)


def groups(boxes: ScaledBoxes) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of all boxes, of every class, and of four sizes (square root of the area at network input, px)."""
    sides = np.sqrt(np.prod(boxes.boxes[:, 2:] - boxes.boxes[:, :2], axis=1))
    masks = {"all": np.ones(len(boxes), np.bool_)}
    masks |= {name: boxes.labels == number for number, name in enumerate(boxes.categories, 1)}
    for low, high in itertools.pairwise((0, 16, 32, 96, math.inf)):
        masks[f"{low} to {high} px" if high < math.inf else f"{low}+ px"] = (sides >= low) & (sides < high)
    return masks


def starts(boxes: ScaledBoxes, before: AnchorSpec) -> list[AnchorSpec]:
    """Starting points of the search: the old anchors, and the data's own ratios, each at three scales."""
    sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    count = len(before.ratios[0])
    middle = (np.arange(count) + 0.5) / count
    own = tuple(np.quantile(sides[:, 1] / sides[:, 0], middle).clip(*_RATIO_RANGE).tolist())
    return [
        _rounded([[size * scale for size in level] for level in before.sizes], ratios)
        for ratios in (before.ratios[0], own)
        for scale in (0.71, 1.0, 1.41)
    ]


def more(same: AnchorSpec, before: AnchorSpec) -> list[AnchorSpec]:
    """Starting points with more anchors per location: two more ratios, and, where every level has a single size, two
    sizes half an octave apart."""
    low, high = min(same.ratios[0]), max(same.ratios[0])
    wider = sorted({*same.ratios[0], low / 1.6, high * 1.6})
    starts = [_rounded([list(level) for level in same.sizes], wider)]
    if all(len(level) == 1 for level in before.sizes):
        pairs = [[size * 2**-0.25, size * 2**0.25] for (size,) in same.sizes]
        starts.append(_rounded(pairs, same.ratios[0]))
    return starts


def search(boxes: ScaledBoxes, strides: Sequence[int], starts: list[AnchorSpec], before: AnchorSpec) -> AnchorSpec:
    """Coordinate descent in log space over the sizes of every level and the ratios they share, from the best start."""
    balance = 1 / np.sqrt(np.bincount(boxes.labels)[boxes.labels])
    weights = balance / balance.sum()
    members = np.stack([mask / mask.sum() for mask in groups(boxes).values() if mask.any()])  # (G, N), rows sum to 1
    # cached per level: a move changes one level only
    level_iou: dict[tuple[int, tuple[float, ...], tuple[float, ...]], Floats] = {}

    def best_iou_of(spec: AnchorSpec) -> Floats:
        keys = list(zip(strides, spec.sizes, spec.ratios, strict=True))
        for level, key in enumerate(keys):
            if key not in level_iou:
                level_iou[key] = iou_with_shapes(boxes, spec.shapes(level), strides[level]).max(axis=1)
        return np.asarray(np.max([level_iou[key] for key in keys], axis=0))

    floor = members @ (best_iou_of(before) >= 0.5)

    def value(spec: AnchorSpec) -> float:
        best_iou = best_iou_of(spec)
        loss = np.clip(floor + _MARGIN - members @ (best_iou >= 0.5), 0, None)
        return _objective(best_iou, weights) - _PENALTY * float(loss.sum())

    best = max(starts, key=value)
    for step in (1.3, 1.14, 1.06):
        best = _descend(best, step, value, before)
    return best


def _objective(best_iou: Floats, weights: Floats) -> float:
    """Coverage at both IoUs, plus the mean IoU as a slope towards it; rare classes weigh more."""
    covered = (best_iou >= 0.5).astype(float) + (best_iou >= 0.7)
    return float(weights @ (covered + best_iou))


def _descend(spec: AnchorSpec, step: float, value: Callable[[AnchorSpec], float], before: AnchorSpec) -> AnchorSpec:
    best, best_value = spec, value(spec)
    for _ in range(6):
        improved = False
        for candidate_of in _moves(best):
            for factor in (step, 1 / step):
                candidate = candidate_of(best, factor)
                if candidate is None or not _within(candidate, before):
                    continue
                candidate_value = value(candidate)
                if candidate_value > best_value + 1e-6:
                    best, best_value, improved = candidate, candidate_value, True
        if not improved:
            break
    return best


Move = Callable[[AnchorSpec, float], AnchorSpec | None]


def _moves(spec: AnchorSpec) -> list[Move]:
    """One move per size of each level and per shared ratio."""

    def size_move(level: int, number: int) -> Move:
        def move(current: AnchorSpec, factor: float) -> AnchorSpec:
            sizes = [list(item) for item in current.sizes]
            sizes[level][number] *= factor
            return _rounded(sizes, current.ratios[0])

        return move

    def ratio_move(number: int) -> Move:
        def move(current: AnchorSpec, factor: float) -> AnchorSpec | None:
            ratios = list(current.ratios[0])
            ratios[number] *= factor
            return _rounded([list(item) for item in current.sizes], ratios)

        return move

    sizes = [size_move(level, number) for level, item in enumerate(spec.sizes) for number in range(len(item))]
    return sizes + [ratio_move(number) for number in range(len(spec.ratios[0]))]


def _rounded(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> AnchorSpec:
    """Sizes rounded to 0.1 px and ratios to 0.01, so that they are readable."""
    level_sizes = tuple(tuple(round(float(size), 1) for size in sorted(level)) for level in sizes)
    shared = tuple(round(float(ratio), 2) for ratio in sorted(ratios))
    return AnchorSpec(level_sizes, (shared,) * len(level_sizes))


def _within(spec: AnchorSpec, before: AnchorSpec) -> bool:
    """Whether every level stays within a factor of two of the sizes its features were trained for."""
    ratios_fit = all(_RATIO_RANGE[0] <= ratio <= _RATIO_RANGE[1] for ratio in spec.ratios[0])
    return ratios_fit and all(
        min(old) / _FACTOR <= min(new) and max(new) <= max(old) * _FACTOR
        for new, old in zip(spec.sizes, before.sizes, strict=True)
    )
