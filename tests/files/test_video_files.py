"""A video that is written is read back: frames, size and rate; what cannot be read or written is one error."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from footage_trees import SHARED

from drivetl.errors import ConfigError, DataError
from drivetl.files import video
from drivetl.files.video import check_video, choose_codec, h264_encoder, read_frames, video_suffix, video_writer

HAS_H264 = h264_encoder() is not None
CODECS = ["vp8", pytest.param("h264", marks=pytest.mark.skipif(not HAS_H264, reason="no ffmpeg with H.264"))]


def scene(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3) smooth colours and a bright block that moves 4 px per frame."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([60 + columns, 40 + rows, np.full((height, width), 90)], axis=2).clip(0, 255).astype(np.uint8)
    image[20:36, 4 * number : 4 * number + 16] = (220, 60, 40)
    return image


def film(path: Path, frames: list[np.ndarray], rate_fps: float = 10, codec: str = "vp8") -> Path:
    height, width = frames[0].shape[:2]
    with video_writer(path, width, height, rate_fps, codec) as write:
        for frame in frames:
            write(frame)
    return path


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    h264_encoder.cache_clear()
    yield tmp_path
    h264_encoder.cache_clear()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate_fps", [10, 30000 / 1001])
def test_law_frames_size_and_rate_survive(tmp_path, codec, rate_fps):
    frames = [scene(number) for number in range(12)]
    path = film(tmp_path / f"drive{video_suffix(codec)}", frames, rate_fps, codec)
    info = check_video(path)
    assert (info.width, info.height) == (96, 64) and info.rate_fps == pytest.approx(rate_fps, rel=1e-3)
    read = list(read_frames(path))
    assert len(read) == 12
    for before, after in zip(frames, read, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 6  # lossy, but the same colours in the same places


@pytest.mark.skipif(not (SHARED / "clip").is_dir(), reason="the shared clip is not available")
def test_a_real_drive():
    (path,) = (SHARED / "clip").glob("*.mp4")
    info = check_video(path)
    assert (info.width, info.height, info.rate_fps, info.n_frames) == (1242, 374, 10, 40)
    assert sum(frame.shape == (374, 1242, 3) for frame in read_frames(path)) == 40


@pytest.mark.parametrize("codec", CODECS)
def test_an_odd_side_gets_one_line_more(tmp_path, codec, capfd):
    path = film(tmp_path / f"odd{video_suffix(codec)}", [scene(n, 75, 51) for n in range(3)], codec=codec)
    (first, *_) = read_frames(path)
    assert capfd.readouterr().err == ""  # neither OpenCV nor ffmpeg prints anything
    assert first.shape == (52, 76, 3) and np.abs(first[:51, :75].astype(int) - scene(0, 75, 51)).mean() < 8


@pytest.mark.skipif(not HAS_H264, reason="no ffmpeg with H.264")
def test_h264_is_what_browsers_play(tmp_path):
    content = film(tmp_path / "a.mp4", [scene(n) for n in range(3)], codec="h264").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat") and b"avc1" in content  # the index comes first
    high = content[content.index(b"avcC") + 5]
    assert high in (66, 77, 100)  # baseline, main, high: 4:2:0 with 8 bits


def test_one_frame_at_a_time_is_in_memory(tmp_path):
    path = film(tmp_path / "long.webm", [scene(n % 16, 320, 176) for n in range(80)])
    tracemalloc.start()
    assert sum(1 for _ in read_frames(path)) == 80
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 320 * 176 * 3


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "cannot be opened"), (b"no video at all", "cannot be opened")],
)
def test_what_is_not_a_video_is_an_error(tmp_path, content, message):
    path = tmp_path / "drive.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        check_video(path)
    assert caught.value.file == path


def test_a_damaged_end_ends_the_frames(tmp_path):
    path = film(tmp_path / "drive.webm", [scene(n) for n in range(20)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 0 < sum(1 for _ in read_frames(path)) < 20


def test_without_ffmpeg_auto_writes_vp8_and_h264_is_refused(no_ffmpeg):
    assert choose_codec("auto") == choose_codec("vp8") == "vp8"
    with pytest.raises(ConfigError, match="needs the program ffmpeg") as caught:
        choose_codec("h264")
    assert "vp8" in caught.value.remedy


def test_an_encoder_that_fails_is_one_error_and_leaves_no_file(no_ffmpeg, tmp_path):
    program = no_ffmpeg / "ffmpeg"
    program.write_text(
        '#!/bin/sh\nfor word; do case $word in -encoders) echo " V libx264 H.264"; exit 0;; esac; done\n'
        'for last; do :; done; echo half > "$last"\necho "x: No space left on device" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    assert choose_codec("auto") == "h264"
    path = tmp_path / "out" / "a.mp4"
    path.parent.mkdir()
    with pytest.raises(DataError, match="ffmpeg stopped: x: No space left on device"):
        film(path, [scene(0, 640, 480)] * 9, codec="h264")
    assert not any(path.parent.iterdir())


@pytest.mark.parametrize("codec", CODECS)
def test_an_error_in_the_block_leaves_no_file(tmp_path, codec):
    with (
        pytest.raises(KeyboardInterrupt),
        video_writer(tmp_path / f"a{video_suffix(codec)}", 96, 64, 10, codec) as write,
    ):
        write(scene(0))
        raise KeyboardInterrupt
    assert not any(tmp_path.iterdir())


def test_a_frame_of_another_size_is_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="in a video of"),
        video_writer(tmp_path / "a.webm", 96, 64, 10, "vp8") as write,
    ):
        write(scene(0, 64, 96))
    assert video.CODECS == ("auto", "h264", "vp8")
