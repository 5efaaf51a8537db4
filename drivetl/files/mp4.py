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


def video_tracks(path: Path) -> list[VideoTrack]:
    """The video tracks in the order of the file; [] for another kind of file or a damaged one.

    Source of the boxes: ISO/IEC 14496-12.
    """
    try:
        moov = _moov(path)
    except OSError:
        return []
    tracks = []
    for kind, trak in _boxes(moov):
        if kind != b"trak":
            continue
        try:
            track = _video_track(trak)
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


def _video_track(trak: bytes) -> VideoTrack | None:
    """The track of a `trak` box; None when it is not video. Raises KeyError or struct.error when it is damaged."""
    outer = dict(_boxes(trak))
    media = dict(_boxes(outer[b"mdia"]))
    if media[b"hdlr"][8:12] != b"vide":
        return None
    table = dict(_boxes(dict(_boxes(media[b"minf"]))[b"stbl"]))
    width, height = struct.unpack(">II", outer[b"tkhd"][-8:])  # 16.16 fixed point
    frames = struct.unpack(">I", table[b"stsz"][8:12])[0]
    return VideoTrack(table[b"stsd"][12:16].decode("latin-1"), frames, width >> 16, height >> 16)
