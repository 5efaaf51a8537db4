"""Laws of filling gaps of one frame in pseudo-labels."""

import copy
import random
from pathlib import Path

import pytest

from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.training.gaps import FILLED, fill_gaps, n_filled

CAR, PERSON = 1, 2


def footage(*frames, drive="d", step=1, first=0):
    """A frame per list of (category, x) of objects of 20 x 10 px."""
    images = []
    for number, objects in enumerate(frames):
        image = ImageRecord(first + number + 1, f"{drive}{number:03d}.png", 400, 100, drive, first + number * step)
        image.annotations = [Annotation(category, (float(x), 30.0, 20.0, 10.0), 200.0) for category, x in objects]
        images.append(image)
    return Dataset(("car", "person"), images, Path())


def filled(dataset):
    """Frame number -> (category ids, box) of each added region."""
    result = fill_gaps(dataset)
    regions = {image.frame_index: image.ignore_regions for image in result.images}
    return {n: [(r.category_ids, r.bbox_xywh) for r in of if FILLED in r.attributes] for n, of in regions.items() if of}


@pytest.mark.parametrize("step", [1, 5])
def test_law_a_gap_of_one_frame_is_filled_at_the_box_in_between(step):
    dataset = footage([(CAR, 10)], [], [(CAR, 18)], [(CAR, 22)], step=step)
    before = copy.deepcopy(dataset)
    assert filled(dataset) == {step: [((CAR,), (14.0, 30.0, 20.0, 10.0))]}
    assert dataset == before, "the input is not changed"
    assert n_filled(dataset) == 0 and n_filled(fill_gaps(dataset)) == 1
    assert fill_gaps(fill_gaps(dataset)) == fill_gaps(dataset), "what is filled is not filled again"
    assert filled(footage([(CAR, 10)], [], [(CAR, 18)], [], [(CAR, 26)])).keys() == {1, 3}


def test_law_uneven_distances_count():
    dataset = footage([(CAR, 10)], [], [(CAR, 20)])
    for image, time in zip(dataset.images, (0, 2, 5), strict=True):
        image.frame_index = time
    assert filled(dataset) == {2: [((CAR,), (14.0, 30.0, 20.0, 10.0))]}


@pytest.mark.parametrize(
    ("why", "frames"),
    [
        ("two frames", [[(CAR, 10)], [], [], [(CAR, 10)]]),
        ("another class after", [[(CAR, 10)], [], [(PERSON, 10)]]),
        ("too far", [[(CAR, 10)], [], [(CAR, 40)]]),
        ("nothing before", [[], [], [(CAR, 10)]]),
        ("no gap", [[(CAR, 10)], [(CAR, 10)], [(CAR, 10)]]),
        ("no frame after", [[(CAR, 10)], []]),
        ("one frame", [[(CAR, 10)]]),
        ("no frame", []),
    ],
)
def test_law_nothing_else_is_filled(why, frames):
    assert filled(footage(*frames)) == {}, why


def test_law_what_is_there_already_is_not_covered_again():
    frames = [(CAR, 10)], [], [(CAR, 10)]
    for region, added in [((CAR,), 0), ((), 0), ((PERSON,), 1)]:
        dataset = footage(*frames)
        dataset.images[1].ignore_regions = [IgnoreRegion((11.0, 30.0, 20.0, 10.0), 200.0, region)]
        assert n_filled(fill_gaps(dataset)) == added
    assert n_filled(fill_gaps(footage([(CAR, 10)], [(PERSON, 10)], [(CAR, 10)]))) == 1, "a person there is no car"


def test_law_frames_that_do_not_follow_each_other_are_not_linked():
    seen, gone = [(CAR, 10)], []
    single, unnumbered = footage(seen, gone, seen, drive=""), footage(seen, gone, seen)
    for image in unnumbered.images:
        image.frame_index = None
    cut = footage(seen, gone, seen, seen, seen)
    for image, time in zip(cut.images, (0, 1, 9, 10, 11), strict=True):
        image.frame_index = time
    other = footage(seen, gone)
    other.images += footage(seen, drive="e", first=2).images
    for dataset in (single, unnumbered, cut, other):
        assert fill_gaps(dataset) == dataset


def test_law_the_order_of_images_and_objects_does_not_matter():
    rng = random.Random(0)
    frames = [[(rng.choice((CAR, PERSON)), rng.randrange(0, 380, 20)) for _ in range(6)] for _ in range(8)]
    dataset = footage(*frames)
    dataset.images += footage(*frames[::-1], drive="e", first=20).images
    expected = {image.id: image for image in fill_gaps(dataset).images}
    assert n_filled(fill_gaps(dataset)) > 0
    for _ in range(3):
        shuffled = copy.deepcopy(dataset)
        rng.shuffle(shuffled.images)
        for image in shuffled.images:
            rng.shuffle(image.annotations)
        for image in fill_gaps(shuffled).images:
            key = [(region.category_ids, region.bbox_xywh) for region in image.ignore_regions]
            assert sorted(key) == sorted((r.category_ids, r.bbox_xywh) for r in expected[image.id].ignore_regions)
