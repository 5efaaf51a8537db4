"""Where a dataset's labels say that vehicles are: conditions light their lamps there."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import ImageRecord

VEHICLE_WORDS = frozenset(
    {
        *("vehicle", "vehicles", "car", "cars", "taxi", "suv", "van", "vans", "minivan", "pickup", "caravan"),
        *("truck", "trucks", "lorry", "heavy", "trailer", "bus", "buses", "minibus", "tram", "train"),
        *("motorcycle", "motorcycles", "motorbike", "motor", "moped", "scooter"),
    }
)
"""A category is one of vehicles with lamps when a word of its name is one of these: `car`, `big bus`, `truck-l-`."""


@lru_cache(16)
def vehicle_ids(categories: tuple[str, ...]) -> frozenset[int]:
    """The ids 1..K of the categories of vehicles. People, riders and bicycles are not."""
    return frozenset(
        number
        for number, name in enumerate(categories, 1)
        if VEHICLE_WORDS.intersection(re.findall("[a-z]+", name.lower()))
    )


def vehicle_boxes(record: ImageRecord, categories: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(N, 4) xyxy px of the image's vehicles: objects of such categories, and ignore regions that hide only those.

    An ignored vehicle (small, occluded, in a group) is treated as a labelled one, so that nothing that is drawn there
    tells the two apart. A region that hides people too may hold anything, and is left out.
    """
    ids, every = vehicle_ids(categories), range(1, len(categories) + 1)
    boxes = [item.bbox_xywh for item in record.annotations if item.category_id in ids]
    boxes += [item.bbox_xywh for item in record.ignore_regions if ids.issuperset(item.category_ids or every)]
    return np.array([xywh_to_xyxy(box) for box in boxes], np.float32).reshape(-1, 4)
