"""Checks that open the image files: missing or damaged files, wrong sizes, EXIF rotation, depth, duplicates."""

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
from drivetl.files.images import MAX_PIXELS, depth_of, is_deep, read_rgb
from drivetl.files.paths import is_safe

_TAIL = 4096
_HASHED_ENDS = 16384
_THREADS = 16
_DEPTHS = 200
"""Images of more than 8 bits that are decoded."""
_PAIRS = 200
"""Pairs of consecutive frames decoded and compared; 2 x 200 images take seconds."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Properties of one image file."""

    fault: str = ""
    """missing, unreadable, truncated, or empty if the file is fine."""
    detail: str = ""
    size_wh: tuple[int, int] = (0, 0)
    """(width, height) px as training reads the image: EXIF rotation applied."""
    orientation: int = 1
    """EXIF orientation; 1 is upright."""
    n_bytes: int = 0
    is_deep: bool = False
    """Whether it may have more than 8 bits per channel."""


def check_files(tables: Tables) -> list[Finding]:
    """All checks of the image files; a single finding if the images root does not exist."""
    if not tables.images_root.is_dir():
        return about_records(
            [f"{tables.images_root} is not a folder"],
            1,
            "folders",
            "images-root-missing",
            "error",
            "The images root does not exist",
            "pass the images folder with --images, or convert again",
        )
    rows = [row for row, name in enumerate(tables.file_names) if is_safe(name)]
    paths = {row: tables.images_root / tables.file_names[row] for row in rows}
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = console.track(pool.map(inspect_file, paths.values()), "opening images", len(rows))
        facts = dict(zip(rows, inspected, strict=True))
    intact = [row for row in rows if not facts[row].fault]
    return (
        _faults(tables, facts)
        + _wrong_sizes(tables, {row: facts[row] for row in intact})
        + _depths(tables, [row for row in intact if facts[row].is_deep])
        + _repeated(tables, intact, facts)
        + _near_repeated(tables, intact)
    )


def inspect_file(path: Path) -> FileFacts:
    """Read the head and tail of one file; decode the image only if the end marker is missing."""
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
                size, orientation = _size_and_orientation(path)
            if size[0] * size[1] <= MAX_PIXELS and not _has_end_marker(head, tail):
                with Image.open(path) as image:
                    image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = "unreadable" if size is None else "truncated"
        return FileFacts(kind, str(error).replace(str(path), path.name) or type(error).__name__)
    if size[0] * size[1] > MAX_PIXELS:
        return FileFacts("unreadable", f"{size[0]} x {size[1]} is larger than 200 megapixels")
    return FileFacts("", "", size, orientation, status.st_size, is_deep(head))


def _size_and_orientation(path: Path) -> tuple[tuple[int, int], int]:
    """((width, height) px after EXIF rotation, EXIF orientation) as Pillow reads them."""
    with Image.open(path) as image:
        may_be_rotated = image.format in ("JPEG", "TIFF", "WEBP")
        orientation = int(image.getexif().get(0x0112, 1)) if may_be_rotated else 1
        width, height = image.size
    return ((height, width) if orientation >= 5 else (width, height)), orientation


def _has_end_marker(head: bytes, tail: bytes) -> bool:
    """Whether a PNG or JPEG has its end marker; True for other formats."""
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
        "Missing image files",
        "restore them, or pass the images folder with --images",
        detail,
    )
    findings += about_images(
        tables,
        rows("unreadable"),
        "image-unreadable",
        "error",
        "Files that cannot be read as images",
        "replace them, or remove their records",
        detail,
    )
    findings += about_images(
        tables,
        rows("truncated"),
        "image-truncated",
        "error",
        "Truncated or damaged image files",
        "copy them again from the source, or remove their records",
        detail,
    )
    return findings + about_images(
        tables,
        [row for row, fact in facts.items() if fact.orientation != 1],
        "image-rotated",
        "warning",
        "Images that EXIF rotates or mirrors",
        "drivetl applies the EXIF orientation; check that the boxes were drawn on the upright image",
        lambda row: f"EXIF orientation {facts[row].orientation}",
    )


def _wrong_sizes(tables: Tables, facts: dict[int, FileFacts]) -> list[Finding]:
    def detail(row: int) -> str:
        width, height = tables.sizes_wh[row]
        actual, rotated = facts[row].size_wh, facts[row].orientation >= 5
        reason = "; width and height are swapped" if (height, width) == actual else ""
        reason = "; the JSON has the size before EXIF rotation" if rotated else reason
        return f"JSON {width:.0f} x {height:.0f}, file {actual[0]} x {actual[1]}{reason}"

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
        "Images with a different size in the JSON and in the file",
        "if the images were rescaled, rescale the boxes too; then correct width and height in the JSON",
        detail,
    )


def _depths(tables: Tables, deep: Sequence[int]) -> list[Finding]:
    """Images of more than 8 bits per channel and the range that they use, in a sample spread evenly over them."""
    paths = {row: tables.images_root / tables.file_names[row] for row in spread(deep, _DEPTHS)}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = zip(paths, pool.map(lambda path: depth_of(path.read_bytes()), paths.values()), strict=True)
        depths = {row: depth for row, depth in found if depth is not None}
    sample = f" (a sample of {len(paths)} of {len(deep):,})" if len(paths) < len(deep) else ""
    dark = [row for row, depth in depths.items() if depth.is_dark]
    findings = about_images(
        tables,
        dark,
        "image-depth",
        "error",
        f"Images of more than 8 bits that use a small part of their range{sample}",
        "training, evaluation and predict refuse them, because they would be read as almost black: scale their values "
        "to 8 bits, with one range for all images",
        lambda row: str(depths[row]),
    )
    read = [row for row in depths if row not in dark]
    all_dim = bool(read) and all(depths[row].is_dim for row in read)
    return findings + about_images(
        tables,
        read,
        "image-16-bit",
        "warning" if all_dim else "note",
        f"Images of 16 bits, of which the upper eight are read{sample}",
        "if they look dark, scale their values to 8 bits, with one range for all images",
        lambda row: f"{depths[row]} of 65535, and {depths[row].usual:g} for 99.9 % of the pixels",
    )


def _repeated(tables: Tables, rows: Sequence[int], facts: dict[int, FileFacts]) -> list[Finding]:
    """Files with identical bytes. Only files of equal length are read, and in full only if both ends are equal."""
    names = {tables.file_names[row]: row for row in rows}  # a file that is listed twice has its own finding
    same_length = _groups(list(names.values()), lambda row: facts[row].n_bytes)
    same_ends = [part for group in same_length for part in _groups(group, partial(_hash_of_ends, tables))]
    groups = [part for group in same_ends for part in _groups(group, partial(_hash_of_all, tables))]
    first = {row: group[0] for group in groups for row in group[1:]}

    def detail(row: int) -> str:
        original = first[row]
        known = {tables.drives[row], tables.drives[original]} - {""}
        drive = " from another drive" if len(known) == 2 else ""
        return f"identical to {tables.file_names[original]}{drive}"

    return about_images(
        tables,
        sorted(first),
        "image-repeated",
        "warning",
        "Duplicate image files",
        "keep one of each: copies in both train and val inflate the validation scores",
        detail,
    )


def _groups(rows: Sequence[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Groups of two or more rows with the same key."""
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def _hash_of_ends(tables: Tables, row: int) -> bytes:
    with (tables.images_root / tables.file_names[row]).open("rb") as file:
        head = file.read(_HASHED_ENDS)
        file.seek(max(0, file.seek(0, os.SEEK_END) - _HASHED_ENDS))
        return hashlib.blake2b(head + file.read(_HASHED_ENDS)).digest()


def _hash_of_all(tables: Tables, row: int) -> bytes:
    with (tables.images_root / tables.file_names[row]).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def _near_repeated(tables: Tables, rows: Sequence[int]) -> list[Finding]:
    """Consecutive frames that are nearly identical, in a sample of pairs spread evenly over the dataset."""
    ordered = in_order(tables, rows)
    pairs = [
        (a, b)
        for a, b in pairwise(ordered)
        if tables.drives[a] == tables.drives[b] and tables.file_names[a] != tables.file_names[b]
    ]
    sample = [pairs[index] for index in spread(range(len(pairs)), _PAIRS)]
    near: dict[int, tuple[int, int]] = {}
    for a, b in console.track(sample, "comparing consecutive frames"):
        try:
            before, after = (fingerprint(read_rgb(tables.images_root / tables.file_names[row])) for row in (a, b))
        except DataError:
            continue
        differing = int((before != after).sum())
        if differing <= NEAR_BITS:
            near[b] = (a, differing)
    findings = about_images(
        tables,
        sorted(near),
        "image-nearly-repeated",
        "note",
        "Frames that are nearly identical to the previous frame"
        + (f" (a sample of the {len(pairs):,} pairs)" if len(sample) < len(pairs) else ""),
        "typical of a standing car or fixed camera: use fewer frames, and keep each drive in either train or val",
        lambda row: f"{near[row][1]} of 256 bits differ from {tables.file_names[near[row][0]]}",
    )
    return [replace(finding, total=len(sample), unit="pairs") for finding in findings]
