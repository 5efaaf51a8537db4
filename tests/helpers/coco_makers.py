"""Datasets made of a few words, for the tests of drivetl.coco."""

from pathlib import Path

from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord

CLASSES = ("car", "pedestrian", "tram")


def record(number: int, sequence: str = "", frame: int | None = None, classes: str = "", **attributes) -> ImageRecord:
    """Image `number`; `classes` has a letter for each object: c, p or t."""
    image = ImageRecord(number, f"{number:05d}.png", 100, 50, sequence, frame, attributes)
    for letter in classes:
        category_id = "cpt".index(letter) + 1
        image.annotations.append(Annotation(category_id, (10.0, 10.0, 5.5, 7.25), 39.875))
    return image


def dataset(images: list[ImageRecord], root: Path) -> Dataset:
    return Dataset(CLASSES, images, root, {"source": "made"})


def three_images(root: Path) -> Dataset:
    """A normal image, an EMPTY one, an odd one: masks, ignore regions for some and for all, foreign keys."""
    odd = ImageRecord(
        7,
        "b/odd, [x].png",
        64,
        48,
        "drive β",
        12,
        {"weather": "rain"},
        labelled=(1, 2),
        extra={"license": 3, "flickr_url": "none"},
    )
    odd.annotations.append(
        Annotation(
            2,
            (0.1, 0.2, 0.30000000000000004, 1e-9),
            3.0,
            [[0.0, 0.0, 4.0, 0.0, 4.0, 4.5]],
            {"note": 'says "id":0,'},
            {"score": 1},
        )
    )
    odd.ignore_regions += [
        IgnoreRegion((1.0, 1.0, 9.0, 9.0), 81.0),
        IgnoreRegion((1.0, 1.0, 9.0, 9.0), 81.0),  # the same place twice stays two regions
        IgnoreRegion(
            (2.0, 2.0, 4.0, 4.0),
            5.0,
            (1, 3),
            {"size": [48, 64], "counts": [0, 5, 3067]},
            {"source_label": "cargroup", "inner": {"category_id": 1, "id": 3, "image_id": 7}},
            {"by": "me"},
        ),
    ]
    return dataset([record(1, "drive a", 0, "ccp"), record(2), odd], root)
