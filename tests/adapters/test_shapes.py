"""Shapes: run lengths, curves, and what stays visible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drivetl.adapters import shapes
from drivetl.coco import masks
from drivetl.errors import DataError


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))), st.integers(0, 5), st.integers(0, 5))
def test_a_crop_encodes_like_its_whole_image(crop: np.ndarray, left: int, top: int) -> None:
    width, height = left + crop.shape[1] + 2, top + crop.shape[0]
    whole = np.zeros((height, width), bool)
    whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    encoded = shapes.encode_crop(crop, left, top, (width, height))
    if not crop.any():
        assert encoded is None
        return
    assert encoded is not None
    rle, box = encoded
    assert rle == masks.encode(whole) and box == masks.box_xyxy(whole.astype(np.uint8))


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_row_major_runs_are_decoded(crop: np.ndarray) -> None:
    flat = np.concatenate(([0], crop.ravel().astype(int)))
    edges = np.flatnonzero(np.diff(flat))
    runs = np.diff(np.concatenate(([0], edges, [crop.size]))).tolist()
    got = shapes.row_major_rle(runs, 1, 2, crop.shape[1], crop.shape[0], (9, 9))
    if not crop.any():
        assert got is None
    else:
        assert got is not None
        mask = masks.decode(got[0], 9, 9)
        assert (mask[2 : 2 + crop.shape[0], 1 : 1 + crop.shape[1]] == crop).all() and mask.sum() == crop.sum()


@pytest.mark.parametrize("runs", [[1, 2], [5, 5, 5], [-1, 5], [4, 0, 1]])
def test_runs_that_do_not_fill_their_crop_are_errors(runs: list[int]) -> None:
    with pytest.raises(DataError, match="runs cover"):
        shapes.row_major_rle(runs, 0, 0, 2, 2, (9, 9))
    with pytest.raises(DataError, match="is not inside the image"):
        shapes.row_major_rle([0, 4], 8, 8, 2, 2, (9, 9))


def test_broken_rles_never_reach_the_decoder() -> None:
    good = masks.encode(np.eye(4, dtype=bool))
    assert shapes.checked_rle(good, 4, 4) == good
    assert shapes.checked_rle({"size": [2, 2], "counts": [1, 3]}, 2, 2)["counts"] == "13"
    for bad in (
        "x",
        {"size": [4, 4]},
        good | {"counts": "4"},
        good | {"size": [4, 5]},
        {"counts": [1]},
        {"counts": None},
    ):
        with pytest.raises(DataError):
            shapes.checked_rle(bad, 4, 4)


def test_bezier_outlines_are_curves() -> None:
    k = 4 / 3 * (2**0.5 - 1)  # control points that make quarter circles
    quarter = [(1.0, 0.0), (1.0, k), (k, 1.0), (0.0, 1.0)]
    outline = shapes.bezier_outline(quarter, "LCCC")
    assert outline[0] == (1, 0) and outline[-1] == pytest.approx((0, 1))
    assert np.hypot(*np.transpose(outline)) == pytest.approx(1, abs=3e-4)
    assert shapes.bezier_outline(quarter, "LLLL") == quarter
    assert shapes.bezier_outline([*quarter, (0.0, 0.0)], "LCCCL")[-1] == (0, 0)
    assert shapes.bezier_outline(quarter[:3], "LCC")[-1] == pytest.approx((1, 0))  # closes on the first corner
    with pytest.raises(DataError, match="do not fit"):
        shapes.bezier_outline(quarter, "LC")


def square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 14), st.integers(-4, 10), st.integers(1, 8)), max_size=6), st.booleans())
def test_visible_parts_equal_painting_in_order(blocks: list[tuple[int, int, int]], pixel_index: bool) -> None:
    width, height = 16, 12
    canvas = np.full((height, width), -1)
    for index, (x, y, side) in enumerate(blocks):
        canvas[max(y, 0) : max(y + side + pixel_index, 0), max(x, 0) : max(x + side + pixel_index, 0)] = index
    polygons = [("car", [square(x, y, side)]) for x, y, side in blocks]
    parts = shapes.visible(polygons, (width, height), [True] * len(blocks), pixel_index=pixel_index)
    for index, part in enumerate(parts):
        expected = canvas == index
        if part is None:
            assert not expected.any()
            continue
        segmentation, box, area = part
        assert (masks.decode(segmentation, height, width) == expected).all() and area == expected.sum()
        assert box == masks.box_xyxy(expected.astype(np.uint8))


def test_polygons_that_are_not_needed_still_hide_others() -> None:
    polygons = [("car", [square(0, 0, 4)]), ("pole", [square(0, 0, 2)]), ("license plate", [square(3, 3, 1)])]
    car, pole, plate = shapes.visible(polygons, (8, 8), [True, False, True], pixel_index=False)
    assert pole is None and car is not None and car[2] == 12
    assert plate is not None and plate[2] == 1


@pytest.mark.parametrize(("degrees", "size"), [(0, (10, 4)), (90, (4, 10)), (180, (10, 4)), (45, (9.8995, 9.8995))])
def test_rotated_boxes_are_enclosed(degrees: float, size: tuple[float, float]) -> None:
    x1, y1, x2, y2 = shapes.rotated_box((10, 10, 20, 14), degrees)
    assert (x2 - x1, y2 - y1) == pytest.approx(size, abs=1e-3) and ((x1 + x2) / 2, (y1 + y2) / 2) == (15, 12)
