"""Conversion shared among processes: the same bytes as one process writes, in less time.

The images are cut into chunks, which the workers take in turn. Image ids follow from the order; annotation ids do
not before all earlier chunks are counted, so a worker reads and builds a chunk, tells how many annotations it holds,
is told the number of its first, encodes it, and puts the lines aside in a file without a name.
Whatever goes wrong in a worker, the result is None, and one process that does it all again says what it is.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from drivetl import console
from drivetl.coco.records import Dataset, ImageRecord, SourceImage
from drivetl.coco.taxonomy import Taxonomy
from drivetl.coco.writing import Lines
from drivetl.convert.build import Account, build_dataset

CHUNK = 500
"""Images that a worker holds in memory at a time."""

WORTH_IT = 2000
"""Fewer images are converted before a second process has its first ones."""

_INT = 8  # bytes of a number between processes


@dataclass(frozen=True, slots=True)
class Frames:
    """Source images that can be read in parts: one for each key, in order, unless broken ones are skipped."""

    keys: Sequence[str]
    read: Callable[[Sequence[str], Account], Iterator[SourceImage]]
    account: Account
    """Where whoever simply iterates has it counted."""

    def __iter__(self) -> Iterator[SourceImage]:
        return self.read(self.keys, self.account)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class _Worker:
    """A child process as its parent sees it."""

    pid: int
    counts: int
    """File descriptor: here it says how many annotations its next chunk holds."""
    numbers: int
    """File descriptor: here it is told the number of that chunk's first one."""
    spool: BinaryIO
    """Here it leaves its chunks."""
    at: int = 0
    """Where in it the next chunk begins that nobody has taken."""
    running: bool = True


def useful_workers(n_images: int) -> int:
    """How many processes to share so many images among: 1 where it does not pay or forking is not safe."""
    if sys.platform != "linux" or n_images < WORTH_IT or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        return 1
    return min(len(os.sched_getaffinity(0)), n_images // CHUNK)


def convert_shared(
    frames: Iterable[SourceImage],
    taxonomy: Taxonomy,
    images_root: Path,
    source: str,
    account: Account,
    n_workers: int | None = None,
) -> tuple[Dataset, Lines] | None:
    """The outline of the dataset and its encoded records. `n_workers`: by default as many as help.

    None, and nothing counted or used up, where one process is to do it: for images that cannot be read in parts,
    for few, and when a worker failed.
    """
    if not isinstance(frames, Frames):
        return None
    n_workers = useful_workers(len(frames)) if n_workers is None else n_workers
    if n_workers < 2:
        return None
    chunks = [slice(first, first + CHUNK) for first in range(0, len(frames), CHUNK)]

    def build(chunk: slice, account: Account) -> Dataset:
        images, first_id = frames.read(frames.keys[chunk], account), chunk.start + 1
        return build_dataset(images, taxonomy, images_root, source=source, account=account, first_id=first_id)

    workers: list[_Worker] = []
    try:
        for number in range(n_workers):
            worker = _start(chunks[number::n_workers], build, Lines(len(taxonomy.categories)))
            workers.append(worker)
        outline, lines = build(slice(0, 0), account), Lines(len(taxonomy.categories))
        counted = list(_gather(workers, len(chunks), outline.images, lines))
    except (OSError, EOFError):
        return None
    finally:
        for worker in workers:
            _stop(worker)
    if len({image.file_name for image in outline.images}) < len(outline.images):
        return None
    for part in counted:
        account.add(part)
    return outline, lines


def _start(chunks: list[slice], build: Callable[[slice, Account], Dataset], lines: Lines) -> _Worker:
    """Fork a worker for these chunks."""
    counts, tell_count = os.pipe()
    hear_number, numbers = os.pipe()
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - `_stop` closes it
    pid = os.fork()
    if pid:
        os.close(tell_count)
        os.close(hear_number)
        return _Worker(pid, counts, numbers, spool)
    status = 1
    try:
        for chunk in chunks:
            account = Account()
            images = build(chunk, account).images
            os.write(tell_count, sum(map(lines.count, images)).to_bytes(_INT, "big"))
            lines.number, lines.of = _receive(hear_number), {}
            for image in images:
                lines.take(image)
            _put(spool, images, lines, account)
        status = 0
    finally:
        os._exit(status)  # the child never comes back, and an error is for the parent to find


def _gather(workers: list[_Worker], n_chunks: int, images: list[ImageRecord], lines: Lines) -> Iterator[dict[str, Any]]:
    """Number the annotations, chunk by chunk in order, add images and lines, and yield the chunks' accounts.

    Raises EOFError when a worker failed.
    """
    number = 1
    for turn in console.track(range(n_chunks), f"converting, {CHUNK} images each"):
        worker = workers[turn % len(workers)]
        count = _receive(worker.counts)
        os.write(worker.numbers, number.to_bytes(_INT, "big"))
        number += count
        if turn >= len(workers):  # whoever counts its next chunk has left the one before
            yield _take(worker, images, lines)
    for turn in range(max(0, n_chunks - len(workers)), n_chunks):
        worker = workers[turn % len(workers)]
        _, status = os.waitpid(worker.pid, 0)
        worker.running = False
        if status:
            raise EOFError
        yield _take(worker, images, lines)


def _receive(pipe: int) -> int:
    """A number from the other side. Raises EOFError when it is gone."""
    data = os.read(pipe, _INT)
    if len(data) < _INT:
        raise EOFError
    return int.from_bytes(data, "big")


def _put(spool: BinaryIO, images: list[ImageRecord], lines: Lines, account: Account) -> None:
    """Leave a chunk: the outline of its images with the lengths of their lines, the account, then the lines."""
    outlines = [
        (
            (item.id, item.file_name, item.width, item.height, item.sequence, item.frame_index, item.attributes),
            [annotation.category_id for annotation in item.annotations],
            len(item.ignore_regions),
            [len(line) for line in lines.of[item.id]],
        )
        for item in images
    ]
    head = orjson.dumps([outlines, account.as_dict()])
    body = b"".join(line for item in images for line in lines.of[item.id])
    spool.write(b"".join(len(part).to_bytes(_INT, "big") for part in (head, body)) + head + body)
    spool.flush()


def _take(worker: _Worker, images: list[ImageRecord], lines: Lines) -> dict[str, Any]:
    """Add the next chunk of a worker to the images and their lines; returns its account.

    The worker may be writing the next one: its file has one position for both, which is left alone.
    """
    sizes = os.pread(worker.spool.fileno(), 2 * _INT, worker.at)
    head_size, body_size = int.from_bytes(sizes[:_INT], "big"), int.from_bytes(sizes[_INT:], "big")
    head = os.pread(worker.spool.fileno(), head_size, worker.at + len(sizes))
    body = os.pread(worker.spool.fileno(), body_size, worker.at + len(sizes) + head_size)
    worker.at += len(sizes) + head_size + body_size
    outlines, account = orjson.loads(head)
    at = 0
    for fields, category_ids, n_regions, (image_size, annotations_size) in outlines:
        image = ImageRecord(*fields)
        lines.outline(image, category_ids, n_regions)
        middle, end = at + image_size, at + image_size + annotations_size
        lines.of[image.id], at = (body[at:middle], body[middle:end]), end
        images.append(image)
    return dict(account)


def _stop(worker: _Worker) -> None:
    """Give back what a worker holds; one that is not wanted any more is ended."""
    if worker.running:
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
    os.close(worker.counts)
    os.close(worker.numbers)
    worker.spool.close()
