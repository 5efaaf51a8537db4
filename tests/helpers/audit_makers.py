"""A clean dataset, its images, and the faults that tests plant in it."""

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
    """Ten frames of two drives: at least 50 cars and 50 pedestrians, one empty frame, one ignore region."""
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
        for index in range(12 if image != 10 else 0):
            category = 1 + index % 2
            w, h = (60, 40) if category == 1 else (16, 40)
            x, y = 57.0 * index, 150.0 + generator.integers(0, 200)
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


def write_images(root: Path) -> Path:
    """Write the images of clean(), all different, to root / "images"."""
    (root / "images" / "drive").mkdir(parents=True)
    for image in clean()["images"]:
        generator = np.random.default_rng(image["id"])
        pixels = generator.integers(0, 256, (H // 8, W // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(root / "images" / image["file_name"])
    return root


def change_annotation(index: int, **fields: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][index].update(fields)


def change_image(index: int, **fields: Any) -> Callable[[Document], None]:
    return lambda document: document["images"][index].update(fields)


def every_box(convert: Callable[[list[float]], list[float]]) -> Callable[[Document], None]:
    def plant(document: Document) -> None:
        for record in document["annotations"]:
            record["bbox"] = convert(record["bbox"])
            record["area"] = max(1e-6, record["bbox"][2] * record["bbox"][3])

    return plant


def add_annotations(*records: Document) -> Callable[[Document], None]:
    return lambda document: document["annotations"].extend(copy.deepcopy(record) for record in records)


def without_sequence(document: Document) -> None:
    for image in document["images"]:
        image["sequence"] = ""


def categories_from_0(document: Document) -> None:
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
    "nan": (change_annotation(5, bbox=[1, 2, None, 4]), "box-unusable", 1),
    "three numbers": (change_annotation(5, bbox=[1, 2, 4]), "box-unusable", 1),
    "text": (change_annotation(5, bbox=["1", "2", "3", "4"]), "box-unusable", 1),
    "huge": (change_annotation(5, bbox=[1e308, 1, 1, 1]), "box-unusable", 1),
    "negative": (change_annotation(5, bbox=[100, 200, -20, 30]), "box-negative", 1),
    "zero height": (change_annotation(5, bbox=[100, 200, 20, 0]), "box-degenerate", 1),
    "outside": (change_annotation(5, bbox=[700, 200, 20, 30]), "box-outside", 1),
    "corners, one": (change_annotation(4, bbox=[500, 210, 590, 270]), "box-corners", 1),
    "corners, all": (every_box(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), "box-corners", 110),
    "centres, all": (every_box(lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, *b[2:]]), "box-centred", 110),
    "normalised, all": (every_box(lambda b: [b[0] / W, b[1] / H, b[2] / W, b[3] / H]), "box-normalised", 110),
    "w and h, one": (change_annotation(0, bbox=[50, 350, 40, 60]), "box-swapped", 1),
    "w and h, all": (every_box(lambda b: [b[0] * 0.9, b[1] * 0.9, b[3], b[2]]), "box-swapped", 108),
    "duplicate": (
        lambda document: document["annotations"].append(document["annotations"][7] | {"id": 500}),
        "box-repeated",
        1,
    ),
    "unknown image": (change_annotation(3, image_id=77), "image-unknown", 1),
    "unknown category": (change_annotation(3, category_id=9), "category-unknown", 1),
    "duplicate id": (change_annotation(3, id=1), "annotation-id-repeated", 1),
    "id text": (change_annotation(3, id="a"), "annotation-id-missing", 1),
    "duplicate image id": (change_image(9, id=3), "image-id-repeated", 1),
    "duplicate file": (change_image(9, file_name="drive/003.png"), "file-name-repeated", 1),
    "leaves the root": (change_image(9, file_name="../../etc/passwd"), "file-name-unsafe", 1),
    "file is a folder": (change_image(9, file_name="."), "file-name-unsafe", 1),
    "no width": (change_image(9, width=0), "image-records", 1),
    "categories from 0": (categories_from_0, "category-ids", 1),
    "no category name": (lambda document: document["categories"].append({"id": 3}), "category-records", 1),
    "short mask": (change_annotation(3, segmentation=[[1, 2, 3, 4]]), "mask-unusable", 1),
    "mask of another size": (
        change_annotation(3, segmentation=encode(np.ones((30, 30), np.uint8))),
        "mask-unusable",
        1,
    ),
}


WARNINGS: dict[str, tuple[Callable[[Document], None], str, int]] = {
    "past the edge": (change_annotation(0, bbox=[-3, 200, 60, 40]), "box-past-edge", 1),
    "near duplicate": (
        add_annotations(annotation(500, 9, 1, [200, 60, 100, 60]), annotation(501, 9, 1, [201, 60, 101, 60])),
        "box-nearly-repeated",
        1,
    ),
    "two classes": (
        add_annotations(annotation(500, 9, 1, [200, 60, 50, 50]), annotation(501, 9, 2, [200, 60, 50, 50])),
        "box-two-classes",
        1,
    ),
    "vanishes": (change_annotation(0, bbox=[100, 60, 60, 0.5], area=30), "box-vanishes", 1),
    "small": (change_annotation(0, bbox=[100, 60, 10, 3], area=30), "box-small", 1),
    "sliver": (change_annotation(0, bbox=[100, 60, 260, 10], area=2600), "box-sliver", 1),
    "whole image": (change_annotation(0, bbox=[0, 0, W, H], area=W * H), "box-whole-image", 1),
    "in the ignore region": (change_annotation(0, bbox=[20, 20, 60, 40]), "object-ignored", 1),
    "area": (change_annotation(0, area=0), "area-wrong", 1),
    "mask outside box": (
        change_annotation(0, segmentation=[[400, 10, 500, 10, 500, 90, 400, 90]]),
        "mask-beside-box",
        1,
    ),
    "id 0": (change_annotation(0, id=0), "annotation-id-zero", 1),
    "gap": (gap, "annotation-id-gaps", 1),
    "empty class": (new_class("tram"), "class-empty", 1),
    "rare class": (new_class("tram", 5), "class-rare", 1),
    "similar name": (new_class("Cars"), "category-similar", 1),
    "labels lost": (lost_labels, "image-suddenly-empty", 1),
    "no drive": (without_sequence, "sequence-missing", 10),
    "single frame": (change_image(9, sequence="alone"), "sequence-single", 1),
    "one without drive": (change_image(9, sequence=""), "sequence-partly-missing", 1),
    "same frame": (change_image(9, frame_index=9), "frame-repeated", 1),
}
