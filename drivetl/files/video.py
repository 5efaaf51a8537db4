"""Reading videos frame by frame with OpenCV, and writing videos that browsers play.

OpenCV's own build has no H.264 encoder that may be shipped under a permissive licence, and PyAV's wheels link the GPL
libraries libx264 and libx265. So H.264 is written by the user's `ffmpeg` program, in a process of its own; without it,
OpenCV writes VP8.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from drivetl import console
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.images import MAX_PIXELS, Rgb
from drivetl.files.mp4 import video_tracks

if TYPE_CHECKING:  # OpenCV and numpy are not imported by commands that only need the suffixes
    import cv2

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts")
UNKNOWN_RATE_FPS = 25.0
"""Written where a container has no usable frame rate."""

CODECS = ("auto", "h264", "vp8")
_X264 = ("-preset", "veryfast", "-crf", "20")
_H264_ENCODERS = {"libx264": _X264, "libopenh264": ("-b:v", "8M"), "h264_videotoolbox": ("-b:v", "8M")}
"""ffmpeg's encoders in the order of preference, and the options of each."""
_BT709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


MOST_FAILED = 1000
"""A video ends when this many frames in a row cannot be grabbed; at the end of a file it takes a millisecond."""
SEVERAL = 5
"""A header with this many frames is not that of a single image."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video before it is read."""

    width: int
    height: int
    """px of the first frame, with the rotation of the container applied."""
    rate_fps: float
    """Frames per second; UNKNOWN_RATE_FPS where the container has no usable rate."""
    n_frames: int
    """By the container's header, often off by one or two; 0 when it has none."""


def check_video(video: Path) -> VideoInfo:
    """Open a video and decode its first frame.

    Raises DataError for a file that is missing or not a video, a video without a frame that can be decoded (it names
    the codec), one whose longest stream is not the first, and frames of more than MAX_PIXELS.
    """
    import cv2

    if not video.is_file():
        raise DataError("no such file", remedy="check the path of the video", file=video)
    refuse_other_track(video)
    refuse_unknown_codec(video)
    with opened(video) as capture:
        decoded, image = next((capture.retrieve() for _ in grabs(capture)), (False, None))
        if not decoded or image is None:
            raise DataError("its first frame cannot be decoded", remedy="re-encode or replace the video", file=video)
        height, width = image.shape[:2]
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height} is larger than 200 megapixels", remedy="resize the video", file=video)
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        usable = 0 < rate <= 1000
        n_frames = n_expected(video, capture)
    return VideoInfo(width, height, rate if usable else UNKNOWN_RATE_FPS, n_frames)


def read_frames(video: Path) -> Iterator[Rgb]:
    """The frames in order, each (H, W, 3) uint8 RGB; one frame is in memory at a time.

    Frames that cannot be decoded are left out. Raises DataError when it cannot be opened or its
    frames change their size.
    """
    return (image for _, image in read_some_frames(video, lambda _: True))


def read_some_frames(video: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Rgb]]:
    """(number, (H, W, 3) uint8 RGB) of each frame whose number is wanted, in order, counted from 0; only those are
    decoded to pixels. Otherwise as `read_frames`."""
    import cv2
    import numpy as np

    shape: tuple[int, ...] | None = None
    with opened(video) as capture:
        for number, _ in enumerate(grabs(capture)):
            if not wanted(number):
                continue
            decoded, image = capture.retrieve()
            if not decoded:
                continue
            shape = shape or image.shape
            if image.shape != shape:
                sizes = f"from {shape[1]} x {shape[0]} to {image.shape[1]} x {image.shape[0]}"
                raise DataError(f"its frames change their size {sizes}", remedy="re-encode it", file=video)
            yield number, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def count_frames(video: Path) -> int:
    """The number of frames that can be read, by reading through the file without decoding it to pixels."""
    with opened(video) as capture:
        return sum(1 for _ in grabs(capture))


@contextmanager
def opened(video: Path) -> Iterator[cv2.VideoCapture]:
    """OpenCV's reader of a video. Raises DataError when it cannot be opened."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # a damaged video would fill stderr, past our own messages
    import cv2

    capture = cv2.VideoCapture(str(video))
    try:
        if not capture.isOpened():
            raise DataError(
                "cannot be opened as a video", remedy="the file may be truncated or not a video", file=video
            )
        yield capture
    finally:
        capture.release()


def grabs(capture: cv2.VideoCapture) -> Iterator[int]:
    """Grab frame after frame; yields the number of failures before each.

    OpenCV ends at a damaged packet as it does at the end of the file, but gives the frames behind it when it is called
    again: as many as the ffmpeg program decodes.
    """
    failed = 0
    while failed < MOST_FAILED:
        if capture.grab():
            yield failed
            failed = 0
        else:
            failed += 1


def n_expected(video: Path, capture: cv2.VideoCapture) -> int:
    """Number of frames by the container's header, without those that an edit list cuts off; 0 when it has none."""
    import cv2

    count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    tracks = video_tracks(video)
    return min(count, tracks[0].shown) if tracks and tracks[0].shown else count


def refuse_other_track(video: Path) -> None:
    """Raises DataError when the first video track, which OpenCV reads, is not the longest: it is a thumbnail.

    Warns of other tracks, such as a second camera, that are not read.
    """
    tracks = video_tracks(video)
    longest = max(tracks, key=lambda track: track.frames, default=None)
    if longest is None or longest.frames <= tracks[0].frames:
        others = sum(track.frames > 1 for track in tracks[1:])
        if others:
            console.warn(f"{video.name}: {others} more video streams are not read; extract each: ffmpeg -map 0:v:1 ...")
        return
    listed = ", ".join(f"{track.frames} frames of {track.width} x {track.height}" for track in tracks)
    raise DataError(
        f"has {len(tracks)} video streams ({listed}), and only the first can be read",
        remedy=f"extract the longest one: ffmpeg -i {video.name} -map 0:v:{tracks.index(longest)} -c copy OUT.mp4",
        file=video,
    )


def refuse_unknown_codec(video: Path) -> None:
    """Raises DataError that names the codec when no frame of the video can be decoded, or one of many.

    In containers whose streams are not listed, such as Matroska, one frame of many is that of a thumbnail stream.
    """
    import cv2

    with opened(video) as capture:
        decodable = len(list(islice(grabs(capture), 2)))
        expected, number = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), int(capture.get(cv2.CAP_PROP_FOURCC))
    if decodable == 1 and expected >= SEVERAL:
        raise DataError(
            f"only one of {expected} frames can be read: the first stream is a thumbnail, or the file is damaged",
            remedy=f"extract another stream: ffmpeg -i {video.name} -map 0:v:1 -c copy OUT{video.suffix}",
            file=video,
        )
    if decodable:
        return
    code = (number & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")
    codec = "".join(letter for letter in code if letter.isalnum()) or "unknown"
    raise DataError(
        f"no frame can be decoded (codec {codec}, {max(0, expected)} frames by its header)",
        remedy=f"re-encode it as H.264: ffmpeg -i {video.name} -c:v libx264 -crf 16 OUT.mp4; or replace it",
        file=video,
    )


def check_codec(codec: str) -> None:
    """Raises ConfigError for a name that is not one of CODECS."""
    if codec not in CODECS:
        raise ConfigError(f"--codec: {codec!r} is unknown", remedy=nearest(codec, CODECS))


def choose_codec(codec: str = "auto") -> str:
    """`h264` or `vp8` for one of CODECS: auto is H.264 where an `ffmpeg` program with an encoder for it is installed.

    Raises ConfigError when H.264 is requested and no program can write it.
    """
    if codec == "vp8" or (codec == "auto" and h264_encoder() is None):
        return "vp8"
    if h264_encoder() is None:
        raise ConfigError(
            "--codec h264 needs the program ffmpeg with one of the encoders " + ", ".join(_H264_ENCODERS),
            remedy="install it (apt install ffmpeg, brew install ffmpeg, conda install ffmpeg), or choose vp8",
        )
    return "h264"


@cache
def h264_encoder() -> str | None:
    """The H.264 encoder of the `ffmpeg` on the PATH, or None without one."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    try:
        listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = set(listed.stdout.split())
    return next((name for name in _H264_ENCODERS if name in words), None)


def video_suffix(codec: str) -> str:
    """The suffix of a file of a codec of `choose_codec`."""
    return ".mp4" if codec == "h264" else ".webm"


Write = Callable[[Rgb], object]
"""Appends a frame, (H, W, 3) uint8 RGB of the size given; it may block until the encoder takes it."""


@contextmanager
def video_writer(path: Path, width: int, height: int, rate_fps: float, codec: str) -> Iterator[Write]:
    """Write a video frame by frame, in 4:2:0 as browsers need it; the file is complete after the block.

    H.264 has its index in front (faststart), so that it plays while it loads. A side of odd length gets one more line
    of pixels, a copy of the last. After an error the file is removed. Raises DataError when the encoder fails.
    """
    wide, high = width + width % 2, height + height % 2
    writer = _ffmpeg(path, wide, high, rate_fps) if codec == "h264" else _opencv(path, wide, high, rate_fps)
    try:
        with writer as write:
            yield lambda image: write(_padded(image, width, height))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _padded(image: Rgb, width: int, height: int) -> Rgb:
    import numpy as np

    if image.shape != (height, width, 3):
        raise ValueError(f"a frame of shape {image.shape} in a video of {width} x {height}")
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else image


@contextmanager
def _opencv(path: Path, width: int, height: int, rate_fps: float) -> Iterator[Write]:
    import cv2

    with _no_messages():
        writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), rate_fps, (width, height), True
        )
    try:
        if not writer.isOpened():
            raise DataError("no encoder for VP8 in this build of OpenCV", remedy="install ffmpeg", file=path.name)
        yield lambda image: writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    if not path.is_file() or not path.stat().st_size:  # OpenCV does not say when it cannot write
        raise DataError("cannot be written", remedy="choose a writable folder with free space", file=path.name)


@contextmanager
def _no_messages() -> Iterator[None]:
    """Nothing that C code prints reaches stderr: opening a WebM, OpenCV says that it chooses the codec's tag itself."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _ffmpeg(path: Path, width: int, height: int, rate_fps: float) -> Iterator[Write]:
    encoder = h264_encoder()
    program = shutil.which("ffmpeg")
    if encoder is None or program is None:
        raise DataError("no encoder for H.264", remedy="install ffmpeg, or choose vp8", file=path.name)
    rate = Fraction(rate_fps).limit_denominator(1001)
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0")
    pixels = ("-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", *_BT709)
    target = ("-c:v", encoder, *_H264_ENCODERS[encoder], *pixels, "-movflags", "+faststart", "-f", "mp4", str(path))
    with tempfile.TemporaryFile() as log:
        # a session of its own: Ctrl-C reaches this process only, which then ends the encoder
        process = subprocess.Popen(
            [program, "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *source, *target],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        assert process.stdin is not None
        stdin = process.stdin
        try:
            with _failure_named(process, path, log):
                yield lambda image: stdin.write(image.tobytes())
                stdin.close()
        finally:
            with suppress(OSError):
                stdin.close()
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@contextmanager
def _failure_named(process: subprocess.Popen[bytes], path: Path, log: BinaryIO) -> Iterator[None]:
    """Raises DataError with the last line of the encoder's messages when it ended early or with an error."""
    try:
        yield
        failed = process.wait() != 0
    except BrokenPipeError:
        failed = True
    if failed:
        process.wait()
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {process.returncode}"
        raise DataError(f"ffmpeg stopped: {last}", remedy="free space on the disk, or use vp8", file=path.name)
