"""Drawing changes only the pixels of boxes, masks and labels, and accepts any box."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.draw.gallery import Detections, choose, columns_of, draw_record, sheet_of
from drivetl.draw.objects import contact_sheet, draw_objects, jpeg, legend, png, resize_to_width
from drivetl.draw.palette import colour_of
from drivetl.files.images import decode_rgb

FORKLIFT = (90, 242, 117)
GREY = np.full((120, 200, 3), 128, np.uint8)


def changed(drawn: np.ndarray, plain: np.ndarray = GREY) -> np.ndarray:
    return (drawn != plain).any(axis=2)


def test_without_objects_the_image_is_unchanged_and_the_input_stays() -> None:
    before = GREY.copy()
    same = draw_objects(GREY, np.zeros((0, 4)), [])
    assert (same == GREY).all()
    draw_objects(GREY, [[10, 10, 60, 60]], [1], ignore_boxes=[[80, 10, 120, 60]], categories=["car"])
    assert (before == GREY).all()


def test_a_box_is_drawn_on_its_edges_in_the_colour_of_its_class() -> None:
    drawn = draw_objects(GREY, [[50, 40, 150, 100]], [2], categories=["car", "truck"], show_labels=False)
    assert tuple(drawn[70, 50]) == tuple(drawn[70, 150]) == colour_of("truck")
    assert tuple(drawn[40, 100]) == tuple(drawn[100, 100]) == colour_of("truck")
    assert not changed(drawn)[45:95, 55:145].any()  # the object itself stays visible
    assert not changed(drawn)[:, :45].any()


def test_dashes_leave_gaps_and_solid_lines_do_not() -> None:
    solid = draw_objects(GREY, [[20, 20, 180, 100]], ["x"], show_labels=False)
    dashed = draw_objects(GREY, [[20, 20, 180, 100]], ["x"], show_labels=False, dashed=True)
    painted = [(drawn[20, 20:180] == colour_of("x")).all(axis=1) for drawn in (solid, dashed)]
    assert painted[0].all()
    assert 0.4 < painted[1].mean() < 0.8
    large = np.full((2160, 3840, 3), 128, np.uint8)  # lines are six times as thick, and dashes longer
    wide = draw_objects(large, [[200, 200, 3400, 2000]], ["x"], show_labels=False, dashed=True)
    line = (wide[200, 220:3380] == colour_of("x")).all(axis=1)
    assert 0.4 < line.mean() < 0.8 and np.diff(line.astype(int)).clip(0).sum() < 3160 / 20


def test_labels_have_scores_and_do_not_cover_other_objects() -> None:
    boxes = [[50, 50, 80, 80]]
    named = draw_objects(GREY, boxes, [1], categories=["car"])
    scored = draw_objects(GREY, boxes, [1], scores=[0.87], categories=["car"])
    assert changed(scored, named).any()
    assert changed(named)[30:48, 50:70].any()  # above the box
    small = [[20, 26, 60, 40], [20, 42, 26, 48], [20, 58, 60, 90]]
    crowded = draw_objects(GREY, small, [1, 1, 1], categories=["a very long name of a class"])
    plain = draw_objects(GREY, small, [1, 1, 1], categories=["a very long name of a class"], show_labels=False)
    for x1, y1, x2, y2 in small:
        assert changed(crowded, plain)[y1:y2, x1:x2].mean() <= 0.6


def test_masks_are_translucent_and_ignore_regions_hatched() -> None:
    mask = np.zeros((120, 200), np.uint8)
    mask[30:60, 30:60] = 1
    drawn = draw_objects(GREY, [[30, 30, 60, 60]], [1], masks=[mask], categories=["car"], show_labels=False)
    inside = drawn[45, 45].astype(int)
    expected = 0.55 * 128 + 0.45 * np.array(colour_of("car"))
    assert np.abs(inside - expected).max() <= 1
    hatched = draw_objects(GREY, [], [], ignore_boxes=[[100, 20, 160, 80]])
    area = changed(hatched)[22:78, 102:158]
    assert hatched[22:78, 102:158].max() > 170  # bright stripes
    assert hatched[22:78, 102:158].min() < 110  # on a darkened background
    assert area.mean() > 0.5
    assert not changed(hatched)[:, :100].any()
    part = np.zeros((120, 200), np.uint8)
    part[20:50, 100:160] = 1
    only = draw_objects(GREY, [], [], ignore_boxes=[[100, 20, 160, 80]], ignore_masks=[part])
    assert not changed(only)[52:].any()


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.floats(width=64)] * 4), max_size=4), st.booleans(), st.booleans())
def test_any_box_can_be_drawn(boxes: list[tuple[float, ...]], dashed: bool, ignored: bool) -> None:
    labels = ["car"] * (0 if ignored else len(boxes))
    drawn = draw_objects(GREY, [] if ignored else boxes, labels, ignore_boxes=boxes if ignored else None, dashed=dashed)
    assert drawn.shape == GREY.shape
    assert drawn.dtype == np.uint8


def test_a_width_scales_image_and_boxes() -> None:
    drawn = draw_objects(GREY, [[50, 40, 150, 100]], ["truck"], width=400, show_labels=False)
    assert drawn.shape == (240, 400, 3)
    assert tuple(drawn[140, 100]) == colour_of("truck")
    assert resize_to_width(GREY, 50).shape == (30, 50, 3)


def test_colours_are_stable_and_distinguish_the_common_classes() -> None:
    common = ["car", "van", "truck", "bus", "tram", "pedestrian", "cyclist", "rider", "bicycle", "motorcycle"]
    assert len({colour_of(name) for name in common}) == len(common)
    assert colour_of("Car ") == colour_of("car")
    assert colour_of("forklift") == FORKLIFT  # the same in every drawing, on every machine, in every version
    assert len({colour_of(f"class {number}") for number in range(40)}) > 30


@pytest.mark.parametrize("ratio", [0.3, 0.4, 0.75, 1.6])
def test_law_a_sheet_is_nearly_as_wide_as_a_screen(ratio: float) -> None:
    for count in range(2, 40):
        columns = columns_of(count, ratio)
        assert 1 <= columns <= count
        assert 0.6 < columns / (math.ceil(count / columns) * ratio) <= 2.5  # width / height
    assert columns_of(4, 0.4) == 2 and columns_of(2, 0.4) == 1 and columns_of(16, 0.3) == 3


def test_a_contact_sheet_shows_every_tile_in_its_cell() -> None:
    paints = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    tiles = [(f"tile {n}", np.full((40, 80, 3), paint, np.uint8)) for n, paint in enumerate(paints)]
    sheet = contact_sheet(tiles, 2, 160)
    pixels = [np.argwhere((sheet == paint).all(axis=2)) for paint in paints]
    assert all(len(tile) == 80 * 160 for tile in pixels)
    first, second, third = (tile.min(axis=0) for tile in pixels)
    assert first[0] == second[0] < third[0]
    assert first[1] == third[1] < second[1]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 2, 100)


def test_a_legend_breaks_into_lines_of_the_width() -> None:
    names = [f"class number {n}" for n in range(12)]
    assert legend(names, 300).shape[1] == 300
    assert legend(names, 300).shape[0] > legend(names, 3000).shape[0]


def test_png_keeps_every_pixel_and_jpeg_nearly() -> None:
    drawn = draw_objects(GREY, [[50, 40, 150, 100]], ["truck"])
    assert (decode_rgb(png(drawn), Path("x.png")) == drawn).all()
    assert np.abs(decode_rgb(jpeg(GREY), Path("x.jpg")).astype(int) - GREY).max() <= 2


def dataset(images: int = 30) -> Dataset:
    records = [
        ImageRecord(n, f"{n}.png", 200, 120, annotations=[Annotation(1, (10, 10, 50, 40), 2000.0)] if n > 2 else [])
        for n in range(1, images + 1)
    ]
    records[17].annotations.append(Annotation(2, (80, 10, 50, 40), 2000.0))
    records[17].ignore_regions.append(IgnoreRegion((10, 70, 60, 40), 2400.0))
    return Dataset(("car", "tram"), records, Path())


def test_a_choice_shows_every_class_and_an_empty_image_and_follows_the_seed() -> None:
    data = dataset()
    for seed in range(10):
        chosen = choose(data, 4, seed)
        assert len(chosen) == 4
        assert [image.id for image in chosen] == sorted(image.id for image in chosen)
        assert 18 in {image.id for image in chosen}
        assert {1, 2} & {image.id for image in chosen}
    assert choose(data, 4, 1) == choose(data, 4, 1)
    assert choose(data, 4, 1) != choose(data, 4, 2)
    assert len(choose(data, 100, 0)) == 30


def test_a_record_is_drawn_with_its_regions_and_detections_over_dashed_labels() -> None:
    data = dataset()
    labelled = draw_record(data.images[17], GREY, data.categories)
    assert tuple(labelled[50, 30]) == colour_of("car")
    assert changed(labelled)[75:105, 15:65].any()
    detections = Detections([(120.0, 60.0, 60.0, 40.0)], [2], [0.9], [None])
    both = draw_record(data.images[17], GREY, data.categories, detections=detections)
    assert tuple(both[80, 120]) == colour_of("tram")
    assert 0 < (both[20:50, 10] == colour_of("car")).all(axis=1).mean() < 0.8  # the label is dashed
    sheet = sheet_of([("a", labelled), ("b", both)], data.categories, 150)
    assert sheet.shape[1] >= 150


def test_a_line_break_in_a_name_is_drawn_as_a_space() -> None:
    odd, plain = (draw_objects(GREY, [[10, 50, 90, 90]], [name], colours=[FORKLIFT]) for name in ("a\nb", "a b"))
    assert (odd == plain).all()
    assert legend(["traffic\nlight\t\0"], 300).shape == legend(["traffic light"], 300).shape
    assert contact_sheet([("a\n" * 90, GREY)], 1, 200).shape == contact_sheet([("a", GREY)], 1, 200).shape
