"""A clean dataset, its pictures, and the faults that tests plant in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetl.coco.masks import encode

Document = dict[str, Any]
W, H = 640, 400


def annotation(number: int, image: int, category: int, box: list[float], **more: Any) -> Document:
    record = {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
    return record | {"area": box[2] * box[3], "attributes": {}} | more


def clean() -> Document:
    """Ten frames of two drives: cars and pedestrians, fifty and more of each, one frame empty, one ignore region."""
    generator = np.random.default_rng(3)
    images, annotations = [], []
    for image in range(1, 11):
        images.append(
            {
                "id": image,
                "file_name": f"drive/{image:03d}.png",
                "width": W,
                "height": H,
                "sequence": f"drive {image // 6}",
                "frame_index": image,
                "attributes": {"weather": "clear" if image < 6 else "rain"},
            }
        )
        for place in range(12 if image != 10 else 0):
            category = 1 + place % 2
            w, h = (60, 40) if category == 1 else (16, 40)
            x, y = 57.0 * place, 150.0 + generator.integers(0, 200)
            number = len(annotations) + 1
            annotations.append(annotation(number, image, category, [min(x, W - w), float(y), w, h]))
    for category in (1, 2):
        number = len(annotations) + 1
        region = {"ignore_region": 0}
        annotations.append(annotation(number, 1, category, [10, 10, 90, 60], iscrowd=1, attributes=region))
    return {
        "info": {"drivetl": {"images_root": "images", "source": "planted"}},
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}],
        "images": images,
        "annotations": annotations,
    }


def write_pictures(root: Path) -> Path:
    """The images of clean(), each different, below root / "images"."""
    (root / "images" / "drive").mkdir(parents=True)
    for image in clean()["images"]:
        generator = np.random.default_rng(image["id"])
        pixels = generator.integers(0, 256, (H // 8, W // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(root / "images" / image["file_name"])
    return root


def change(place: int, **fields: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][place].update(fields)


def picture(place: int, **fields: Any) -> Callable[[Document], None]:
    return lambda document: document["images"][place].update(fields)


def every_box(turn: Callable[[list[float]], list[float]]) -> Callable[[Document], None]:
    def plant(document: Document) -> None:
        for record in document["annotations"]:
            record["bbox"] = turn(record["bbox"])
            record["area"] = max(1e-6, record["bbox"][2] * record["bbox"][3])

    return plant


def more(*records: Document) -> Callable[[Document], None]:
    return lambda document: document["annotations"].extend(copy.deepcopy(record) for record in records)


def without_sequence(document: Document) -> None:
    for image in document["images"]:
        image["sequence"] = ""


def classes_from_0(document: Document) -> None:
    for record in document["categories"]:
        record["id"] -= 1
    for record in document["annotations"]:
        record["category_id"] -= 1


def lost_labels(document: Document) -> None:
    kept = [record for record in document["annotations"] if record["image_id"] != 4]
    cars = [annotation(2000 + n, 1, 1, [57.0 * n, 340, 40, 30]) for n in range(6)]
    people = [annotation(3000 + n, 1, 2, [57.0 * n, 90, 16, 40]) for n in range(6)]
    document["annotations"] = kept + cars + people


def gap(document: Document) -> None:
    for record in document["annotations"][50:]:
        record["id"] += 7


def new_class(name: str, objects: int = 0) -> Callable[[Document], None]:
    def plant(document: Document) -> None:
        document["categories"].append({"id": 3, "name": name})
        for number in range(objects):
            box = [10.0 + 30 * number, 300, 25, 20]
            document["annotations"].append(annotation(1000 + number, 10, 3, box))

    return plant


ERRORS: dict[str, tuple[Callable[[Document], None], str, int]] = {
    "nan": (change(5, bbox=[1, 2, None, 4]), "box-unusable", 1),
    "three numbers": (change(5, bbox=[1, 2, 4]), "box-unusable", 1),
    "text": (change(5, bbox=["1", "2", "3", "4"]), "box-unusable", 1),
    "endless": (change(5, bbox=[1e308, 1, 1, 1]), "box-unusable", 1),
    "negative": (change(5, bbox=[100, 200, -20, 30]), "box-negative", 1),
    "flat": (change(5, bbox=[100, 200, 20, 0]), "box-degenerate", 1),
    "outside": (change(5, bbox=[700, 200, 20, 30]), "box-outside", 1),
    "corners, one": (change(4, bbox=[500, 210, 590, 270]), "box-corners", 1),
    "corners, all": (every_box(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), "box-corners", 110),
    "centres, all": (every_box(lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, *b[2:]]), "box-centred", 110),
    "shares, all": (every_box(lambda b: [b[0] / W, b[1] / H, b[2] / W, b[3] / H]), "box-normalised", 110),
    "w and h, one": (change(0, bbox=[50, 350, 40, 60]), "box-swapped", 1),
    "w and h, all": (every_box(lambda b: [b[0] * 0.9, b[1] * 0.9, b[3], b[2]]), "box-swapped", 108),
    "twice": (
        lambda document: document["annotations"].append(document["annotations"][7] | {"id": 500}),
        "box-repeated",
        1,
    ),
    "stray image": (change(3, image_id=77), "image-unknown", 1),
    "stray class": (change(3, category_id=9), "category-unknown", 1),
    "id twice": (change(3, id=1), "annotation-id-repeated", 1),
    "id text": (change(3, id="a"), "annotation-id-missing", 1),
    "image id twice": (picture(9, id=3), "image-id-repeated", 1),
    "file twice": (picture(9, file_name="drive/003.png"), "file-name-repeated", 1),
    "climbs out": (picture(9, file_name="../../etc/passwd"), "file-name-unsafe", 1),
    "no name": (picture(9, file_name="."), "file-name-unsafe", 1),
    "no width": (picture(9, width=0), "image-records", 1),
    "classes from 0": (classes_from_0, "category-ids", 1),
    "nameless": (lambda document: document["categories"].append({"id": 3}), "category-records", 1),
    "short mask": (change(3, segmentation=[[1, 2, 3, 4]]), "mask-unusable", 1),
    "mask of another size": (change(3, segmentation=encode(np.ones((30, 30), np.uint8))), "mask-unusable", 1),
}


ODDITIES: dict[str, tuple[Callable[[Document], None], str, int]] = {
    "past the edge": (change(0, bbox=[-3, 200, 60, 40]), "box-past-edge", 1),
    "nearly twice": (
        more(annotation(500, 9, 1, [200, 60, 100, 60]), annotation(501, 9, 1, [201, 60, 101, 60])),
        "box-nearly-repeated",
        1,
    ),
    "two classes": (
        more(annotation(500, 9, 1, [200, 60, 50, 50]), annotation(501, 9, 2, [200, 60, 50, 50])),
        "box-two-classes",
        1,
    ),
    "vanishes": (change(0, bbox=[100, 60, 60, 0.5], area=30), "box-vanishes", 1),
    "small": (change(0, bbox=[100, 60, 10, 3], area=30), "box-small", 1),
    "sliver": (change(0, bbox=[100, 60, 260, 10], area=2600), "box-sliver", 1),
    "everything": (change(0, bbox=[0, 0, W, H], area=W * H), "box-whole-image", 1),
    "in the ignore region": (change(0, bbox=[20, 20, 60, 40]), "object-ignored", 1),
    "area": (change(0, area=0), "area-wrong", 1),
    "mask elsewhere": (change(0, segmentation=[[400, 10, 500, 10, 500, 90, 400, 90]]), "mask-beside-box", 1),
    "id 0": (change(0, id=0), "annotation-id-zero", 1),
    "gap": (gap, "annotation-id-gaps", 1),
    "no object": (new_class("tram"), "class-empty", 1),
    "few objects": (new_class("tram", 5), "class-rare", 1),
    "misspelt": (new_class("Cars"), "category-similar", 1),
    "labels lost": (lost_labels, "image-suddenly-empty", 1),
    "no drive": (without_sequence, "sequence-missing", 10),
    "one of a kind": (picture(9, sequence="alone"), "sequence-single", 1),
    "no drive for one": (picture(9, sequence=""), "sequence-partly-missing", 1),
    "same frame": (picture(9, frame_index=9), "frame-repeated", 1),
}
