"""The choice: one frame after the other, so that the first 25 of 50 are the 25 that would be chosen alone.

Each step takes, among the drives with the fewest chosen frames, the frame with the largest product of its uncertainty
and its distance to the nearest frame that is labelled or chosen (greedy k-center, weighted by uncertainty), divided by
1 + the number of frames chosen under the same conditions. A near-duplicate of a labelled or chosen frame, and a frame
of the same drive less than the gap before or after one, cannot be chosen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.convert.leaks import NEAR_BITS, differing_bits
from drivetl.metrics.truth import Bools, Floats
from drivetl.selection.distance import FARTHEST, Objects, distances_to
from drivetl.selection.pool import Frame

FAR = 1.5
"""A chosen frame is unlike the others when its distance is this many times the median of those it was chosen from."""


@dataclass(frozen=True)
class Choice:
    """One chosen frame, and what was known when it was chosen."""

    index: int
    """Into the frames."""
    uncertainty: float
    distance: float
    """To the nearest labelled or chosen frame; FARTHEST for the first without labelled ones."""
    is_far: bool
    first_of_drive: bool
    first_of_conditions: bool
    alone_in_drive: bool
    """Whether no other frame of its drive has its conditions, and its drive has others."""


@dataclass
class Chosen:
    """The choices in order, and why the other frames cannot be chosen."""

    choices: list[Choice] = field(default_factory=list)
    near: int = 0
    """Frames left out as near-duplicates of a labelled or chosen frame."""
    close: int = 0
    """Frames left out because a labelled or chosen frame of their drive is less than the gap away."""


def choose(
    frames: Sequence[Frame],
    objects: Objects,
    fingerprints: npt.ArrayLike,
    uncertainties: Floats,
    count: int,
    *,
    gap_s: float = 2.0,
    seed: int = 0,
    labelled: Sequence[Frame] = (),
    labelled_fingerprints: npt.ArrayLike = (),
    nearest: Floats | None = None,
) -> Chosen:
    """Choose at most `count` of F frames; fewer when no others are left.

    fingerprints: (F, 256); uncertainties: (F,); nearest: (F,) distance to the nearest labelled frame; labelled: frames
    that keep others of their drive (where the source names it) away by `gap_s`. seed: the order of frames that are
    equally good. Nested: a smaller count gives the first of a larger one.
    """
    bits = np.asarray(fingerprints, np.float32).reshape(-1, 256)
    chosen = Chosen()
    free = np.ones(len(frames), bool)
    away = np.full(len(frames), FARTHEST) if nearest is None else nearest.copy()
    drives = np.array([frame.drive for frame in frames], np.str_)
    times = np.array([np.nan if frame.time_s is None else frame.time_s for frame in frames])
    _leave_out(free, _near_any(bits, labelled_fingerprints), _close_to_any(drives, times, labelled, gap_s), chosen)
    rank = _tie_ranks(frames, seed)
    of_drive, of_conditions = Counter[str](), Counter[object]()
    alone = _alone_in_drive(frames)
    for _ in console.track(range(min(count, len(frames))), "choosing", unit="frames"):
        if not free.any():
            break
        behind = _fewest(drives, of_drive, free)
        share = np.array([1.0 + of_conditions[frame.conditions] for frame in frames])
        gain = uncertainties * away / share
        best = np.lexsort((rank, -away, -gain, ~behind))[0]
        frame = frames[best]
        far = (chosen.choices or nearest is not None) and away[best] > FAR * np.median(away[free])
        chosen.choices.append(
            Choice(
                int(best),
                float(uncertainties[best]),
                float(away[best]),
                bool(far),
                of_drive[frame.drive] == 0,
                of_conditions[frame.conditions] == 0,
                bool(alone[best]),
            )
        )
        of_drive[frame.drive] += 1
        of_conditions[frame.conditions] += 1
        free[best] = False
        near = differing_bits(bits[best : best + 1], bits)[0] <= NEAR_BITS
        _leave_out(free, near, _close_to_any(drives, times, [frame], gap_s), chosen)
        np.minimum(away, distances_to(objects, objects, int(best)), out=away)
    return chosen


def _leave_out(free: Bools, near: Bools, close: Bools, chosen: Chosen) -> None:
    chosen.near += int((free & near).sum())
    chosen.close += int((free & close & ~near).sum())
    free &= ~(near | close)


def _near_any(bits: npt.NDArray[np.float32], others: npt.ArrayLike) -> Bools:
    """(F,) whether any of the others is a near-duplicate."""
    theirs = np.asarray(others, np.float32).reshape(-1, 256)
    near = np.zeros(len(bits), bool)
    for start in range(0, len(theirs), 1024):
        near |= (differing_bits(bits, theirs[start : start + 1024]) <= NEAR_BITS).any(axis=1)
    return near


def _close_to_any(drives: npt.NDArray[np.str_], times_s: Floats, others: Sequence[Frame], gap_s: float) -> Bools:
    """(F,) whether another frame of its drive is less than `gap_s` away; False where a time is unknown (NaN)."""
    theirs: dict[str, list[float]] = {}
    for other in others:
        if other.time_s is not None:
            theirs.setdefault(other.drive, []).append(other.time_s)
    close = np.zeros(len(drives), bool)
    for drive, moments in theirs.items():
        own = np.flatnonzero(drives == drive)
        close[own] = (np.abs(times_s[own, None] - np.array(moments)) < gap_s - 1e-9).any(axis=1)
    return close


def _fewest(drives: npt.NDArray[np.str_], of_drive: Counter[str], free: Bools) -> Bools:
    """(F,) the free frames of the drives with the fewest chosen frames among the drives that have free ones."""
    counts = np.array([of_drive[str(drive)] for drive in drives])
    return np.asarray(free & (counts == counts[free].min()), bool)


def _alone_in_drive(frames: Sequence[Frame]) -> list[bool]:
    both = Counter((frame.drive, frame.conditions) for frame in frames)
    drive = Counter(frame.drive for frame in frames)
    return [both[frame.drive, frame.conditions] == 1 and drive[frame.drive] > 1 for frame in frames]


def _tie_ranks(frames: Sequence[Frame], seed: int) -> npt.NDArray[np.uint64]:
    """(F,) numbers that depend on the seed and the frame's name alone."""
    digests = (hashlib.blake2b(f"{seed} {frame.record.file_name}".encode(), digest_size=8).digest() for frame in frames)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)
