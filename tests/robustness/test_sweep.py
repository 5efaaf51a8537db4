"""The sweep gives the same detections for any workers, batches, order and interruptions."""

import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset, read_planted

from drivetl.cli import message_of
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Annotation
from drivetl.conditions import CLEAN, apply, pixel_seed
from drivetl.data.dataset import read_image
from drivetl.data.vehicles import vehicle_boxes
from drivetl.errors import DataError
from drivetl.robustness import sweep as sweeping
from drivetl.robustness.detection_cache import DetectionCache, image_keys
from drivetl.robustness.run import run_sweep
from drivetl.robustness.sweep import Task, Timing, stratified_order, sweep, variants

CELLS = [CLEAN, ("night", 3), ("contrast", 1), ("gaussian_noise", 2)]
IDENTITY = {"weights": "planted"}


@pytest.fixture
def data(tmp_path):
    return read_planted(tmp_path / "data", n_images=6, n_drives=3)


def swept(folder, data, cells=CELLS, detector=None, **options):
    cache = DetectionCache(folder, IDENTITY)
    keys = image_keys(data)
    timing = sweep({"run": detector or PlantedDetector()}, {"run": cache}, data, keys, cells, **options)
    return cache, keys, timing


def table(cache, keys, data, cells=CELLS):
    ids = {key: image.id for key, image in zip(keys, data.images, strict=True)}
    return {cell: cache.results(cell, ids) for cell in cells}


def same(a, b):
    return all(
        np.array_equal(a[cell].boxes_xywh, b[cell].boxes_xywh)
        and np.array_equal(a[cell].scores, b[cell].scores)
        and np.array_equal(a[cell].image_id, b[cell].image_id)
        for cell in a
    )


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 1), (0, 3), (2, 5), (1, 64)])
def test_the_same_for_any_worker_count_and_batch_size(tmp_path, data, workers, batch_size):
    reference, keys, _ = swept(tmp_path / "a", data)
    other, _, timing = swept(tmp_path / "b", data, workers=workers, batch_size=batch_size)
    assert same(table(reference, keys, data), table(other, keys, data))
    assert timing.pictures == timing.inferences == 6 * len(CELLS)
    assert len(table(reference, keys, data)[CLEAN]) > 10


def test_the_cache_on_disk_returns_the_same_detections(tmp_path, data):
    cache, keys, _ = swept(tmp_path / "a", data)
    again = DetectionCache(tmp_path / "a", IDENTITY)
    assert same(table(cache, keys, data), table(again, keys, data))


def test_a_finished_sweep_infers_nothing(tmp_path, data):
    swept(tmp_path / "a", data)
    detector = PlantedDetector()
    _, _, timing = swept(tmp_path / "a", data, detector=detector)
    assert detector.images_seen == 0 and timing.bound_by == "stored"


class Killed(PlantedDetector):
    """A detector whose process is killed after ten images."""

    def infer(self, images):
        if self.images_seen >= 10:
            raise KeyboardInterrupt
        return super().infer(images)


def test_killed_and_resumed_is_the_same_and_repeats_nothing(tmp_path, data):
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "a", data, detector=Killed(), batch_size=2)
    detector = PlantedDetector()
    cache, keys, _ = swept(tmp_path / "a", data, detector=detector, batch_size=2)
    assert detector.images_seen == 6 * len(CELLS) - 10
    reference, _, _ = swept(tmp_path / "b", data)
    assert same(table(reference, keys, data), table(cache, keys, data))


def test_a_damaged_chunk_is_recomputed(tmp_path, data, capsys):
    cache, _, _ = swept(tmp_path / "a", data)
    (chunk,) = cache.folder.glob("*.npz")
    chunk.write_bytes(chunk.read_bytes()[:100])
    detector = PlantedDetector()
    swept(tmp_path / "a", data, detector=detector)
    assert detector.images_seen == 6 * len(CELLS)
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"counts": np.array([1.5])},
        {"counts": np.array([-1])},
        {"keys": np.array([1, 2])},
        {"cells": np.array(["fog/x"])},
        {"cells": np.array("fog/1")},
        {"boxes": np.zeros((1, 3), np.float32)},
        {"boxes": np.zeros(4, np.float32)},
        {"scores": np.zeros((1, 2), np.float32)},
        {"scores": np.array(["a"])},
        {"labels": np.array([np.nan])},
        {"labels": np.array([1, 2])},
    ],
)
def test_a_chunk_with_other_columns_is_recomputed(tmp_path, change, capsys):
    columns = {
        "keys": np.array(["a"]),
        "cells": np.array(["fog/1"]),
        "counts": np.array([1]),
        "boxes": np.zeros((1, 4), np.float32),
        "scores": np.zeros(1, np.float32),
        "labels": np.ones(1, np.int16),
    }
    folder = DetectionCache(tmp_path, IDENTITY).folder
    np.savez(folder / "a.npz", **columns)
    assert DetectionCache(tmp_path, IDENTITY).cells() == [("fog", 1)]
    np.savez(folder / "a.npz", **columns | change)
    assert DetectionCache(tmp_path, IDENTITY).cells() == []
    assert "damaged" in capsys.readouterr().err


def test_any_corrupt_byte_of_a_chunk_is_survived(tmp_path, data, capsys):
    cache, _, _ = swept(tmp_path / "a", data)
    (chunk,) = cache.folder.glob("*.npz")
    whole = chunk.read_bytes()
    for offset in range(0, len(whole), max(1, len(whole) // 400)):
        broken = bytearray(whole)
        broken[offset] ^= 0xFF
        chunk.write_bytes(bytes(broken))
        cells = DetectionCache(tmp_path / "a", IDENTITY).cells()
        warned = "damaged" in capsys.readouterr().err
        assert not cells if warned else cells == cache.cells(), offset


def test_law_changed_pixels_change_the_key_at_equal_file_size(tmp_path, data):
    """Uncompressed images of equal dimensions have equal file sizes."""
    path = data.images_root / data.images[0].file_name
    before = image_keys(data)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    after = image_keys(data)
    assert before[0] != after[0] and before[1:] == after[1:]


def test_the_night_that_is_evaluated_has_the_lamps_of_the_labels(data):
    for index, record in enumerate(data.images[1:3], start=1):  # the first is empty
        image, cell = read_image(record, data.images_root), ("night", 4)
        ((_, shown),) = variants(Task(index, record, (cell,), data.categories), data.images_root)
        boxes = vehicle_boxes(record, data.categories)
        assert len(boxes), "the law is about vehicles"
        seed = pixel_seed(record.file_name, *cell)
        assert np.array_equal(shown, apply(image, *cell, seed, vehicles=boxes))
        assert not np.array_equal(shown, apply(image, *cell, seed, vehicles=boxes[:0]))


def test_law_moved_vehicles_change_the_key_and_other_labels_do_not(data):
    """The lamps of the night stand where the labels say that vehicles are."""
    before = image_keys(data)
    vehicles, others = (
        [i for i, name in enumerate(data.categories, 1) if (name == "car") is car] for car in (True, False)
    )
    first, second = data.images[0], data.images[1]
    first.annotations = [Annotation(vehicles[0], (10, 20, 30, 20), 600.0)]
    second.annotations = [item for item in second.annotations if item.category_id in vehicles]
    second.annotations += [Annotation(others[0], (10, 20, 30, 20), 600.0)]
    after = image_keys(data)
    assert before[0] != after[0] and before[1:] == after[1:]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_a_one_line_error_from_any_worker(tmp_path, data, workers):
    path = data.images_root / data.images[0].file_name
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        swept(tmp_path / "a", data, workers=workers)
    text = message_of(caught.value)
    assert text.startswith(str(path)) and "\n" not in text and "Traceback" not in text


def test_reports_share_cached_cells(tmp_path, data):
    swept(tmp_path / "a", data, cells=[CLEAN, ("night", 3)])
    detector = PlantedDetector()
    swept(tmp_path / "a", data, cells=[CLEAN, ("night", 3), ("contrast", 1)], detector=detector)
    assert detector.images_seen == 6


def test_another_detector_or_protocol_does_not_share(tmp_path, data, monkeypatch):
    swept(tmp_path / "a", data)
    keys = image_keys(data)
    assert DetectionCache(tmp_path / "a", IDENTITY).has(keys[0], CLEAN)
    assert not DetectionCache(tmp_path / "a", {"weights": "other"}).has(keys[0], CLEAN)
    monkeypatch.setattr("drivetl.robustness.detection_cache.PROTOCOL_VERSION", 999)
    assert not DetectionCache(tmp_path / "a", IDENTITY).has(keys[0], CLEAN)


def test_a_cache_of_another_identity_is_refused(tmp_path, data):
    cache, _, _ = swept(tmp_path / "a", data)
    about = cache.folder / "about.json"
    about.write_text(about.read_text().replace("planted", "someone else"))
    with pytest.raises(DataError, match=r"another detector or protocol version - remove"):
        DetectionCache(tmp_path / "a", IDENTITY)


def test_a_changed_image_is_recomputed(tmp_path):
    path = planted_dataset(tmp_path / "data", n_images=3)
    data = read_dataset(path)
    swept(tmp_path / "a", data)
    changed = tmp_path / "data" / "images" / "000001.png"
    changed.write_bytes((tmp_path / "data" / "images" / "000000.png").read_bytes())
    detector = PlantedDetector()
    swept(tmp_path / "a", data, detector=detector)
    assert detector.images_seen == len(CELLS)


def test_two_detectors_share_rendered_images(tmp_path, data):
    caches = {name: DetectionCache(tmp_path / name, {"weights": name}) for name in ("run", "baseline")}
    detectors = {"run": PlantedDetector(), "baseline": PlantedDetector()}
    timing = sweep(detectors, caches, data, image_keys(data), CELLS)
    assert timing.inferences == 2 * timing.pictures == 12 * len(CELLS)
    keys = image_keys(data)
    assert same(*(table(cache, keys, data) for cache in caches.values()))


def test_shards_together_are_the_whole(tmp_path, data):
    parts = [swept(tmp_path / "a", data, shard=(rank, 3))[2].inferences for rank in range(3)]
    assert sum(parts) == 6 * len(CELLS) and min(parts) == 2 * len(CELLS)
    reference, keys, _ = swept(tmp_path / "b", data)
    assert same(table(reference, keys, data), table(DetectionCache(tmp_path / "a", IDENTITY), keys, data))


def test_a_budget_completes_images_in_all_cells(tmp_path, data, monkeypatch):
    clock = iter(np.arange(0, 1e6, 1.0))
    monkeypatch.setattr(sweeping.time, "perf_counter", lambda: float(next(clock)))
    cells = [("night", 3), ("contrast", 1), ("gaussian_noise", 2)]
    found = run_sweep(
        PlantedDetector(),
        data,
        [name for name, _ in cells],
        [1, 2],
        cache=tmp_path / "c",
        budget_s=60.0,
        workers=0,
        batch_size=2,
    )
    assert 1 <= len(found.dataset.images) < 6 and found.timing.out_of_budget
    more = run_sweep(
        PlantedDetector(),
        data,
        [name for name, _ in cells],
        [1, 2],
        cache=tmp_path / "c",
        budget_s=60.0,
        workers=0,
        batch_size=2,
    )
    assert len(more.dataset.images) > len(found.dataset.images)


def test_any_prefix_of_the_order_is_spread_over_the_drives():
    drives = ["a"] * 40 + ["b"] * 20 + ["c"] * 4
    order = stratified_order(Drives(tuple(drives)))
    assert sorted(order) == list(range(64))
    assert {drives[place] for place in order[:3]} == {"a", "b", "c"}
    half = [drives[place] for place in order[:32]]
    assert abs(half.count("a") - 20) <= 1 and abs(half.count("b") - 10) <= 1
    frames_of_a = sorted(place for place in order[:16] if place < 40)
    assert max(np.diff(frames_of_a)) <= 8, "spread along the drive"


def test_the_bottleneck_is_named():
    assert Timing(pictures=4, inference_s=3, waiting_s=1).bound_by == "inference"
    assert Timing(pictures=4, inference_s=1, waiting_s=3).bound_by == "corruption"


def test_a_missing_image_is_named(tmp_path, data):
    (tmp_path / "data" / "images" / "000002.png").unlink()
    with pytest.raises(DataError, match=r"000002\.png: cannot be read"):
        image_keys(data)
