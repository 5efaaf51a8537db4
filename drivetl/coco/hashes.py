"""Hashes of a dataset's json and of its image files, by which a change is found."""

from __future__ import annotations

import hashlib
from pathlib import Path

from drivetl.coco.records import Dataset

SAMPLED_IMAGES = 256
"""At most this many images are hashed by their content."""


def images_hash(dataset: Dataset) -> str:
    """sha256, in hex, of the name and size of every image file, and of the content of SAMPLED_IMAGES of them.

    The sample is spread evenly over the dataset, so that the time is bounded. Copying or touching a file changes
    nothing. A missing file has size -1; the loader reports it.
    """
    digest = hashlib.sha256()
    step = max(1, -(-len(dataset.images) // SAMPLED_IMAGES))
    for number, record in enumerate(dataset.images):
        path = dataset.images_root / record.file_name
        size = path.stat().st_size if path.is_file() else -1
        digest.update(f"{record.file_name}\0{size}\0".encode())
        if number % step == 0 and size >= 0:
            digest.update(file_hash(path).encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
