"""Found, missed and invented: the counts of matching, detection by detection, in the order they came."""

import numpy as np
from planted import CLASSES, PlantedDetector, read_planted

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.detections import Detections
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.metrics.match_store import match
from drivetl.metrics.results import concatenate, of_image
from drivetl.prediction.images import predict
from drivetl.prediction.outcomes import FOUND, INVENTED, UNCOUNTED, counts_of, outcomes_of


def detections(*rows):
    """Rows of (box xyxy, score, label)."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], int))


def street():
    """One image with two cars, a pedestrian and an ignore region; one image without objects."""
    image = ImageRecord(7, "a.png", 200, 100)
    for label, box in ((1, (10, 10, 40, 30)), (1, (100, 10, 40, 30)), (2, (60, 40, 10, 30))):
        image.annotations.append(Annotation(label, box, box[2] * box[3]))
    image.ignore_regions.append(IgnoreRegion((150, 50, 50, 50), 2500))
    return Dataset(CLASSES, [image, ImageRecord(3, "b.png", 200, 100)], "")


def test_each_kind_of_outcome():
    of_street = detections(
        ((11, 11, 50, 40), 0.4, 1),  # the first car
        ((10, 10, 50, 40), 0.9, 1),  # the first car too, with a higher score
        ((100, 10, 140, 40), 0.8, 2),  # the second car, called a pedestrian
        ((155, 55, 190, 90), 0.7, 1),  # in the ignore region
    )
    found = {7: of_street, 3: detections(((0, 0, 9, 9), 0.5, 2))}
    outcomes = outcomes_of(street(), found)
    assert outcomes[7].kinds == [INVENTED, FOUND, INVENTED, UNCOUNTED] and outcomes[3].kinds == [INVENTED]
    assert outcomes[7].missed_labels.tolist() == [1, 2]
    assert outcomes[7].missed_boxes.tolist() == [[100, 10, 140, 40], [60, 40, 70, 70]]
    assert counts_of(street(), found, outcomes).tolist() == [[1, 1, 1], [0, 1, 2]]


def test_law_counts_are_those_of_matching_and_found_plus_missed_is_every_object(tmp_path):
    data = read_planted(tmp_path / "d", n_images=6)
    found = {record.id: rows for record, rows in predict(PlantedDetector(), data, score=0.6)}
    outcomes = outcomes_of(data, found)
    counts = counts_of(data, found, outcomes)
    objects = np.bincount([item.category_id - 1 for image in data.images for item in image.annotations], minlength=2)
    assert (counts[:, 0] + counts[:, 1] == objects).all() and counts[:, 0].any() and counts[:, 1].any()
    store = match(data, concatenate(of_image(image.id, found[image.id]) for image in data.images))
    tp, ignored = store.tp_and_ignored()
    for k in range(2):
        assert counts[k, 0] == (tp & (store.category == k)).sum()
        assert counts[k, 2] == (~tp & ~ignored & (store.category == k)).sum()


def test_law_a_perfect_detector_misses_and_invents_nothing_whatever_the_order():
    data = street()
    truth = [(xywh_to_xyxy(item.bbox_xywh), 0.5, item.category_id) for item in data.images[0].annotations]
    for rows in (truth, truth[::-1]):
        outcomes = outcomes_of(data, {7: detections(*rows), 3: detections()})
        assert outcomes[7].kinds == [FOUND] * 3 and not len(outcomes[7].missed_labels) and outcomes[3].kinds == []


def test_a_dataset_without_detections_misses_everything():
    outcomes = outcomes_of(street(), {7: detections(), 3: detections()})
    assert len(outcomes[7].missed_labels) == 3 and outcomes[7].kinds == []
