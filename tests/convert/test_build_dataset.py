"""Building: every object read is kept, ignored, dropped or rejected, and kept boxes do not move."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.coco.taxonomy import parse_taxonomy
from drivetl.convert.build import Account, build_dataset
from drivetl.errors import DataError

TAXONOMY = parse_taxonomy(
    {
        "name": "made",
        "classes": {"car": {"labels": ["Car", "Taxi"]}, "person": None},
        "ignore": {"Crowd": ["person"], "Fog": "all"},
        "drop": ["Tree"],
    }
)
coordinates = st.floats(-50, 150) | st.sampled_from([0.0, 100.0, 80.0, float("nan"), float("inf"), 1e308])
objects = st.builds(
    SourceObject,
    st.sampled_from(["Car", "Taxi", "person", "Crowd", "Fog", "Tree", "Unicorn"]),
    st.tuples(*[coordinates] * 4),
    st.sampled_from([None, None, [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]], [[1.0] * 5], {"size": [80, 100], "counts": "x"}]),
    ignore=st.booleans(),
    attributes=st.dictionaries(st.sampled_from("ab"), st.integers()),
)


def build(images, on_error="stop"):
    account = Account()
    data = build_dataset(images, TAXONOMY, Path("here"), source="made", account=account, on_error=on_error)
    return data, account


def image(*items, name="a.png", width=100, height=80):
    return SourceImage(name, width, height, list(items), label_file=Path("labels.txt"))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["a.png", "b.png", "../c.png", "d.png"]), st.lists(objects, max_size=5))))
def test_no_object_is_lost_and_kept_boxes_are_inside_the_image(rows):
    data, account = build([image(*items, name=name) for name, items in rows], "skip")
    assert account.balanced()
    assert sum(account.read.values()) == sum(len(items) for _, items in rows)
    for record in data.images:
        for item in [*record.annotations, *record.ignore_regions]:
            x1, y1, x2, y2 = xywh_to_xyxy(item.bbox_xywh)
            assert 0 <= x1 < x2 <= 100.0001 and 0 <= y1 < y2 <= 80.0001
            assert all(isinstance(value, float) for value in item.bbox_xywh)
    kept = sum(len(record.annotations) for record in data.images)
    assert kept == sum(account.kept.values())
    assert sum(len(record.ignore_regions) for record in data.images) == sum(account.ignored.values())


@given(st.tuples(*[st.floats(0, 100)] * 2), st.tuples(*[st.floats(0, 80)] * 2))
def test_the_box_of_the_source_is_restored_exactly(xs, ys):
    (x1, x2), (y1, y2) = sorted(xs), sorted(ys)
    data, account = build([image(SourceObject("Car", (x1, y1, x2, y2)))], on_error="skip")  # as of a large dataset
    if account.dropped:
        assert x1 == x2 or y1 == y2
        return
    item = data.images[0].annotations[0]
    before = item.attributes.get("source_box_xyxy")
    assert tuple(before or xywh_to_xyxy(item.bbox_xywh)) == (x1, y1, x2, y2)


def test_each_label_follows_its_rule_in_the_taxonomy():
    box = (10.0, 10.0, 20.0, 20.0)
    items = [SourceObject(label, box) for label in ("Car", "Taxi", "person", "Crowd", "Fog", "Tree")]
    items += [SourceObject("Taxi", box, ignore=True), SourceObject("Car", (110.0, 0.0, 120.0, 9.0))]
    items += [SourceObject("Car", (5.0, 5.0, 5.0, 9.0))]
    data, account = build([image(*items)])
    assert [item.category_id for item in data.images[0].annotations] == [1, 1, 2]
    assert [region.category_ids for region in data.images[0].ignore_regions] == [(2,), (), (1,)]
    assert account.ignored == {"label Crowd": 1, "label Fog": 1, "Taxi marked ignore by the source": 1}
    assert account.dropped == {"label Tree": 1, "nothing left inside the image": 1, "zero width or height": 1}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (SourceObject("Cra", (0, 0, 9, 9), line=3), "labels.txt:3: label 'Cra' is unknown - did you mean 'Car'"),
        (SourceObject("Car", (9, 0, 3, 9), line=3), "labels.txt:3: box [9, 0, 3, 9] has x2 < x1"),
        (SourceObject("Car", (0, 0, float("nan"), 9), line=4), "labels.txt:4: box [0, 0, nan, 9] holds a number"),
        (SourceObject("Car", (0, 0, 1e308, 9)), "labels.txt: box [0, 0, 1e+308, 9] holds a number"),
        (
            SourceObject("Car", (0, 0, 9, 9), [[1.0, 2.0, float("nan"), 1.0, 5.0, 5.0]]),
            "non-finite or out-of-range coordinate",
        ),
        (SourceObject("Car", (0, 0, 9, 9), [[1.0, 2.0, 1e9, 1.0, 5.0, 5.0]]), "non-finite or out-of-range coordinate"),
        (SourceObject("Car", (0, 0, 9, 9), {"size": [9, 9], "counts": [81]}), "RLE size [9, 9] is not the image's"),
        (SourceObject("Car", (0, 0, 9, 9), {"size": [80, 100], "counts": [7]}, 5.0), "do not fill 80 x 100"),
        (SourceObject("Car", (0, 0, 9, 9), area=float("nan")), "area is nan"),
        (SourceObject("Car", (0, 0, 9, 9), area=-1.0), "area is -1.0"),
    ],
)
def test_a_broken_object_is_an_error_with_its_place(item, reason):
    with pytest.raises(DataError) as caught:
        build([image(item)])
    assert reason in str(caught.value)
    assert build([image(item)], "skip")[1].rejections == [str(caught.value)]


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([image(), image()], "image 'a.png' is duplicated"),
        ([image(name="../a.png")], "leaves its folder"),
        ([image(name="C:\\x.png")], "leaves its folder"),
        ([image(width=0)], "image size 0 x 80"),
        ([image(width=60_000, height=60_000)], "image size 60000 x 60000"),
    ],
)
def test_a_broken_image_is_an_error_and_its_objects_are_counted(images, reason):
    images[-1].objects.append(SourceObject("Car", (0, 0, 9, 9)))
    with pytest.raises(DataError, match=r"labels\.txt: ") as caught:
        build(images)
    assert reason in str(caught.value)
    data, account = build(images, "skip")
    assert len(data.images) == len(images) - 1
    assert account.balanced() and sum(account.rejected.values()) == 1


def test_no_images_and_images_without_objects_are_valid():
    assert build([])[0].images == []
    data, account = build([image()])
    assert data.images[0].annotations == [] and account.balanced()


def test_area_is_that_of_the_mask_when_there_is_one():
    square = [[10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0]]
    items = [SourceObject("Car", (10.0, 10.0, 20.0, 20.0), segmentation) for segmentation in (None, square)]
    items.append(SourceObject("Car", (10.0, 10.0, 20.0, 20.0), square, area=77.0))
    data, _ = build([image(*items)])
    assert [item.area for item in data.images[0].annotations] == [100.0, 100.0, 77.0]
