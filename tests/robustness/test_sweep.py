"""The sweep: the same detections whatever the workers, batches, order and interruptions."""

import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset, read_planted

from drivetl.cli import message_of
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.conditions import CLEAN
from drivetl.errors import DataError
from drivetl.robustness import sweep as sweeping
from drivetl.robustness.detection_cache import DetectionCache, image_keys
from drivetl.robustness.run import run_sweep
from drivetl.robustness.sweep import Timing, stratified_order, sweep

CELLS = [CLEAN, ("night", 3), ("contrast", 1), ("gaussian_noise", 2)]
IDENTITY = {"weights": "planted"}


@pytest.fixture
def data(tmp_path):
    return read_planted(tmp_path / "data", n_images=6, n_drives=3)


def swept(folder, data, cells=CELLS, detector=None, **options):
    store = DetectionCache(folder, IDENTITY)
    keys = image_keys(data)
    timing = sweep({"run": detector or PlantedDetector()}, {"run": store}, data, keys, cells, **options)
    return store, keys, timing


def table(store, keys, data, cells=CELLS):
    ids = {key: image.id for key, image in zip(keys, data.images, strict=True)}
    return {cell: store.results(cell, ids) for cell in cells}


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


def test_read_back_from_disk_is_what_was_found(tmp_path, data):
    store, keys, _ = swept(tmp_path / "a", data)
    again = DetectionCache(tmp_path / "a", IDENTITY)
    assert same(table(store, keys, data), table(again, keys, data))


def test_a_finished_sweep_infers_nothing(tmp_path, data):
    swept(tmp_path / "a", data)
    detector = PlantedDetector()
    _, _, timing = swept(tmp_path / "a", data, detector=detector)
    assert detector.pictures_seen == 0 and timing.bound_by == "stored"


class Dies(PlantedDetector):
    """A detector whose process is killed after so many pictures."""

    def infer(self, images):
        if self.pictures_seen >= 10:
            raise KeyboardInterrupt
        return super().infer(images)


def test_killed_and_resumed_is_the_same_and_repeats_nothing(tmp_path, data):
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "a", data, detector=Dies(), batch_size=2)
    detector = PlantedDetector()
    store, keys, _ = swept(tmp_path / "a", data, detector=detector, batch_size=2)
    assert detector.pictures_seen == 6 * len(CELLS) - 10
    reference, _, _ = swept(tmp_path / "b", data)
    assert same(table(reference, keys, data), table(store, keys, data))


def test_a_damaged_chunk_is_computed_again(tmp_path, data, capsys):
    store, _, _ = swept(tmp_path / "a", data)
    (chunk,) = store.folder.glob("*.npz")
    chunk.write_bytes(chunk.read_bytes()[:100])
    detector = PlantedDetector()
    swept(tmp_path / "a", data, detector=detector)
    assert detector.pictures_seen == 6 * len(CELLS)
    assert "damaged" in capsys.readouterr().err


def test_no_broken_byte_of_a_chunk_ends_a_run(tmp_path, data, capsys):
    store, _, _ = swept(tmp_path / "a", data)
    (chunk,) = store.folder.glob("*.npz")
    whole = chunk.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 400)):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        chunk.write_bytes(bytes(broken))
        found = DetectionCache(tmp_path / "a", IDENTITY).cells()
        told = "damaged" in capsys.readouterr().err
        assert not found if told else found == store.cells(), place


def test_law_other_pixels_are_another_image_whatever_the_file_size(tmp_path, data):
    """Pictures without compression all have the same number of bytes."""
    path = data.images_root / data.images[0].file_name
    before = image_keys(data)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    after = image_keys(data)
    assert before[0] != after[0] and before[1:] == after[1:]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_said_in_one_line_by_any_worker(tmp_path, data, workers):
    path = data.images_root / data.images[0].file_name
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as caught:
        swept(tmp_path / "a", data, workers=workers)
    said = message_of(caught.value)
    assert said.startswith(str(path)) and "\n" not in said and "Traceback" not in said


def test_reports_share_cells(tmp_path, data):
    swept(tmp_path / "a", data, cells=[CLEAN, ("night", 3)])
    detector = PlantedDetector()
    swept(tmp_path / "a", data, cells=[CLEAN, ("night", 3), ("contrast", 1)], detector=detector)
    assert detector.pictures_seen == 6


def test_another_detector_or_protocol_does_not_share(tmp_path, data, monkeypatch):
    swept(tmp_path / "a", data)
    keys = image_keys(data)
    assert DetectionCache(tmp_path / "a", IDENTITY).has(keys[0], CLEAN)
    assert not DetectionCache(tmp_path / "a", {"weights": "other"}).has(keys[0], CLEAN)
    monkeypatch.setattr("drivetl.robustness.detection_cache.PROTOCOL_VERSION", 999)
    assert not DetectionCache(tmp_path / "a", IDENTITY).has(keys[0], CLEAN)


def test_cells_under_a_wrong_name_are_refused(tmp_path, data):
    store, _, _ = swept(tmp_path / "a", data)
    about = store.folder / "about.json"
    about.write_text(about.read_text().replace("planted", "someone else"))
    with pytest.raises(DataError, match=r"another detector or protocol version - remove"):
        DetectionCache(tmp_path / "a", IDENTITY)


def test_a_changed_picture_is_another_picture(tmp_path):
    path = planted_dataset(tmp_path / "data", n_images=3)
    data = read_dataset(path)
    swept(tmp_path / "a", data)
    picture = tmp_path / "data" / "images" / "000001.png"
    picture.write_bytes((tmp_path / "data" / "images" / "000000.png").read_bytes())
    detector = PlantedDetector()
    swept(tmp_path / "a", data, detector=detector)
    assert detector.pictures_seen == len(CELLS)


def test_two_detectors_see_the_same_pictures_once_made(tmp_path, data):
    stores = {who: DetectionCache(tmp_path / who, {"weights": who}) for who in ("run", "baseline")}
    detectors = {"run": PlantedDetector(), "baseline": PlantedDetector()}
    timing = sweep(detectors, stores, data, image_keys(data), CELLS)
    assert timing.inferences == 2 * timing.pictures == 12 * len(CELLS)
    keys = image_keys(data)
    assert same(*(table(store, keys, data) for store in stores.values()))


def test_shards_together_are_the_whole(tmp_path, data):
    parts = [swept(tmp_path / "a", data, shard=(rank, 3))[2].inferences for rank in range(3)]
    assert sum(parts) == 6 * len(CELLS) and min(parts) == 2 * len(CELLS)
    reference, keys, _ = swept(tmp_path / "b", data)
    assert same(table(reference, keys, data), table(DetectionCache(tmp_path / "a", IDENTITY), keys, data))


def test_a_budget_takes_whole_images_the_same_for_all_cells(tmp_path, data, monkeypatch):
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


def test_any_beginning_of_the_order_is_fair_to_the_drives():
    drives = ["a"] * 40 + ["b"] * 20 + ["c"] * 4
    order = stratified_order(Drives(tuple(drives)))
    assert sorted(order) == list(range(64))
    assert {drives[place] for place in order[:3]} == {"a", "b", "c"}
    half = [drives[place] for place in order[:32]]
    assert abs(half.count("a") - 20) <= 1 and abs(half.count("b") - 10) <= 1
    frames_of_a = sorted(place for place in order[:16] if place < 40)
    assert max(np.diff(frames_of_a)) <= 8, "spread along the drive"


def test_what_bound_it_is_said():
    assert Timing(pictures=4, inference_s=3, waiting_s=1).bound_by == "inference"
    assert Timing(pictures=4, inference_s=1, waiting_s=3).bound_by == "corruption"


def test_a_missing_picture_is_named(tmp_path, data):
    (tmp_path / "data" / "images" / "000002.png").unlink()
    with pytest.raises(DataError, match=r"000002\.png: cannot be read"):
        image_keys(data)
