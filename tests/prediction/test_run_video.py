"""A video through a detector: every frame is drawn and written, tracks hold, and memory does not grow."""

import csv
import json
import tracemalloc

import cv2
import numpy as np
import pytest
from planted import CLASSES, PlantedDetector

from drivetl.draw.palette import colour_of
from drivetl.errors import DataError
from drivetl.files.video import check_video, h264_encoder, read_frames, video_writer
from drivetl.prediction.inputs import VideoInput
from drivetl.prediction.model import Model
from drivetl.prediction.results import CSV_COLUMNS
from drivetl.prediction.video import VideoOptions, run_video

CODEC = "h264" if h264_encoder() is not None else "vp8"


def street(number):
    """(96, 160, 3) a red car that drives to the right, a green pedestrian who stands; the car is hidden once."""
    image = np.full((96, 160, 3), 90, np.uint8)
    if number != 5:
        image[30:60, 10 + 4 * number : 50 + 4 * number] = (235, 30, 30)
    image[64:92, 140:152] = (30, 235, 30)
    return image


def film(path, n_frames=12, rate_fps=10, make=street):
    height, width = make(0).shape[:2]
    with video_writer(path, width, height, rate_fps, "vp8") as write:
        for number in range(n_frames):
            write(make(number))
    return VideoInput(path, check_video(path))


def model(folder, name="planted", scores=(0.3, 0.3), **options):
    folder.mkdir(parents=True, exist_ok=True)
    return Model(name, PlantedDetector(**options), CLASSES, np.array(scores), folder)


def read(folder):
    images = json.loads((folder / "images.json").read_text())["images"]
    return images, json.loads((folder / "results.json").read_text())


def test_every_frame_is_detected_tracked_drawn_and_written(tmp_path):
    source, out = film(tmp_path / "drive.webm"), tmp_path / "out"
    only = model(out)
    options = VideoOptions(CODEC, ("coco", "csv", "kitti"), batch_size=5, track=True, pictures=3)
    summary = run_video(source, [only], out, options)
    assert summary.n_frames == 12 and not summary.cut_off(12) and summary.cut_off(40)
    info = check_video(out / summary.file)
    assert (info.width, info.height, info.rate_fps) == (160, 96, 10)
    assert sum(1 for _ in read_frames(out / summary.file)) == 12
    images, rows = read(out)
    assert [(image["id"], image["file_name"], image["frame_index"]) for image in images] == [
        (n + 1, f"drive/{n:06d}.jpg", n) for n in range(12)
    ]
    cars = {row["image_id"]: row for row in rows if row["category_id"] == 1}
    assert cars.keys() == set(range(1, 13)) - {6} and len({row["track_id"] for row in rows}) == 2
    for image_id, row in cars.items():
        assert np.abs(np.array(row["bbox"]) - [10 + 4 * (image_id - 1), 30, 40, 30]).max() <= 3
    assert only.counts == {"car": 11, "pedestrian": 12}
    with (out / "detections.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == CSV_COLUMNS and len(table) == len(rows) == 23
    assert {float(row["time_s"]) for row in table} == {n / 10 for n in range(12)}
    assert [row["class"] for row in table].count("car") == 11 and {row["outcome"] for row in table} == {""}
    assert len(list((out / "data").iterdir())) == 12
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["000000.jpg", "000004.jpg", "000008.jpg"]


def test_boxes_are_drawn_in_the_colour_of_their_class(tmp_path):
    source, out = film(tmp_path / "drive.webm"), tmp_path / "out"
    run_video(source, [model(out)], out, VideoOptions(CODEC, ("csv",)))
    first, before = (
        next(read_frames(out / f"drive.{'mp4' if CODEC == 'h264' else 'webm'}")),
        next(read_frames(source.path)),
    )
    changed = np.abs(first.astype(int) - before).sum(axis=2) > 60
    assert 0.005 < changed.mean() < 0.35 and not changed[75:, :90].any()
    edge = first[30:60, 8:13].reshape(-1, 3).astype(int)  # the left side of the car's box, as the codec keeps it
    assert np.abs(edge - colour_of("car")).sum(axis=1).min() < 160  # grey: 237


def test_two_models_are_shown_together_with_results_of_their_own(tmp_path):
    source, out = film(tmp_path / "drive.webm", 4), tmp_path / "out"
    models = [model(out, "good"), model(out / "compare", "blind to people", (0.3, 1.0))]
    summary = run_video(source, models, out, VideoOptions(CODEC, ("coco",)))
    frame = next(read_frames(out / summary.file))
    assert frame.shape[1] == 320 and frame.shape[0] > 96  # next to each other, below their names
    assert {row["category_id"] for row in read(out)[1]} == {1, 2}
    assert {row["category_id"] for row in read(out / "compare")[1]} == {1}
    wide = film(tmp_path / "wide.webm", 2, make=lambda n: np.full((60, 200, 3), 90, np.uint8))
    summary = run_video(wide, models, out / "compare", VideoOptions(CODEC, ("csv",)))
    frame = next(read_frames(out / "compare" / summary.file))
    assert frame.shape[1] == 200 and frame.shape[0] > 120  # one above the other


def test_law_results_do_not_depend_on_the_batch_size(tmp_path):
    source, written = film(tmp_path / "drive.webm", 7), []
    for size in (1, 3, 8):
        out = tmp_path / str(size)
        run_video(source, [model(out)], out, VideoOptions(CODEC, ("coco", "csv"), size, track=True))
        written.append([(out / name).read_bytes() for name in ("results.json", "detections.csv", "images.json")])
    assert written[0] == written[1] == written[2]


def test_memory_holds_a_batch_of_frames_whatever_the_length(tmp_path):
    def still(number):
        return np.full((240, 320, 3), 90, np.uint8)

    peaks = []
    for n_frames in (20, 100):
        source, out = film(tmp_path / f"{n_frames}.webm", n_frames, make=still), tmp_path / f"out {n_frames}"
        tracemalloc.start()
        run_video(source, [model(out)], out, VideoOptions(CODEC, ("coco", "csv"), batch_size=4))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 240 * 320 * 3


def test_a_video_that_changes_its_size_leaves_no_video(tmp_path):
    source = film(tmp_path / "drive.webm", 3)
    other = VideoInput(source.path, film(tmp_path / "other.webm", 3, make=lambda n: street(n)[:64]).info)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="in a video of"):
        run_video(other, [model(out)], out, VideoOptions(CODEC, ("csv",)))
    assert not list(out.glob("*.mp4")) + list(out.glob("*.webm"))


def test_a_video_without_frames_is_an_error(tmp_path):
    source = film(tmp_path / "drive.webm", 3)
    content = source.path.read_bytes()
    source.path.write_bytes(content[:300])
    (out := tmp_path / "out").mkdir()
    with pytest.raises(DataError):
        run_video(source, [model(out)], out, VideoOptions(CODEC, ("csv",)))
    assert not list(out.glob("*.mp4")) + list(out.glob("*.webm"))


def test_pictures_of_a_video_are_its_frames(tmp_path):
    source, out = film(tmp_path / "drive.webm", 4), tmp_path / "out"
    run_video(source, [model(out)], out, VideoOptions(CODEC, ("csv",), pictures=9))
    assert [cv2.imread(str(path)).shape for path in sorted((out / "pictures").iterdir())] == [(96, 160, 3)] * 4
