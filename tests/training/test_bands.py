"""Laws of pseudo-labels: what becomes of a detection, and how many objects a frame may have."""

from pathlib import Path

from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.metrics.results import Results
from drivetl.training.bands import capped, most_objects, with_bands


def test_law_a_sure_detection_is_an_object_an_unsure_one_an_ignore_region_and_the_rest_background():
    image = ImageRecord(7, "7.png", 100, 60, labelled=(1,))
    image.annotations = [Annotation(1, (0.0, 0.0, 5.0, 5.0), 25.0)]
    frames = Dataset(("car", "person"), [image, ImageRecord(8, "8.png", 100, 60)], Path())
    scores = [0.04, 0.6, 0.59, 0.05, 0.9]
    found = Results.of([7] * 5, [1, 2, 2, 1, 1], [[number, 0.0, 4.0, 6.0] for number in range(5)], scores)
    first, second = with_bands(frames, found, (0.6, 0.05)).images
    assert [(item.category_id, item.bbox_xywh, item.attributes) for item in first.annotations] == [
        (1, (4.0, 0.0, 4.0, 6.0), {"score": 0.9}),
        (2, (1.0, 0.0, 4.0, 6.0), {"score": 0.6}),
    ]
    assert [(item.category_ids, item.attributes["score"]) for item in first.ignore_regions] == [
        ((2,), 0.59),
        ((1,), 0.05),
    ]
    assert first.labelled is None and not second.annotations and not second.ignore_regions
    without_band = with_bands(frames, found, (0.6, 0.6)).images[0]
    assert len(without_band.annotations) == 2 and not without_band.ignore_regions
    assert len(image.annotations) == 1 and image.labelled == (1,), "the input is not changed"


def test_law_no_frame_has_more_objects_than_any_labelled_image_and_the_rest_is_ignored(capsys):
    def image(number, count):
        record = ImageRecord(number, f"{number}.png", 100, 60)
        boxes = [(float(place), 0.0, 4.0, 6.0) for place in range(count)]
        record.annotations = [Annotation(1, box, 24.0, None, {"score": 0.5 + box[0] / 100}) for box in boxes]
        return record

    labelled = Dataset(("car",), [image(1, 3), image(2, 1)], Path())
    pseudo = Dataset(("car",), [image(1, 5), image(2, 3), image(3, 0)], Path())
    assert most_objects(labelled) == 3 and most_objects(Dataset(("car",), [], Path())) == 1
    most, same, empty = capped(pseudo, 3).images
    assert [item.bbox_xywh[0] for item in most.annotations] == [4.0, 3.0, 2.0], "the best ones"
    assert [item.bbox_xywh[0] for item in most.ignore_regions] == [1.0, 0.0]
    assert len(same.annotations) == 3 and not same.ignore_regions and not empty.annotations
    assert "1 of 3 unlabelled frames have more than 3 pseudo-objects (up to 5)" in " ".join(
        capsys.readouterr().err.split()
    )
