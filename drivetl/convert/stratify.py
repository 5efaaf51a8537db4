"""Choose the groups of val so that its share of every class and attribute value is near the target share.

The cost of a choice is the squared distance of val's share from the target share, summed over images, classes and
attribute values, plus a penalty for each one that a side lacks. A seeded start is improved by moving single groups and
swapping pairs until the cost no longer falls.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from drivetl.coco.records import ImageRecord

Shares = npt.NDArray[np.float64]

_SEARCHED_GROUPS = 600  # with more groups the start is balanced enough, and searching pairs is slow
_MAX_STEPS = 200
_RARE_VALUES = 30  # attributes with more values (a timestamp) are not stratified
_IMAGE_WEIGHT = 4.0
_VAL_LACKS, _TRAIN_LACKS = 0.5, 1.0  # what val lacks cannot be evaluated, what train lacks cannot be trained


def choose_val_groups(groups: Mapping[str, Sequence[ImageRecord]], val_fraction: float, seed: int) -> set[str]:
    """The keys of the groups that go to val: at least one and never all, when there are two or more."""
    keys = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    if len(keys) < 2:
        return set()
    counts, weights = _count([groups[key] for key in keys])
    target = Target(counts, weights, val_fraction)
    in_val = _sequential_start(target)
    if len(keys) <= _SEARCHED_GROUPS:
        _improve(in_val, target)
    return {key for key, chosen in zip(keys, in_val, strict=True) if chosen}


def _count(groups: Sequence[Sequence[ImageRecord]]) -> tuple[Shares, Shares]:
    """(G, D) counts of images, objects per class and images per attribute value, and the (D,) weights."""
    rows = [_group_counts(group) for group in groups]
    values = Counter(token[1] for token in {token for row in rows for token in row if token[0] == "attribute"})
    names = sorted(
        {token for row in rows for token in row if token[0] != "attribute" or values[token[1]] <= _RARE_VALUES}
    )
    column = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(groups), len(names)))
    for number, row in enumerate(rows):
        for token, count in row.items():
            if token in column:
                counts[number, column[token]] = count
    weights = np.array([_IMAGE_WEIGHT if name[0] == "images" else 1.0 for name in names])
    return counts, weights


def _group_counts(group: Sequence[ImageRecord]) -> Counter[tuple[str, str, str]]:
    counts: Counter[tuple[str, str, str]] = Counter({("images", "", ""): len(group)})
    for image in group:
        for item in image.annotations:
            counts["class", "", str(item.category_id)] += 1
        for name, value in image.attributes.items():
            if isinstance(value, str | bool):
                counts["attribute", name, str(value)] += 1
    return counts


class Target:
    """The cost of a choice of groups."""

    def __init__(self, counts: Shares, weights: Shares, val_fraction: float):
        self.shares = counts / counts.sum(axis=0)
        """(G, D): the share of dimension d that is in group g."""
        self.weights, self.val_fraction = weights, val_fraction
        self.common = (counts > 0).sum(axis=0) >= 2
        """(D,): whether at least two groups have it, so that both sides can."""

    def cost(self, share: Shares) -> Shares:
        """(..., D) val shares -> (...) costs, rounded so that ties are broken by order and not by rounding errors."""
        distance = (self.weights * (share - self.val_fraction) ** 2).sum(axis=-1)
        not_in_val = (self.common & (share < 1e-9)).sum(axis=-1)
        not_in_train = (share > 1 - 1e-9).sum(axis=-1)
        return np.asarray(np.round(distance + _VAL_LACKS * not_in_val + _TRAIN_LACKS * not_in_train, 9))


def _sequential_start(target: Target) -> npt.NDArray[np.bool_]:
    """(G,) choice: each group in turn goes to the side that keeps val nearest to its target share so far."""
    shares, weights, val_fraction = target.shares, target.weights, target.val_fraction
    in_val = np.zeros(len(shares), bool)
    debt = np.zeros(shares.shape[1])
    for number, row in enumerate(shares):
        to_val, to_train = debt + (1 - val_fraction) * row, debt - val_fraction * row
        in_val[number] = weights @ to_val**2 < weights @ to_train**2
        debt = to_val if in_val[number] else to_train
    if in_val.all():
        in_val[-1] = False
    if not in_val.any():
        in_val[int(np.argmin(shares @ weights))] = True
    return in_val


def _improve(in_val: npt.NDArray[np.bool_], target: Target) -> None:
    """Move one group or swap two, in place, while the cost falls."""
    shares = target.shares
    for _ in range(_MAX_STEPS):
        now = shares[in_val].sum(axis=0)
        best = float(target.cost(now))
        val, train = np.flatnonzero(in_val), np.flatnonzero(~in_val)
        signs = np.where(in_val, -1.0, 1.0)[:, None]
        moves = target.cost(now + signs * shares)
        if len(val) == 1:
            moves[val] = np.inf
        if len(train) == 1:
            moves[train] = np.inf
        change, lowest = [int(np.argmin(moves))], float(moves.min())
        for out in val:
            swaps = target.cost(now - shares[out] + shares[train])
            if swaps.min() < lowest:
                change, lowest = [int(out), int(train[np.argmin(swaps)])], float(swaps.min())
        if lowest >= best:
            return
        in_val[change] = ~in_val[change]
