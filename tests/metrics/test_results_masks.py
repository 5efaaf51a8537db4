"""Stored detections keep their masks: metrics are the same before and after."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetl.coco import masks
from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.label_curve.fit import class_draws
from drivetl.metrics.match_store import match
from drivetl.metrics.results import Results, load_results, save_results
from drivetl.metrics.statistics import draw_weights

HEIGHT, WIDTH = 24, 40


def blob(rng):
    """A ragged mask of at least one pixel, as RLE."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = rng.integers(0, WIDTH - 8), rng.integers(0, HEIGHT - 8)
    mask[y : y + 8, x : x + 8] = rng.random((8, 8)) < 0.9
    mask[y, x] = 1
    return masks.encode(mask)


def random_case(seed, n_images=6):
    """(dataset, detections near its objects), both with masks."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for number in range(1, n_images + 1):
        record = ImageRecord(number, f"{number}.png", WIDTH, HEIGHT, f"drive {number % 3}")
        for _ in range(rng.integers(0, 4)):
            rle, category = blob(rng), int(rng.integers(1, 3))
            x1, y1, x2, y2 = masks.box_xyxy(masks.decode(rle, HEIGHT, WIDTH))
            box = (x1, y1, x2 - x1, y2 - y1)
            record.annotations.append(Annotation(category, box, (x2 - x1) * (y2 - y1), segmentation=rle))
            rows.append((number, category, box, rng.random(), rle))
            rows.append((number, category, box, rng.random(), blob(rng)))
        images.append(record)
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return Dataset(("car", "person"), images, None, {}), Results.of(*columns[:4], list(columns[4]))


def assert_same(first, second):
    """Assert that all columns are identical."""
    assert first.segmentations == second.segmentations
    for name in ("image_id", "category_id", "boxes_xywh", "scores"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@given(seed=st.integers(0, 10_000), n_images=st.integers(0, 6))
def test_law_save_and_load_round_trip(tmp_path_factory, seed, n_images):
    path = tmp_path_factory.mktemp("kept") / "a.npz"
    _, found = random_case(seed, n_images)
    save_results(path, found)
    assert_same(load_results(path), found)


def test_law_stored_detections_have_the_same_mask_ap_under_draws(tmp_path):
    dataset, found = random_case(3, 12)
    save_results(tmp_path / "a.npz", found)
    before, after = (match(dataset, one, "segm") for one in (found, load_results(tmp_path / "a.npz")))
    weights = draw_weights(before.units(), 20)
    expected = class_draws(before, weights)
    for metric, values in class_draws(after, weights).items():
        assert np.array_equal(values, expected[metric], equal_nan=True)
    of_boxes = class_draws(match(dataset, found), weights)
    assert 0 < expected["AP"][0, 0] < of_boxes["AP"][0, 0]


def test_more_than_255_masks_have_their_areas():
    dataset, found = random_case(5, 150)
    assert len(found) > 255
    store = match(dataset, found, "segm")
    drawn = [masks.area(found.segmentations[row], HEIGHT, WIDTH) for row in store.source]
    assert np.array_equal(store.area, drawn)


def test_boxes_alone_and_missing_masks_round_trip(tmp_path):
    _, found = random_case(1)
    found.segmentations[1] = None
    save_results(tmp_path / "holes.npz", found)
    assert_same(load_results(tmp_path / "holes.npz"), found)
    found.segmentations = None
    save_results(tmp_path / "boxes.npz", found)
    assert_same(load_results(tmp_path / "boxes.npz"), found)


def test_uncompressed_masks_are_compressed_and_polygons_refused(tmp_path):
    _, found = random_case(1)
    whole = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    found.segmentations[0] = whole
    save_results(tmp_path / "a.npz", found)
    back = load_results(tmp_path / "a.npz").segmentations[0]
    assert masks.decode(back, HEIGHT, WIDTH).all()
    found.segmentations[2] = [[0.0, 0.0, 5.0, 0.0, 5.0, 5.0]]
    with pytest.raises(DataError, match=r"\[2\] is a polygon"):
        save_results(tmp_path / "b.npz", found)
    assert not (tmp_path / "b.npz").exists()


def damaged(found, **columns):
    """The stored file with some columns replaced, None to leave one out."""
    names = ("image_id", "category_id", "boxes_xywh", "scores")
    counts = np.array([rle["counts"].encode() for rle in found.segmentations], np.bytes_)
    sizes = np.array([rle["size"] for rle in found.segmentations], np.int32)
    whole = {name: getattr(found, name) for name in names} | {"mask_counts": counts, "mask_hw": sizes}
    data = io.BytesIO()
    np.savez_compressed(data, **{k: v for k, v in (whole | columns).items() if v is not None})
    return data.getvalue()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"mask_counts": None}, "mask_counts"),
        ({"mask_hw": np.zeros((1, 2), np.int32)}, "differ in number"),
        ({"mask_counts": np.zeros(6)}, "differ in number"),
        ({"mask_hw": np.full((6, 2), 7, np.int32)}, "do not fill 7 x 7 px"),
        ({"mask_hw": np.full((6, 2), -9, np.int32)}, "-9"),
        ({"mask_counts": np.array([b"\xff\xfe"] * 6)}, "ascii"),
        ({"mask_counts": np.array([{}] * 6, dtype=object)}, "Python objects"),
        ({"scores": np.zeros(2)}, "columns differ in length"),
        ({"scores": np.zeros(())}, "len"),
    ],
)
def test_damaged_masks_are_refused_before_decoding(tmp_path, columns, reason):
    found = Results.of([1] * 6, [1] * 6, np.ones((6, 4)), np.ones(6), [blob(np.random.default_rng(0))] * 6)
    (tmp_path / "a.npz").write_bytes(damaged(found, **columns))
    with pytest.raises(DataError, match=rf"stored detections cannot be read \(.*{reason}.*- detect again"):
        load_results(tmp_path / "a.npz")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    _, found = random_case(1)
    save_results(tmp_path / "a.npz", found)
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        size = sum(item.file_size for item in file.infolist())
    monkeypatch.setattr("drivetl.files.arrays.MAX_BYTES", size - 1)
    with pytest.raises(DataError, match="larger than any detections"):
        load_results(tmp_path / "a.npz")
