"""Track ids by overlap alone: the same object in the next frame is the box that covers most of its last one.

It is meant for looking at a video and for counting, where frames follow each other quickly. There is no motion model
and no appearance: an object that moves by more than its own size between two frames, or is hidden for longer than the
patience, gets a new id, and two objects of one class that cross may swap theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.coco.boxes import area, intersection

Boxes = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_IOU = 0.3
PATIENCE_S = 0.5
"""For this long a track may be unseen before it ends."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """The T tracks that are alive after a frame."""

    boxes: Boxes
    """(T, 4) xyxy px, where each was last seen."""
    labels: Ints
    """(T,)"""
    ids: Ints
    """(T,) ascending."""
    unseen: Ints
    """(T,) frames since it was seen."""
    next_id: int


NO_TRACKS = Tracks(np.zeros((0, 4)), *(np.zeros(0, np.int64),) * 3, next_id=1)


def associate(
    tracks: Tracks, boxes: npt.ArrayLike, labels: npt.ArrayLike, min_iou: float = MIN_IOU, patience: int = 5
) -> tuple[Tracks, Ints]:
    """(tracks after this frame, (N,) track id of each of its boxes).

    boxes: (N, 4) xyxy px, labels: (N,). Pairs of a track and a box of its class are joined by falling IoU, from
    `min_iou` on; of equal IoUs the older track goes first, then the box further left. A box without a track starts one;
    a track unseen for more than `patience` frames ends, and its id is never used again. The result does not depend on
    the order of the boxes.
    """
    box, label = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(labels, np.int64).reshape(-1)
    order = np.lexsort((*box.T[::-1], label))
    box, label = box[order], label[order]
    shared = intersection(tracks.boxes, box)
    union = area(tracks.boxes)[:, None] + area(box)[None] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    track, found = np.nonzero((iou >= min_iou) & (iou > 0) & (tracks.labels[:, None] == label[None]))
    ids, seen = np.zeros(len(box), np.int64), np.zeros(len(tracks.ids), bool)
    for pair in np.lexsort((found, track, -iou[track, found])):
        if not seen[track[pair]] and not ids[found[pair]]:
            seen[track[pair]] = True
            ids[found[pair]] = tracks.ids[track[pair]]
    new = ids == 0
    ids[new] = tracks.next_id + np.arange(new.sum())
    kept = ~seen & (tracks.unseen < patience)
    alive = Tracks(
        np.concatenate([tracks.boxes[kept], box]),
        np.concatenate([tracks.labels[kept], label]),
        np.concatenate([tracks.ids[kept], ids]),
        np.concatenate([tracks.unseen[kept] + 1, np.zeros(len(box), np.int64)]),
        tracks.next_id + int(new.sum()),
    )
    by_id = np.argsort(alive.ids)
    in_given_order = np.empty_like(ids)
    in_given_order[order] = ids
    return Tracks(
        alive.boxes[by_id], alive.labels[by_id], alive.ids[by_id], alive.unseen[by_id], alive.next_id
    ), in_given_order
