"""Finding doubtful labels: what is planted has rank 1, what is right is not doubted, what is unknown is left alone."""

from dataclasses import replace

import numpy as np
import pytest
from doubt_cases import CLASSES, FAULTS, perfect, street, with_labels

from drivetl.coco.records import IgnoreRegion
from drivetl.doubt.find import counts, find
from drivetl.doubt.kinds import KINDS, THRESHOLDS, parse_thresholds
from drivetl.errors import ConfigError
from drivetl.metrics.relabel import by_name
from drivetl.metrics.results import Results


def listed(dataset, results, **options):
    return find(dataset, results, **options).beyond(THRESHOLDS)


def with_regions(dataset, image_id, *regions):
    return dataset.subset(
        [replace(image, ignore_regions=list(regions)) if image.id == image_id else image for image in dataset.images]
    )


def everywhere(*category_ids):
    return IgnoreRegion((0.0, 0.0, 400.0, 200.0), 80_000.0, category_ids)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 1.0])
def test_law_a_perfect_detector_doubts_nothing(confidence):
    found = find(street(), perfect(street(), confidence))
    assert found.doubts == []
    assert all(row.quality == 1 for row in found.images) and len(found.images) == 4
    assert found.scored == {"overlooked": 0, "swapped": 12, "badly_located": 12}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", FAULTS)
def test_law_a_planted_fault_has_rank_1(kind, seed):
    true = street(seed=seed)
    doubts = listed(with_labels(true, 3, FAULTS[kind]), perfect(true))
    assert (doubts[0].kind, doubts[0].image_id) == (kind, 3) and len(doubts) == 1
    assert doubts[0].annotation == (None if kind == "overlooked" else 1)
    x, y, w, h = true.images[2].annotations[1].bbox_xywh
    np.testing.assert_allclose(doubts[0].detection_xyxy, (x, y, x + w, y + h))
    assert doubts[0].detected_id == true.images[2].annotations[1].category_id


def test_law_the_image_of_a_fault_is_the_worst():
    true = street()
    for change in FAULTS.values():
        assert find(with_labels(true, 3, change), perfect(true)).images[0].image_id == 3


def test_law_the_order_of_images_labels_and_detections_does_not_matter():
    true = street(n_images=9, seed=3)
    faulty = true
    for image_id, change in zip((3, 5, 8), FAULTS.values(), strict=True):
        faulty = with_labels(faulty, image_id, change)
    results = perfect(true)
    results.scores = np.random.default_rng(0).uniform(0.6, 1, len(results))
    found = find(faulty, results)
    shuffled = results.where(np.random.default_rng(1).permutation(len(results)))
    again = find(faulty.subset(faulty.images[::-1]), shuffled)
    assert again.doubts == found.doubts and again.images == found.images and len(found.doubts) >= 3
    backwards = [replace(image, annotations=image.annotations[::-1]) for image in faulty.images]
    other = find(faulty.subset(backwards), results)
    assert [row.detection_xyxy for row in other.doubts] == [row.detection_xyxy for row in found.doubts]
    np.testing.assert_allclose([row.doubt for row in other.doubts], [row.doubt for row in found.doubts])


@pytest.mark.parametrize("kind", FAULTS)
def test_law_nothing_is_doubted_in_an_ignore_region_of_its_class(kind):
    true = street()
    faulty = with_labels(true, 3, FAULTS[kind])
    found = find(with_regions(faulty, 3, everywhere()), perfect(true))
    assert found.doubts == [] and sum(found.skipped.values()) >= 4
    assert find(with_regions(faulty, 4, everywhere()), perfect(true)).beyond(THRESHOLDS) != []


def test_an_ignore_region_hides_its_classes_alone():
    true = street()
    faulty = with_labels(true, 3, FAULTS["overlooked"])
    detected = true.images[2].annotations[1].category_id
    others = tuple({1, 2, 3} - {detected})
    assert listed(with_regions(faulty, 3, everywhere(detected)), perfect(true)) == []
    assert len(listed(with_regions(faulty, 3, everywhere(*others)), perfect(true))) == 1


def test_a_box_is_in_an_ignore_region_by_half_of_its_area():
    true = street()
    faulty = with_labels(true, 3, FAULTS["overlooked"])
    x, y, w, h = true.images[2].annotations[1].bbox_xywh
    for share, n_listed in ((0.49, 1), (0.51, 0)):
        region = IgnoreRegion((x, y, share * w, h), share * w * h)
        assert len(listed(with_regions(faulty, 3, region), perfect(true))) == n_listed


def test_a_class_that_an_image_does_not_label_is_never_doubted():
    true = street()
    faulty = with_labels(true, 3, FAULTS["overlooked"])
    detected = true.images[2].annotations[1].category_id

    def labelled(*ids):
        return faulty.subset([replace(image, labelled=ids) if image.id == 3 else image for image in faulty.images])

    assert find(labelled(*({1, 2, 3} - {detected})), perfect(true)).doubts == []
    assert len(listed(labelled(1, 2, 3), perfect(true))) == 1


def test_labels_of_a_class_that_the_detector_lacks_are_left_alone():
    true = street()
    results = perfect(true)
    results.category_id[:] = 1  # a detector that knows cars alone calls everything a car
    found = find(true, results, ["car"])
    assert found.doubts == []
    n_others = sum(item.category_id != 1 for image in true.images for item in image.annotations)
    assert found.skipped["labels of a class that the detector lacks"] == n_others > 0
    assert counts(find(true, results).doubts)["swapped"] == n_others


def test_detections_are_mapped_by_class_name():
    results = Results.of([1, 1, 2], [1, 2, 3], np.zeros((3, 4)), [0.9, 0.8, 0.7])
    mapped = by_name(results, ("tram", "person", "car"), CLASSES)
    assert mapped.category_id.tolist() == [2, 1] and mapped.scores.tolist() == [0.8, 0.7]
    assert len(by_name(results, ("a", "b", "c"), CLASSES)) == 0
    assert len(by_name(perfect(street().subset([])), CLASSES, CLASSES)) == 0


def test_without_detections_or_images_nothing_is_doubted():
    none = Results.of([], [], np.zeros((0, 4)), [])
    found = find(street(), none)
    assert found.doubts == [] and len(found.images) == 4
    empty = find(street().subset([]), none)
    assert empty.doubts == [] and empty.images == [] and empty.scored == dict.fromkeys(KINDS, 0)


def test_an_image_without_labels_can_have_overlooked_objects():
    true = street()
    results = Results.of([2], [1], [[10, 10, 50, 50]], [0.95])
    (doubt,) = listed(true, results)
    assert (doubt.kind, doubt.image_id, doubt.iou, doubt.label_xyxy) == ("overlooked", 2, 0.0, None)


def test_thresholds_are_parsed_per_kind():
    assert parse_thresholds("") == THRESHOLDS
    assert set(parse_thresholds("0.25").values()) == {0.25}
    assert parse_thresholds("swapped=.7,overlooked=1") == dict(THRESHOLDS) | {"swapped": 0.7, "overlooked": 1.0}
    assert parse_thresholds("swapped=.7,0.3") == dict.fromkeys(KINDS, 0.3) | {"swapped": 0.7}


@pytest.mark.parametrize("text", ["x", "0", "1.2", "-1", "nan", "swaped=0.5", "swapped=0.5,swapped=0.6", "swapped="])
def test_a_wrong_threshold_is_refused(text):
    with pytest.raises(ConfigError, match="--threshold"):
        parse_thresholds(text)
