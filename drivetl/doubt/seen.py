"""Whether a run was trained on the images of a dataset, itself or through the run that it started from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivetl.coco.hashes import file_hash
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.config import STARTS, FinetuneConfig, load_config, with_values
from drivetl.errors import DrivetlError
from drivetl.files.runs import run_root


@dataclass(frozen=True)
class Seen:
    """What a run and its ancestors were trained on, compared with a dataset."""

    images: int
    """Images of the dataset that one of them was trained on."""
    config: FinetuneConfig | None
    """The run's config with the `model.start` of the oldest run that was trained on them: nothing before it was. None
    where the run has no config."""
    unknown: tuple[str, ...]
    """Training data of the run or its ancestors that is not there any more, and whose hash is not the dataset's."""


def seen_by(run: Path, dataset: Dataset) -> Seen:
    """Compare a dataset with what the run, the run that it started from, and so on, were trained on.

    Images are the same when their files are; a training set that is not there any more is compared by the hash that the
    run has recorded. Raises ConfigError for an invalid config.
    """
    files = {_file(dataset, image.file_name) for image in dataset.images}
    images: set[Path] = set()
    unknown: list[str] = []
    own, start = None, ""
    for folder, config in _ancestors(run):
        own = own or config
        of_run: set[Path] = set()
        for key, name in (("train", config.data.train), ("source", config.data.source)):
            trained = _trained_on(folder, key, name, dataset, files)
            if trained is None:
                unknown.append(f"{name} (data.{key} of {folder})")
            else:
                of_run |= trained
        if of_run:
            images |= of_run
            start = config.model.start
    if own is not None and start:
        own = with_values(own, {"model.start": start})
    return Seen(len(images), own, tuple(unknown))


def _ancestors(run: Path) -> Iterator[tuple[Path, FinetuneConfig]]:
    """(run directory, its config) of a run and of those it descends from, as far as they have a config."""
    visited: set[Path] = set()
    folder = run_root(run.resolve())
    while (folder / "config.yaml").is_file() and folder not in visited:
        visited.add(folder)
        config = load_config(folder / "config.yaml")
        yield folder, config
        if config.model.start in STARTS:
            return
        start = Path(config.model.start).expanduser().resolve()
        folder = run_root(start.parent if start.is_file() else start)


def _trained_on(folder: Path, key: str, name: str, dataset: Dataset, files: set[Path]) -> set[Path] | None:
    """The image files of the dataset that a run's `data.train` or `data.source` has; None where that is unknown."""
    if not name:
        return set()
    if dataset.file is not None and _recorded(folder, key) == file_hash(dataset.file):
        return files
    path = Path(name)
    try:
        trained = read_dataset(path)
    except DrivetlError:
        return None
    return files & {_file(trained, image.file_name) for image in trained.images}


def _recorded(folder: Path, key: str) -> str | None:
    """The hash of a dataset json in a run's provenance.json."""
    try:
        document = json.loads((folder / "provenance.json").read_text("utf-8"))
        return str(document[f"{key}_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(dataset: Dataset, name: str) -> Path:
    return (dataset.images_root / name).resolve()
