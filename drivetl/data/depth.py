"""Depth maps of a dataset: fog and rain use them instead of a depth estimated from the image.

An image names its depth map under `depth`, as a key of the image in the json or among its attributes: a 16-bit PNG of
the image's size, metres times 256, 0 where the depth is unknown (KITTI's convention). The path is relative to the
images root.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.coco.records import ImageRecord
from drivetl.errors import DataError
from drivetl.files.paths import safe_relative

UNITS_PER_M = 256.0


def depth_path(record: ImageRecord, root: Path) -> Path | None:
    """The image's depth map, None where it has none. Raises DataError for a path outside the images root."""
    name = record.extra.get("depth") or record.attributes.get("depth")
    if not isinstance(name, str) or not name:
        return None
    return root / safe_relative(name)


def read_depth(record: ImageRecord, root: Path) -> npt.NDArray[np.float32] | None:
    """(H, W) metres, 0 where unknown; None where the image has no depth map.

    Raises DataError for a map that is missing, not 16-bit, or of another size than its image.
    """
    path = depth_path(record, root)
    if path is None:
        return None
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None:
        raise DataError(
            f"the depth map of {record.file_name} cannot be read",
            remedy="check that it exists under the images root, or remove `depth` from the json",
            file=path,
        )
    if image.dtype != np.uint16 or image.shape != (record.height, record.width):
        raise DataError(
            f"the depth map is {image.dtype} of shape {image.shape}",
            remedy=f"write a 16-bit PNG of {record.width} x {record.height}, metres times 256, 0 where unknown",
            file=path,
        )
    return image.astype(np.float32) / np.float32(UNITS_PER_M)
