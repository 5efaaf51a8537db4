"""The drive of each KITTI object frame, from the devkit's train_mapping.txt and train_rand.txt.

train_rand.txt is one line of numbers; number i is the line, counted from 1, of train_mapping.txt that gives frame i as
`date drive frame`, such as `2011_09_26 2011_09_26_drive_0005_sync 0000000109`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from drivetl.convert.split import StandardSplit
from drivetl.errors import DataError
from drivetl.files.read import read_text
from drivetl.files.shipped import shipped

FILES = ("train_mapping.txt", "train_rand.txt")
_KITTI_RAND_SHA256 = "474b299a6408267a694a732e8fbb60d157ad0183e3c6eacf335507eee333423c"
"""Hash of the numbers of KITTI's own train_rand.txt, joined by commas; with it, frame ids are KITTI's."""


@dataclass(frozen=True, slots=True)
class DriveMapping:
    """frames[i] = (drive, raw frame number) of object frame i."""

    frames: tuple[tuple[str, int], ...]
    is_kitti: bool
    folder: Path

    def of(self, frame_id: str) -> tuple[str, int]:
        """(drive, raw frame number). Raises DataError for a frame that is not in the mapping."""
        number = int(frame_id) if frame_id.isdecimal() else -1
        if not 0 <= number < len(self.frames):
            raise DataError(
                f"frame {frame_id!r} is not among the {len(self.frames)} frames of the mapping",
                remedy="use the mapping of these images, or --mapping-dir none",
                file=self.folder / FILES[1],
            )
        return self.frames[number]


def find_mapping(root: Path, mapping_dir: Path | None) -> DriveMapping | None:
    """The mapping in `mapping_dir`, else next to the images (`mapping/`, `devkit/mapping/` or the root itself).

    None without a mapping. Raises DataError when `mapping_dir` lacks a file or a file is invalid.
    """
    if mapping_dir is not None and str(mapping_dir) == "none":
        return None
    if mapping_dir is not None:
        return read_mapping(mapping_dir)
    top = root.parent if root.name == "training" else root
    for folder in (top / "mapping", top / "devkit" / "mapping", root):
        if all((folder / name).is_file() for name in FILES):
            return read_mapping(folder)
    return None


def read_mapping(folder: Path) -> DriveMapping:
    """Read both files. Raises DataError with file and line."""
    for name in FILES:
        if not (folder / name).is_file():
            raise DataError(
                "no such file",
                remedy="--mapping-dir must contain train_mapping.txt and train_rand.txt of the devkit",
                file=folder / name,
            )
    rows = _read_rows(folder / FILES[0])
    order = _read_order(folder / FILES[1], len(rows))
    digest = hashlib.sha256(",".join(map(str, order)).encode()).hexdigest()
    return DriveMapping(tuple(rows[number - 1] for number in order), digest == _KITTI_RAND_SHA256, folder)


def _read_rows(path: Path) -> list[tuple[str, int]]:
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not fields[2].isdecimal():
            raise DataError(
                f"{line[:80]!r} is not `date drive frame`",
                remedy="use the original file of the devkit",
                file=path,
                line=number,
            )
        rows.append((fields[1], int(fields[2])))
    return rows


def _read_order(path: Path, rows: int) -> list[int]:
    order = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        for word in line.replace(",", " ").split():
            if not word.isdecimal() or not 1 <= int(word) <= rows:
                raise DataError(
                    f"{word[:40]!r} is not a line of train_mapping.txt, which has {rows} lines",
                    remedy="use the two original files of the devkit",
                    file=path,
                    line=number,
                )
            order.append(int(word))
    if len(set(order)) != len(order):
        raise DataError("a number is duplicated", remedy="use the original file of the devkit", file=path)
    return order


def standard_split(mapping: DriveMapping | None) -> StandardSplit:
    """The published 3,712 / 3,769 split; it does not apply when the mapping is not KITTI's own."""
    train, val = (
        frozenset(read_text(shipped(f"datasets/kitti/splits/{side}.txt")).split()) for side in ("train", "val")
    )
    name = "KITTI's published 3,712 / 3,769 split"
    if mapping is None:
        return StandardSplit(name, train, val, True, f"{name}, by frame id; no drive mapping to check the ids")
    reason = (
        name if mapping.is_kitti else f"{mapping.folder.name} is not KITTI's own mapping, so the ids are not KITTI's"
    )
    return StandardSplit(name, train, val, mapping.is_kitti, reason)
