"""Which boxes are vehicles', and that they move with the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_makers import three_images

from drivetl.coco.records import Annotation, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.data.dataset import DetectionDataset, read_sample
from drivetl.data.geometry import move
from drivetl.data.sample import Sample
from drivetl.data.transforms import TRANSFORMS
from drivetl.data.vehicles import vehicle_boxes, vehicle_ids

ROOT = Path(__file__).parents[2]
TAXONOMIES = [*ROOT.glob("datasets/*/taxonomy.yaml"), *ROOT.glob("configs/demo/*.yaml")]
SIGNS = ("traffic light", "traffic sign", "traffic cone", "barrier", "construction")
CATEGORIES = ("car", "pedestrian", "big truck")


def record(*annotations: tuple[int, float], ignored: tuple[tuple[tuple[int, ...], float], ...] = ()) -> ImageRecord:
    """Boxes of 20 x 10 px at x."""
    return ImageRecord(
        7,
        "a.png",
        100,
        50,
        annotations=[Annotation(number, (x, 5.0, 20.0, 10.0), 200.0) for number, x in annotations],
        ignore_regions=[IgnoreRegion((x, 5.0, 20.0, 10.0), 200.0, ids) for ids, x in ignored],
    )


@pytest.mark.parametrize(
    ("name", "vehicle"),
    [
        *((name, True) for name in ("car", "Van", "big bus", "truck-l-", "bus-s-", "motorcycle", "tram", "cargo van")),
        *(
            (name, False)
            for name in ("pedestrian", "rider", "bicycle", "traffic light", "carpet", "", "Person_sitting")
        ),
    ],
)
def test_a_category_is_a_vehicles_when_a_word_of_its_name_is(name: str, vehicle: bool) -> None:
    assert vehicle_ids((name,)) == (frozenset({1}) if vehicle else frozenset())


def test_the_vehicles_of_the_shipped_taxonomies() -> None:
    names = {name for path in TAXONOMIES for name in load_taxonomy(path).categories}
    others = {name for name in names if not vehicle_ids((name,))}
    assert names - others >= {"car", "van", "truck", "bus", "heavy", "tram", "train", "motorcycle"}
    assert others <= {*("pedestrian", "person", "person_sitting", "rider", "cyclist", "bicycle"), *SIGNS}, others


def test_an_ignored_vehicle_counts_and_a_region_of_anything_does_not() -> None:
    ignored = (((1,), 30), ((1, 3), 40), ((1, 2), 50), ((), 60))
    boxes = vehicle_boxes(record((1, 0), (2, 10), (3, 20), ignored=ignored), CATEGORIES)
    assert boxes[:, 0].tolist() == [0, 20, 30, 40]
    assert np.all(boxes[:, 2:] - boxes[:, :2] == (20, 10))
    only_cars = vehicle_boxes(record((1, 0), ignored=(((), 60),)), ("car",))  # all that there is to hide is a car
    assert only_cars[:, 0].tolist() == [0, 60]
    assert vehicle_boxes(record(), CATEGORIES).shape == (0, 4)


def test_vehicles_move_with_the_image_and_change_no_label() -> None:
    import albumentations

    sample = read_sample(record((1, 0), (2, 40), ignored=(((1,), 70),)), np.zeros((50, 100, 3), np.uint8), False)
    with_vehicles = replace(sample, vehicles=np.array([[0, 5, 20, 15], [70, 5, 90, 15]], np.float32))
    flip = albumentations.Compose(
        [albumentations.HorizontalFlip(p=1)],
        bbox_params=albumentations.BboxParams(format="pascal_voc", label_fields=["ids"]),
    )
    moved, plain = move(with_vehicles, flip, 0.25), move(sample, flip, 0.25)
    assert moved.vehicles is not None and np.allclose(moved.vehicles, [[80, 5, 100, 15], [10, 5, 30, 15]])
    assert np.array_equal(moved.boxes, plain.boxes) and np.array_equal(moved.labels, plain.labels)
    assert np.array_equal(moved.ignore_boxes, plain.ignore_boxes) and plain.vehicles is None


def test_a_night_that_is_trained_on_has_the_lamps_of_the_labels() -> None:
    image = np.full((96, 256, 3), 110, np.uint8)
    labels = replace(record((1, 0)), annotations=[Annotation(1, (150.0, 50.0, 60.0, 40.0), 2400.0)])
    night = TRANSFORMS["condition:night"].make({"severity": (5.0, 5.0)}, 0.25)

    def shown(seed: int, vehicles: np.ndarray | None) -> np.ndarray:
        sample = read_sample(labels, image.copy(), False)
        sample.vehicles = vehicles
        return night(sample, np.random.default_rng(seed)).image

    boxes = vehicle_boxes(labels, CATEGORIES)
    pairs = [(shown(seed, boxes), shown(seed, boxes[:0])) for seed in range(8)]
    assert any(lit[70:90, 150:210, 0].max() > dark[70:90, 150:210, 0].max() + 60 for lit, dark in pairs)


def test_the_dataset_gives_vehicles_to_what_augments(tmp_path: Path) -> None:
    seen = []

    def augment(sample: Sample, _: np.random.Generator) -> Sample:
        seen.append(sample.vehicles)
        return sample

    data = three_images(tmp_path)
    for image in data.images:
        (data.images_root / image.file_name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(data.images_root / image.file_name), np.zeros((image.height, image.width, 3), np.uint8))
    samples = DetectionDataset(data, augment=augment)
    _ = [samples[0, index] for index in range(len(samples))]
    assert all(
        np.array_equal(v, vehicle_boxes(image, data.categories)) for v, image in zip(seen, data.images, strict=True)
    )
    assert sum(len(boxes) for boxes in seen) > 0
