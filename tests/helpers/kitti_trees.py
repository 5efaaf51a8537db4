"""Tiny but complete KITTI trees with known contents, and the label lines they are made of."""

import struct
import zlib
from pathlib import Path

CAR = "Car 0.00 0 -1.56 100.00 120.00 200.00 180.50 1.50 1.62 3.88 1.04 1.74 20.20 -1.55"
PEDESTRIAN = "Pedestrian 0.12 1 0.30 300.25 100.10 330.75 190.90 1.72 0.60 0.80 4.00 1.70 12.00 0.61"
CYCLIST_PAST_EDGE = "Cyclist 0.63 2 1.10 380.00 90.00 430.00 205.00 1.70 0.60 1.80 9.00 1.70 10.00 1.80"
MISC = "Misc 0.00 0 -2.01 20.00 110.00 60.00 150.00 1.90 1.10 2.60 -8.00 1.60 25.00 -2.30"
DONT_CARE = "DontCare -1 -1 -10 250.00 100.00 290.00 120.00 -1 -1 -1 -1000 -1000 -1000 -10"
WIDTH, HEIGHT = 400, 200


def png(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A valid black PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 3 * width) * height), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_tree(root: Path, frames: dict[str, list[str] | None]) -> Path:
    """root/training/image_2 and label_2; a frame with None has an image and no label file."""
    for name in ("image_2", "label_2"):
        (root / "training" / name).mkdir(parents=True, exist_ok=True)
    for frame, lines in frames.items():
        (root / "training" / "image_2" / f"{frame}.png").write_bytes(png())
        if lines is not None:
            text = "".join(f"{line}\n" for line in lines)
            (root / "training" / "label_2" / f"{frame}.txt").write_text(text)
    return root


def write_mapping(folder: Path, drives: list[tuple[str, int]]) -> Path:
    """The devkit's two files: frame i is drives[i]; the rows are in reverse order, to test the indirection."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(drives)
    rows = [f"2030_01_01 {drive} {frame:010d}" for drive, frame in reversed(drives)]
    (folder / "train_mapping.txt").write_text("\n".join(rows) + "\n")
    (folder / "train_rand.txt").write_text(",".join(str(count - number) for number in range(count)))
    return folder


def three_frames(root: Path) -> Path:
    """A normal frame, an EMPTY one (no label file), one with edge cases (past the image's edge, Misc, DontCare)."""
    return write_tree(
        root,
        {
            "000000": [CAR, PEDESTRIAN, DONT_CARE],
            "000001": None,
            "000002": [CYCLIST_PAST_EDGE, MISC, DONT_CARE, DONT_CARE],
        },
    )
