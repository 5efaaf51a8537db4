"""Training images that could not be read and were skipped: skipped_images.jsonl, a line per image and epoch.

Lines are appended, by every process of a group; a resumed run may repeat some, which are counted once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from drivetl import console
from drivetl.data.sampling import Streams
from drivetl.data.sharing import Batch
from drivetl.errors import DataError
from drivetl.files.read import read_text
from drivetl.training.loop import STREAMS

FILE = "skipped_images.jsonl"
"""In the run directory."""
MOST_LISTED = 5


def watched(
    batches: Iterable[Batch], data: Streams, epoch: int, path: Path, reasons: dict[str, str]
) -> Iterator[Batch]:
    """The batches; what was skipped in them is appended to the file.

    reasons: image -> why, of those that were skipped already: each is printed once, and added here.
    """
    for batch in batches:
        for target in batch[1]:
            if "skipped" in target:
                stream, index = int(target.get("stream", 0)), int(target["skipped"])
                part = next(part for part in data.parts if part.stream == stream)
                image = part.images[index].file_name + STREAMS[stream]
                if image not in reasons:
                    reasons[image] = part.reason_to_skip(index)
                    console.warn(f"{reasons[image]}; skipped, the next image takes its place")
                _append(path, {"epoch": epoch + 1, "image": image, "reason": reasons[image]})
        yield batch


def _append(path: Path, row: dict[str, object]) -> None:
    """Add a line; one that a kill cut off stays a line of its own."""
    with path.open("a+b") as file:
        cut_off = file.tell() > 0 and path.read_bytes()[-1:] != b"\n"
        # one write of one line: those of several processes do not mix
        file.write(b"\n" * cut_off + json.dumps(row).encode() + b"\n")


def in_words(path: Path) -> list[str]:
    """A sentence on what was skipped, if anything was."""
    if not path.is_file():
        return []
    times = Counter(image for image, _ in set(_rows(path)))
    listed = [f"{image} ({count} times)" if count > 1 else image for image, count in sorted(times.items())]
    more = [f"{len(listed) - MOST_LISTED} more"] if len(listed) > MOST_LISTED else []
    images = f"{len(times)} training images" if len(times) > 1 else "one training image"
    return [f"skipped {images} that cannot be read: {', '.join(listed[:MOST_LISTED] + more)}; see {FILE}"]


def _rows(path: Path) -> Iterator[tuple[str, int]]:
    """(image, epoch) of each line of the file; one that a kill cut off is left out."""
    try:
        lines = read_text(path).splitlines()
    except DataError:
        return
    for line in lines:
        try:
            row = json.loads(line)
            yield str(row["image"]), int(row["epoch"])
        except (ValueError, KeyError, TypeError):
            continue
