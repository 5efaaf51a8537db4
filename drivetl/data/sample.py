"""How an image and its labels are held between the dataset and the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Sample:
    """An image with everything that must move with it when it is flipped, cropped or scaled."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3) RGB."""
    boxes: npt.NDArray[np.float32]
    """(N, 4) xyxy px, N may be 0."""
    labels: npt.NDArray[np.int64]
    """(N,) category ids 1..K."""
    ignore_boxes: npt.NDArray[np.float32]
    """(M, 4) xyxy px: regions that are neither object nor background."""
    image_id: int
    masks: npt.NDArray[np.uint8] | None = None
    """(N, H, W) of 0 and 1; None when the model needs no masks."""
    has_mask: npt.NDArray[np.bool_] | None = None
    """(N,): False where the source has only a box; the mask row is then empty and excluded from the loss."""
    labelled: tuple[int, ...] | None = None
    """Category ids this image's source labels; None: all."""
    depth: npt.NDArray[np.float32] | None = None
    """(H, W) metres where the dataset has depth maps, for conditions; None: estimated from the image."""
    vehicles: npt.NDArray[np.float32] | None = None
    """(V, 4) xyxy px: where vehicles are (`vehicle_boxes`), for conditions; None: unknown."""
