"""The video tracks of an MP4 or MOV file, which OpenCV does not list: it reads the first one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 200_000_000
"""A larger `moov` box is not read."""


class VideoTrack(NamedTuple):
    """A video track."""

    codec: str
    """Four characters: avc1, hvc1, av01, jpeg, mp4v, ..."""
    frames: int
    width: int
    height: int
    shown: int
    """Frames that its edit list shows; players and OpenCV leave out the others."""


def video_tracks(path: Path) -> list[VideoTrack]:
    """The video tracks in the order of the file; [] for another kind of file or a damaged one.

    Source of the boxes: ISO/IEC 14496-12.
    """
    try:
        moov = list(_boxes(_moov(path)))
    except OSError:
        return []
    movie_rate = next((_timescale_duration(box)[0] for kind, box in moov if kind == b"mvhd"), 0)
    tracks = []
    for kind, trak in moov:
        if kind != b"trak":
            continue
        try:
            track = _video_track(trak, movie_rate)
        except (struct.error, KeyError):
            continue
        tracks += [track] if track is not None else []
    return tracks


def _moov(path: Path) -> bytes:
    """The content of the `moov` box; b"" without one."""
    with path.open("rb") as file:
        while len(head := file.read(16)) >= 8:
            size, kind = struct.unpack(">I4s", head[:8])
            header = 8
            if size == 1 and len(head) == 16:
                size, header = struct.unpack(">Q", head[8:])[0], 16
            if size < header:
                return b""
            file.seek(header - len(head), 1)
            if kind == b"moov":
                return file.read(min(size - header, MOST_BYTES))
            file.seek(size - header, 1)
    return b""


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each box."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        if size < 8:
            return
        yield kind, content[at + 8 : at + size]
        at += size


def _video_track(trak: bytes, movie_rate: int) -> VideoTrack | None:
    """The track of a `trak` box; None when it is not video. Raises KeyError or struct.error when it is damaged.

    movie_rate: ticks per second of the durations in an edit list.
    """
    outer = dict(_boxes(trak))
    media = dict(_boxes(outer[b"mdia"]))
    if media[b"hdlr"][8:12] != b"vide":
        return None
    table = dict(_boxes(dict(_boxes(media[b"minf"]))[b"stbl"]))
    width, height = struct.unpack(">II", outer[b"tkhd"][-8:])  # 16.16 fixed point
    frames = struct.unpack(">I", table[b"stsz"][8:12])[0]
    rate, duration = _timescale_duration(media[b"mdhd"])
    edited = _edited_ticks(dict(_boxes(outer.get(b"edts", b""))).get(b"elst", b""))
    shown = frames
    if edited and movie_rate and rate and duration:
        shown = min(frames, round(frames * (edited / movie_rate) / (duration / rate)))
    return VideoTrack(table[b"stsd"][12:16].decode("latin-1"), frames, width >> 16, height >> 16, shown)


def _timescale_duration(box: bytes) -> tuple[int, int]:
    """(ticks per second, duration in ticks) of an `mvhd` or `mdhd` box; (0, 0) when it is damaged."""
    long = box[:1] == b"\x01"
    try:
        rate, duration = struct.unpack(">IQ" if long else ">II", box[20:32] if long else box[12:20])
        return rate, duration
    except struct.error:
        return 0, 0


def _edited_ticks(elst: bytes) -> int:
    """Duration of the parts of the media that an edit list shows, in ticks of the movie; 0 without a list."""
    entry = struct.Struct(">QqI" if elst[:1] == b"\x01" else ">IiI")
    count = struct.unpack(">I", elst[4:8])[0] if len(elst) >= 8 else 0
    parts = [elst[at : at + entry.size] for at in range(8, min(8 + count * entry.size, len(elst)), entry.size)]
    entries = [entry.unpack(part) for part in parts if len(part) == entry.size]
    return sum(duration for duration, media_time, _ in entries if media_time >= 0)  # -1: nothing is shown
