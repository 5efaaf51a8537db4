"""Frames with their drives, times and conditions."""

import pytest

from drivetl.coco.records import ImageRecord
from drivetl.selection.pool import PER_GAP, condition_names, drive_of, find_pool, frames_of, spaced, time_of


def image(name, number=1, **options):
    return ImageRecord(number, name, 9, 9, **options)


@pytest.mark.parametrize(
    ("record", "fps", "time_s"),
    [
        (image("a.png", attributes={"time_s": 1.5}), 10, 1.5),
        (image("a.png", attributes={"time_s": True}, frame_index=20), 10, 2.0),
        (image("d/frame_000030.png"), 10, 3.0),
        (image("d/frame_000030.png", frame_index=5), 10, 0.5),
        (image("d/frame_000030.png", frame_index=5), None, None),
        (image("left.png"), 10, None),
    ],
)
def test_the_time_of_a_frame(record, fps, time_s):
    assert time_of(record, fps) == time_s


def test_the_drive_of_a_frame_is_its_folder_where_it_is_unknown():
    assert drive_of(image("a/b/1.png", drive="x")) == "x"
    assert drive_of(image("a/b/1.png")) == "a/b" and drive_of(image("1.png")) == ""


def test_conditions_are_texts_of_few_values():
    records = [
        image(
            f"{n}.png",
            attributes={"timeofday": "night" if n else "day", "name": f"{n}", "lux": n, "camera": "front"}
            | ({"weather": "rain"} if n == 3 else {}),
        )
        for n in range(20)
    ]
    assert condition_names(records) == ["timeofday", "weather"]
    assert condition_names([]) == []
    frames = {frame.record.file_name: frame for frame in frames_of(records, None)}
    assert frames["3.png"].conditions == (("timeofday", "night"), ("weather", "rain"))
    assert frames["0.png"].conditions == (("timeofday", "day"), ("weather", ""))


def test_law_frames_lose_their_labels_and_the_order_they_came_in():
    records = [image(f"{drive}/{n}.png", 10 * n + (drive == "b"), labelled=()) for n in range(5) for drive in "ab"]
    frames = frames_of(records, 1.0)
    assert frames == frames_of(records[::-1], 1.0)
    assert [(frame.drive, frame.time_s) for frame in frames] == [(drive, float(n)) for drive in "ab" for n in range(5)]
    assert all(frame.record.labelled is None for frame in frames)


def test_law_spaced_frames_are_apart_and_nothing_more_fits():
    frames = frames_of([image(f"a/{n}.png", n + 1) for n in (0, 1, 2, 5, 6, 9)], 10.0)
    kept = [frame.time_s for frame in spaced(frames, 0.2)]
    assert kept == [0.0, 0.2, 0.5, 0.9]
    assert spaced(frames, 0.0) == frames
    unknown = frames_of([image(f"a/{n}.png", n + 1) for n in range(4)], None)
    assert spaced(unknown, 10.0) == unknown


def test_a_pool_looks_at_some_frames_per_gap(tmp_path):
    import cv2
    import numpy as np

    for number in range(40):
        assert cv2.imwrite(str(tmp_path / f"{number:03d}.png"), np.zeros((9, 9), np.uint8))
    pool = find_pool([str(tmp_path)], ("car",), 10.0, 2.0)
    assert len(pool.frames) == 8 == 4 * PER_GAP // 2 and pool.skipped == 32 and pool.dataset.categories == ("car",)
    assert len(find_pool([str(tmp_path)], ("car",), None, 2.0).frames) == 40
