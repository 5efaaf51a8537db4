"""Checks that open the image files: there, whole, of the size the json says, upright, each picture once."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from drivetl import console
from drivetl.audit.findings import Finding, about_images, about_records, spread
from drivetl.audit.frames import in_order
from drivetl.audit.tables import Tables
from drivetl.convert.leaks import NEAR_BITS, fingerprint
from drivetl.errors import DataError
from drivetl.files.image_headers import HEAD_BYTES, size_of_head
from drivetl.files.images import MAX_PIXELS, read_rgb
from drivetl.files.paths import safe_relative

_TAIL = 4096
_EDGE = 16384
_THREADS = 16
_PAIRS = 200
"""Pairs of neighbouring frames decoded to see whether they show the same; 2 x 200 images take seconds."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the file of one image is like."""

    fault: str = ""
    """missing, unreadable, truncated, or nothing."""
    detail: str = ""
    size_wh: tuple[int, int] = (0, 0)
    """As training reads it: EXIF rotation applied."""
    orientation: int = 1
    """EXIF: 1 is upright."""
    n_bytes: int = 0


def check_files(tables: Tables) -> list[Finding]:
    """All checks of the files; one finding when the images root is not there at all."""
    if not tables.images_root.is_dir():
        return about_records(
            [f"{tables.images_root} is no folder"],
            1,
            "folders",
            "images-root-missing",
            "error",
            "The images root does not exist",
            "say where the images are with --images, or convert again",
        )
    rows = [row for row, name in enumerate(tables.file_names) if _is_safe(name)]
    paths = {row: tables.images_root / tables.file_names[row] for row in rows}
    with ThreadPoolExecutor(_THREADS) as pool:
        looked = console.track(pool.map(look_at, paths.values()), "opening images", len(rows))
        facts = dict(zip(rows, looked, strict=True))
    whole = [row for row in rows if not facts[row].fault]
    return (
        _faults(tables, facts)
        + _wrong_sizes(tables, {row: facts[row] for row in whole})
        + _repeated(tables, whole, facts)
        + _near_repeated(tables, whole)
    )


def look_at(path: Path) -> FileFacts:
    """Open one file, read its head and its tail; decode it only when the tail looks cut off."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return FileFacts("unreadable", "not a regular file")
            head = file.read(HEAD_BYTES)
            file.seek(max(0, status.st_size - _TAIL))
            tail = file.read(_TAIL)
    except OSError as error:
        return FileFacts("missing", str(error.strerror or error))
    size, orientation = size_of_head(head), 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if size is None:
                size, orientation = _ask_library(path)
            if size[0] * size[1] <= MAX_PIXELS and not _ends_well(head, tail):
                with Image.open(path) as image:
                    image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = "unreadable" if size is None else "truncated"
        return FileFacts(kind, str(error).replace(str(path), path.name) or type(error).__name__)
    if size[0] * size[1] > MAX_PIXELS:
        return FileFacts("unreadable", f"{size[0]} x {size[1]} is larger than 200 megapixels")
    return FileFacts("", "", size, orientation, status.st_size)


def _ask_library(path: Path) -> tuple[tuple[int, int], int]:
    with Image.open(path) as image:
        turnable = image.format in ("JPEG", "TIFF", "WEBP")
        orientation = int(image.getexif().get(0x0112, 1)) if turnable else 1
        width, height = image.size
    return ((height, width) if orientation >= 5 else (width, height)), orientation


def _ends_well(head: bytes, tail: bytes) -> bool:
    """Whether a PNG or JPEG has its end marker; other formats are believed."""
    if head.startswith(b"\x89PNG"):
        return b"IEND\xaeB`\x82" in tail
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    return True


def _faults(tables: Tables, facts: dict[int, FileFacts]) -> list[Finding]:
    def rows(fault: str) -> list[int]:
        return [row for row, fact in facts.items() if fact.fault == fault]

    def detail(row: int) -> str:
        return facts[row].detail

    findings = about_images(
        tables,
        rows("missing"),
        "image-missing",
        "error",
        "Image files that are not there",
        "restore them, or say where they are with --images",
        detail,
    )
    findings += about_images(
        tables,
        rows("unreadable"),
        "image-unreadable",
        "error",
        "Files that are no readable image",
        "replace them, or remove their records",
        detail,
    )
    findings += about_images(
        tables,
        rows("truncated"),
        "image-truncated",
        "error",
        "Image files that are cut off or damaged",
        "copy them again from the source, or remove their records",
        detail,
    )
    return findings + about_images(
        tables,
        [row for row, fact in facts.items() if fact.orientation != 1],
        "image-rotated",
        "warning",
        "Images that EXIF turns or mirrors",
        "drivetl reads them as EXIF says; look whether the boxes were drawn on the upright picture",
        lambda row: f"EXIF orientation {facts[row].orientation}",
    )


def _wrong_sizes(tables: Tables, facts: dict[int, FileFacts]) -> list[Finding]:
    def detail(row: int) -> str:
        width, height = tables.sizes_wh[row]
        true = facts[row].size_wh
        swapped = "; width and height are exchanged" if (height, width) == true and facts[row].orientation < 5 else ""
        turned = "; the json holds the size before EXIF turns it" if facts[row].orientation >= 5 else ""
        return f"json {width:.0f} x {height:.0f}, file {true[0]} x {true[1]}{swapped}{turned}"

    wrong = [
        row
        for row, fact in facts.items()
        if np.isfinite(tables.sizes_wh[row]).all() and tuple(tables.sizes_wh[row]) != fact.size_wh
    ]
    return about_images(
        tables,
        wrong,
        "size-mismatch",
        "error",
        "Images whose file has another size than the json says",
        "if the pictures were scaled, scale the boxes too; then write the true size",
        detail,
    )


def _repeated(tables: Tables, rows: Sequence[int], facts: dict[int, FileFacts]) -> list[Finding]:
    """Files of the same bytes. Only files of equal length are read, and whole only when both ends are equal."""
    names = {tables.file_names[row]: row for row in rows}  # a file listed twice is another finding
    equally_long = _groups(list(names.values()), lambda row: facts[row].n_bytes)
    equal_ends = [part for group in equally_long for part in _groups(group, partial(_hash_of_ends, tables))]
    groups = [part for group in equal_ends for part in _groups(group, partial(_hash_of_all, tables))]
    first = {row: group[0] for group in groups for row in group[1:]}

    def detail(row: int) -> str:
        twin = first[row]
        apart = " of another sequence" if tables.sequences[row] != tables.sequences[twin] else ""
        return f"the same bytes as {tables.file_names[twin]}{apart}"

    return about_images(
        tables,
        sorted(first),
        "image-repeated",
        "warning",
        "Files with the same content as another",
        "keep one of each: copies on both sides of a split make the score a lie",
        detail,
    )


def _groups(rows: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Rows of equal key, where there are several."""
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def _hash_of_ends(tables: Tables, row: int) -> bytes:
    with (tables.images_root / tables.file_names[row]).open("rb") as file:
        head = file.read(_EDGE)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _EDGE))
        return hashlib.blake2b(head + file.read(_EDGE)).digest()


def _hash_of_all(tables: Tables, row: int) -> bytes:
    with (tables.images_root / tables.file_names[row]).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def _near_repeated(tables: Tables, rows: Sequence[int]) -> list[Finding]:
    """Neighbouring frames that show the same: a sample of pairs, evenly spread over the dataset."""
    ordered = in_order(tables, rows)
    pairs = [
        (a, b)
        for a, b in pairwise(ordered)
        if tables.sequences[a] == tables.sequences[b] and tables.file_names[a] != tables.file_names[b]
    ]
    chosen = [pairs[place] for place in spread(range(len(pairs)), _PAIRS)]
    near: dict[int, tuple[int, int]] = {}
    for a, b in console.track(chosen, "comparing neighbours"):
        try:
            one, two = (fingerprint(read_rgb(tables.images_root / tables.file_names[row])) for row in (a, b))
        except DataError:
            continue
        differing = int((one != two).sum())
        if differing <= NEAR_BITS:
            near[b] = (a, differing)
    found = about_images(
        tables,
        sorted(near),
        "image-nearly-repeated",
        "note",
        "Frames that hardly differ from the one before"
        + (f" (a sample of the {len(pairs):,} pairs)" if len(chosen) < len(pairs) else ""),
        "a parked car or a fixed camera: fewer frames teach as much, and the split must keep sequences whole",
        lambda row: f"{near[row][1]} of 256 bits differ from {tables.file_names[near[row][0]]}",
    )
    return [replace(finding, total=len(chosen), unit="pairs") for finding in found]


def _is_safe(name: str) -> bool:
    try:
        return bool(safe_relative(name)) if name else False
    except DataError:
        return False
