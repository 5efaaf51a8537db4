"""Frames of a video: the grid of times, duplicates, resuming, and a damaged end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from footage_trees import SHARED

from drivetl.adapters import video
from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.errors import ConfigError, DataError
from drivetl.files.mp4 import video_tracks

RATE = 10
SIZE = 320, 180


def film(path: Path, images: list[np.ndarray]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE)
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def street(shift: int = 0, walker: int | None = None, seed: int | None = None) -> np.ndarray:
    """(180, 320, 3) stripes moved sideways, a dark figure 8 x 20 px, and camera noise of 4 grey levels."""
    columns = (np.arange(SIZE[0]) + shift) // 40 % 2 * 120 + 60
    image = np.repeat(np.tile(columns, (SIZE[1], 1))[..., None], 3, axis=2).astype(np.float64)
    if walker is not None:
        image[100:120, walker : walker + 8] = 10
    if seed is not None:
        image += np.random.default_rng(seed).normal(0, 4, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def test_frames_on_a_grid_of_times(tmp_path: Path) -> None:
    film(tmp_path / "drive.avi", [street(10 * n) for n in range(30)])
    (clip,) = video.extract_videos(tmp_path / "drive.avi", tmp_path / "out", fps=2)
    assert clip.frames == [(n, n / RATE) for n in range(0, 30, 5)] and not clip.cut_off
    dataset = read_dataset(tmp_path / "out" / "frames.json")
    assert [image.file_name for image in dataset.images] == [f"drive/{n:06d}.jpg" for n in range(0, 30, 5)]
    assert {image.drive for image in dataset.images} == {"drive"}
    assert [image.frame_index for image in dataset.images] == list(range(0, 30, 5))
    assert dataset.images[1].attributes == {"time_s": 0.5}
    assert all(image.labelled == () for image in dataset.images)  # unlabelled, not empty
    assert all((dataset.images_root / image.file_name).is_file() for image in dataset.images)
    assert len(video.extract_drive(tmp_path / "drive.avi", tmp_path / "every", fps=None).frames) == 30


def test_equal_frames_are_left_out_and_a_pedestrian_is_kept(tmp_path: Path) -> None:
    parked = [street(seed=n) for n in range(20)]
    walking = [street(walker=40 + 20 * n, seed=100 + n) for n in range(5)]
    film(tmp_path / "park.avi", [*parked, *walking])
    clip = video.extract_drive(tmp_path / "park.avi", tmp_path / "out", fps=None)
    assert [frame for frame, _ in clip.frames] == [0, 20, 21, 22, 23, 24] and clip.duplicates == 19
    everything = video.extract_drive(tmp_path / "park.avi", tmp_path / "all", fps=None, keep_duplicates=True)
    assert len(everything.frames) == 25


def test_an_interrupted_extraction_resumes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "drive.avi", [street(7 * (n // 3), seed=n) for n in range(40)])
    whole = video.extract_drive(tmp_path / "drive.avi", tmp_path / "whole", fps=5)
    written: list[Path] = []
    write = video.write_atomically

    def failing(path: Path, content: bytes) -> None:
        if path.suffix == ".jpg" and len(written) >= 4:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(video, "write_atomically", failing)
    with pytest.raises(KeyboardInterrupt):
        video.extract_drive(tmp_path / "drive.avi", tmp_path / "parts", fps=5)
    monkeypatch.undo()
    journal = tmp_path / "parts" / "drive" / "extraction.jsonl"
    journal.write_text(journal.read_text() + '{"frame": 99, "ti')  # killed in the middle of a line
    stamps = {path: path.stat().st_mtime_ns for path in written}
    again = video.extract_drive(tmp_path / "drive.avi", tmp_path / "parts", fps=5)
    assert again == whole and names(tmp_path / "parts") == names(tmp_path / "whole")
    for name in names(tmp_path / "whole"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())  # nothing was redone
    with pytest.raises(DataError, match="other settings"):
        video.extract_drive(tmp_path / "drive.avi", tmp_path / "parts", fps=2)


def test_a_damaged_end_stops_extraction_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = film(tmp_path / "drive.avi", [street(10 * n) for n in range(40)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert main(["convert-footage", "--video", str(path), "--out", str(tmp_path / "out"), "--fps", "all"]) == 0
    captured = capsys.readouterr()
    assert "warning: drive: the video breaks off after" in captured.err
    assert 5 <= len(read_dataset(tmp_path / "out" / "frames.json").images) < 40


def test_a_file_that_is_not_a_video_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "drive.mp4"
    bad.write_bytes(b"no video at all")
    assert main(["convert-footage", "--video", str(bad), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {bad}: ") and not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="contains no video"):
        video.find_videos(_empty(tmp_path))
    with pytest.raises(ConfigError, match="--fps"):
        video.extract_videos(bad, tmp_path / "out", fps=0)


def test_files_of_no_extraction_are_not_overwritten(tmp_path: Path) -> None:
    path, out = film(tmp_path / "drive.avi", [street(10 * n) for n in range(3)]), tmp_path / "out"
    theirs = out / "images" / "drive" / "000000.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(DataError, match="never overwritten") as caught:
        video.extract_videos(path, out, fps=None)
    assert caught.value.file == theirs.parent and theirs.read_bytes() == b"theirs"
    theirs.unlink()
    (out / "frames.json").write_text('{"mine": 1}')
    with pytest.raises(DataError, match="not a list of extracted frames") as caught:
        video.extract_videos(path, out, fps=None)
    assert caught.value.file == out / "frames.json" and not names(out)
    (out / "frames.json").unlink()
    for _ in range(2):  # its own output may be extended
        (clip,) = video.extract_videos(path, out, fps=None)
        assert len(clip.frames) == 3


def test_a_file_named_like_the_image_folder_is_an_error(tmp_path: Path) -> None:
    path = film(tmp_path / "drive.avi", [street()])
    (tmp_path / "images").write_bytes(b"")
    with pytest.raises(DataError, match="name another folder with --out"):
        video.extract_videos(path, tmp_path, fps=None)


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


@pytest.mark.skipif(not (SHARED / "clip").is_dir(), reason="the shared clip is not available")
def test_a_real_drive(tmp_path: Path) -> None:
    (clip,) = video.extract_videos(SHARED / "clip", tmp_path / "out", fps=2)
    assert clip.seen == 40 and [frame for frame, _ in clip.frames] == list(range(0, 40, 5))


def mp4_with_two_tracks(path: Path, first: int, second: int) -> Path:
    """An MP4 of `first` frames, whose second video track claims `second` frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for n in range(first):
        writer.write(street(10 * n))
    writer.release()
    content = path.read_bytes()
    at = content.index(b"moov") - 4  # the last box of the file
    start = content.index(b"trak", at) - 4
    size = int.from_bytes(content[start : start + 4], "big")
    track = bytearray(content[start : start + size])
    count = track.index(b"stsz") + 12
    track[count : count + 4] = second.to_bytes(4, "big")
    length = int.from_bytes(content[at : at + 4], "big") + size
    end = start + size
    path.write_bytes(content[:at] + length.to_bytes(4, "big") + content[at + 4 : end] + bytes(track) + content[end:])
    return path


def test_a_first_track_that_is_a_thumbnail_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mp4_with_two_tracks(tmp_path / "drive.mp4", 1, 40)
    assert [(track.frames, track.width) for track in video_tracks(path)] == [(1, SIZE[0]), (40, SIZE[0])]
    single = film(tmp_path / "single.avi", [street(10 * n) for n in range(20)])
    content = single.read_bytes()
    second = content.index(b"00dc", content.index(b"00dc", content.index(b"movi")) + 4)
    single.write_bytes(content[:second])  # one frame, of 20 by the header, as in a Matroska file with a thumbnail
    with pytest.raises(DataError, match=r"only one of 20 frames .* thumbnail, or the file is damaged"):
        video.extract_drive(single, tmp_path / "out", fps=None)
    with pytest.raises(DataError, match=r"has 2 video streams .* only the first can be read"):
        video.extract_drive(path, tmp_path / "out", fps=None)
    longer = mp4_with_two_tracks(tmp_path / "camera.mp4", 5, 4)
    assert video.extract_drive(longer, tmp_path / "out", fps=None).seen == 5
    assert "1 more video streams are not read" in capsys.readouterr().err


def mpeg4(path: Path, count: int = 40) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for n in range(count):
        writer.write(street(10 * n, seed=n))
    writer.release()
    return path


def test_law_frames_behind_a_damaged_one_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenCV stops at it as at the end of the file."""
    path = mpeg4(tmp_path / "drive.mp4")
    content = path.read_bytes()
    starts = [at for at in range(len(content)) if content.startswith(b"\0\0\1\xb6", at)]  # of the frames
    damaged = bytearray(content)
    damaged[starts[17] : starts[18]] = bytes(starts[18] - starts[17])
    path.write_bytes(damaged)
    plain = cv2.VideoCapture(str(path))
    assert sum(1 for _ in iter(plain.grab, False)) < 20
    command = ["convert-footage", "--video", str(path), "--out", str(tmp_path / "out"), "--fps", "all"]
    assert main(command) == 0
    images = read_dataset(tmp_path / "out" / "frames.json").images
    assert len(images) == 39 and images[-1].attributes["time_s"] == 3.9
    warned = capsys.readouterr().err
    assert "1 damaged frames cannot be decoded" in warned and "breaks off" not in warned
    assert main(command) == 0 and "1 damaged frames" in capsys.readouterr().err  # from the journal


def test_law_an_edit_list_is_not_a_damaged_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cut at the start without re-encoding: the container has 40 frames and shows 26."""
    path = mpeg4(tmp_path / "drive.mp4")
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    duration = int.from_bytes(content[at : at + 4], "big")
    timescale = content.index(b"mdhd") + 16
    ticks = 4 * int.from_bytes(content[timescale : timescale + 4], "big")
    content[at : at + 8] = (duration * 26 // 40).to_bytes(4, "big") + (ticks * 14 // 40).to_bytes(4, "big")
    path.write_bytes(content)
    assert [(track.frames, track.shown) for track in video_tracks(path)] == [(40, 26)]
    clip = video.extract_drive(path, tmp_path / "out", fps=None)
    assert abs(clip.seen - 26) <= 1 and not clip.cut_off and clip.lost == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(("seen", "ends_early"), [(40, False), (12, True)])
def test_a_duration_in_place_of_a_number_of_frames_is_no_false_alarm(seen: int, ends_early: bool) -> None:
    """Matroska has no number of frames: with a variable rate it is estimated much too high."""
    drive = video.ExtractedDrive("a", seen=seen, expected=4000, ends_early=ends_early)
    assert drive.cut_off == ends_early


def test_a_damaged_or_other_file_has_no_tracks(tmp_path: Path) -> None:
    content = mp4_with_two_tracks(tmp_path / "a.mp4", 1, 40).read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "b.mp4").write_bytes(content[:length])
        assert len(video_tracks(tmp_path / "b.mp4")) <= 2


def test_a_video_without_a_frame_that_can_be_decoded_names_its_codec(tmp_path: Path) -> None:
    path = mp4_with_two_tracks(tmp_path / "drive.mp4", 4, 1)
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(DataError, match=r"no frame can be decoded \(codec \w+, 4 frames") as caught:
        video.extract_drive(path, tmp_path / "out", fps=None)
    assert "ffmpeg -i drive.mp4" in str(caught.value) and not (tmp_path / "out").exists()
