"""Masks: what pycocotools says of good ones, and what is refused before pycocotools sees it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as oracle

from drivetl.coco import masks
from drivetl.errors import DataError

random_masks = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.floats(0, 1)).map(
    lambda row: (np.random.default_rng(row[2]).random(row[:2]) < row[3]).astype(np.uint8)
)


@settings(max_examples=150)
@given(random_masks)
def test_encode_decode_area_box_and_run_lengths(mask):
    height, width = mask.shape
    rle = masks.encode(mask)
    assert masks.problem(rle, height, width) is None
    assert np.array_equal(masks.decode(rle, height, width), mask)
    assert masks.area(rle, height, width) == mask.sum()
    runs = masks.run_lengths(rle["counts"].encode())
    assert runs.sum() == mask.size and runs[1::2].sum() == mask.sum()
    plain = {"size": [height, width], "counts": [int(run) for run in runs]}
    assert masks.to_rle(plain, height, width)["counts"].decode() == rle["counts"]
    box = masks.box_xyxy(mask)
    if box is None:
        assert mask.sum() == 0
    else:
        x1, y1, x2, y2 = map(int, box)
        assert mask[y1:y2, x1:x2].sum() == mask.sum()
        assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()


def test_large_runs_are_read_like_pycocotools():
    mask = np.zeros((3000, 4000), np.uint8)
    mask[1000:2500, 700:3900] = 1
    assert masks.run_lengths(oracle.encode(np.asfortranarray(mask))["counts"]).sum() == mask.size


@settings(max_examples=300)
@given(st.binary(max_size=12) | st.text("0123456789:;<=>?@ABCDEFGHIJKLMNO_`abcdefgho", max_size=12).map(str.encode))
def test_an_rle_is_decoded_only_when_it_fills_its_image(counts):
    rle = {"size": [5, 7], "counts": counts}
    if masks.problem(rle, 5, 7) is None:
        assert masks.decode(rle, 5, 7).max(initial=0) <= 1
        assert masks.run_lengths(counts).sum() == 35
    else:
        with pytest.raises(DataError):
            masks.decode(rle, 5, 7)


@pytest.mark.parametrize(
    "bad",
    [
        "words",
        7,
        [1, 2, 3, 4, 5, 6],
        [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]],
        [[1.0, 2.0, "x", 4.0, 5.0, 6.0]],
        [[1.0, 2.0, float("nan"), 4.0, 5.0, 6.0]],
        [[1.0, 2.0, 1e300, 4.0, 5.0, 6.0]],
        {"size": [4, 5], "counts": [21]},
        {"size": [4, 5], "counts": [25, -5]},
        {"size": [4, 5], "counts": [1.0, 19.0]},
        {"size": [5, 4], "counts": [20]},
        {"size": [4, 5], "counts": "é"},
        {"size": [4, 5]},
        {"counts": [20]},
    ],
)
def test_what_is_no_segmentation_is_refused(bad):
    assert masks.problem(bad, 4, 5)


def test_polygons_cover_what_pycocotools_says_and_too_few_points_nothing():
    square = [[1.0, 1.0, 4.0, 1.0, 4.0, 3.0, 1.0, 3.0]]
    expected = oracle.decode(oracle.merge(oracle.frPyObjects(square, 6, 8)))
    assert np.array_equal(masks.decode(square, 6, 8), expected)
    for nothing in ([], [[1.0, 1.0]], [[1.0, 1.0, 2.0, 2.0]]):
        assert masks.decode(nothing, 6, 8).sum() == 0 == masks.area(nothing, 6, 8)
        assert oracle.area(masks.to_rle(nothing, 6, 8)) == 0


@pytest.mark.parametrize("segmentation", [1.5, [1.0, 2.0], "abc", {"counts": "1"}, {"size": 3, "counts": []}])
def test_a_segmentation_of_another_structure_is_an_error(segmentation):
    for read in (masks.decode, masks.area):
        with pytest.raises(DataError, match="neither a list of polygons nor an RLE"):
            read(segmentation, 8, 8)
