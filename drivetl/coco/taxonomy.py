"""Taxonomies: the source labels of each driving class, and which labels are ignored or dropped.

    name: kitti
    classes:                      # their order gives the category ids 1..K
      car:     {labels: [Car], from: {car: 1.0}}
      cyclist: {labels: [Cyclist], from: {person: 0.5, bicycle: 0.5}}
    ignore: {DontCare: all, cargroup: [car]}      # or a plain list, which means all classes
    drop: [Misc]
    min_height_px: 25             # optional: lower objects become ignore regions, as KITTI's moderate level does

`from` gives the pretrained classes whose weights initialise a class; head surgery reads it.
A source label in none of the lists is an error, so that no label is lost by a spelling mistake.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.coco.records import Dataset
from drivetl.errors import DataError, nearest
from drivetl.files.yaml_reader import Document, KeyPath, read_yaml

KEYS = ("name", "description", "classes", "ignore", "drop", "min_height_px")
"""The keys of a taxonomy file."""


@dataclass(frozen=True, slots=True)
class DrivingClass:
    """One class of the target: its name, its source labels, and its pretrained classes (`from`)."""

    name: str
    labels: tuple[str, ...]
    grows_from: tuple[tuple[str, float], ...] = ()
    """((source class, weight), ...) with weights that sum to 1; empty: the pretrained class of the same name."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The mapping of one source's labels to driving classes."""

    name: str
    classes: tuple[DrivingClass, ...]
    ignore: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """((source label, class names it hides; empty means all), ...)."""
    drop: tuple[str, ...] = ()
    min_height_px: float = 0.0
    """Objects lower than this in the image become ignore regions. 0: no limit."""

    @property
    def categories(self) -> tuple[str, ...]:
        """Class names in id order: categories[0] has id 1."""
        return tuple(item.name for item in self.classes)

    @property
    def digest(self) -> str:
        """A hash of everything that changes the meaning of a converted dataset."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The taxonomy in the form of its YAML file."""
        limit = {"min_height_px": self.min_height_px} if self.min_height_px else {}
        return limit | {
            "name": self.name,
            "classes": {
                item.name: {"labels": list(item.labels), "from": dict(item.grows_from)} for item in self.classes
            },
            "ignore": {label: list(names) or "all" for label, names in self.ignore},
            "drop": list(self.drop),
        }

    def relation(self) -> dict[str, dict[str, float]]:
        """Class name -> {source class: weight}; a class without `from` maps to the class of the same name."""
        return {item.name: dict(item.grows_from) or {item.name: 1.0} for item in self.classes}

    def category_id(self, label: str) -> int | None:
        """The id of a source label's class; None when no class has it."""
        return next((number for number, item in enumerate(self.classes, 1) if label in item.labels), None)

    def ignored_ids(self, label: str) -> tuple[int, ...] | None:
        """Category ids that an ignored label hides, () for all; None when the label is not in `ignore`."""
        for name, hidden in self.ignore:
            if name == label:
                return tuple(self.categories.index(item) + 1 for item in hidden)
        return None

    def suggestion(self, label: str) -> str:
        """The remedy for an unknown label: the nearest known label, if any, or an entry in the taxonomy."""
        known = (
            [known for item in self.classes for known in item.labels]
            + [name for name, _ in self.ignore]
            + list(self.drop)
        )
        remedy = f"add it to classes, ignore or drop of taxonomy {self.name!r}"
        hint = nearest(label, known, remedy)
        return hint if hint == remedy else f"{hint} Otherwise {remedy}"


def own_labels(labels: Iterable[str]) -> Taxonomy:
    """The taxonomy of footage without one: its own labels as classes, sorted."""
    return Taxonomy("own labels", tuple(DrivingClass(label, (label,)) for label in sorted(set(labels))))


def dataset_taxonomy(dataset: Dataset, path: Path | str) -> Taxonomy:
    """The taxonomy in a dataset's info, or its own labels without one. Raises DataError naming `path`."""
    document = dataset.info.get("taxonomy")
    if not document:
        return own_labels(dataset.categories)
    try:
        return parse_taxonomy(document)
    except DataError as error:
        raise error.at(path) from None


def load_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy file. Raises DataError with file, line and entry."""
    document = read_yaml(path)
    try:
        return parse_taxonomy(document.value, document)
    except DataError as error:
        raise error.at(path) from None


def parse_taxonomy(value: object, document: Document | None = None) -> Taxonomy:
    """The taxonomy from plain values; `document` has their lines. Raises DataError without a file."""
    if not isinstance(value, dict) or not isinstance(value.get("classes"), dict) or not value["classes"]:
        raise DataError(
            "a taxonomy needs `classes`, a mapping of at least one class", remedy="see datasets/kitti/taxonomy.yaml"
        )
    lines = document or Document(value)
    for key in value:
        if key not in KEYS:
            remedy = nearest(str(key), KEYS, f"a taxonomy has {', '.join(KEYS)}")
            raise DataError(f"unknown key {str(key)!r}", remedy=remedy, line=lines.line((key,)))
    classes = []
    for name, body in value["classes"].items():
        with _on_line(lines, ("classes", name)):
            classes.append(_parse_class(str(name), body))
    with _on_line(lines, ("ignore",)):
        ignore = _parse_ignore(_default(value.get("ignore"), []), [item.name for item in classes])
    with _on_line(lines, ("drop",)):
        drop = _strings(_default(value.get("drop"), []), "drop")
    with _on_line(lines, ("min_height_px",)):
        min_height_px = _parse_height(value.get("min_height_px", 0))
    taxonomy = Taxonomy(str(value.get("name", "unnamed")), tuple(classes), ignore, tuple(drop), min_height_px)
    _check_unique_labels(taxonomy, lines)
    return taxonomy


@contextmanager
def _on_line(document: Document, path: KeyPath) -> Iterator[None]:
    """Adds the line of the value at `path` to a DataError raised in the block."""
    try:
        yield
    except DataError as error:
        error.line = document.line(path) if error.line is None else error.line
        raise


def _default(value: object, default: object) -> Any:
    """The default for a key that is missing or null; `0`, `""` and `false` are values, and their type is checked."""
    return default if value is None else value


def _parse_height(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise DataError(f"min_height_px is {_short(value)}", remedy="write a number of pixels, 0 for no limit")
    return float(value)


def _parse_class(name: str, body: object) -> DrivingClass:
    if body is None:
        body = {}
    if not isinstance(body, dict) or set(body) - {"labels", "from"}:
        raise DataError(
            f"class {name!r} must be {{labels: [...], from: {{...}}}}", remedy="see datasets/kitti/taxonomy.yaml"
        )
    relation = _default(body.get("from"), {})
    if not isinstance(relation, dict) or not all(
        isinstance(w, int | float) and w > 0 and w < float("inf") for w in relation.values()
    ):
        raise DataError(
            f"`from` of class {name!r} must map source classes to positive weights",
            remedy="for example {person: 0.5, bicycle: 0.5}",
        )
    total = math.fsum(relation.values())  # exact: 0.6 + 0.3 + 0.1 is 1, so that weights stay as written
    labels = _strings(body.get("labels", [name]), f"labels of class {name!r}")
    return DrivingClass(
        name, tuple(labels), tuple((str(source), weight / total) for source, weight in relation.items())
    )


def _parse_ignore(entries: object, names: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(entries, dict):
        return tuple((label, ()) for label in _strings(entries, "ignore"))
    parsed = []
    for label, hidden in entries.items():
        classes = [] if hidden in ("all", None) else _strings(hidden, f"ignore of {label!r}")
        for name in classes:
            if name not in names:
                raise DataError(
                    f"ignore of {label!r} names {name!r}, which is not a class",
                    remedy=f"choose from {', '.join(names)}",
                )
        parsed.append((str(label), tuple(classes)))
    return tuple(parsed)


def _short(value: object) -> str:
    """A value for an error line, shortened: aliases can expand a small YAML file to a huge list."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxstring, shortener.maxother = 2, 60, 60
    return shortener.repr(value)


def _strings(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(type(item) in (str, int) for item in value):
        remedy = "write it as [a, b], and a name like true or 1.5 in quotes"
        raise DataError(f"{name} must be a list of names, not {_short(value)}", remedy=remedy)
    return [str(item) for item in value]


def _check_unique_labels(taxonomy: Taxonomy, document: Document) -> None:
    seen: dict[str, str] = {}
    entries: list[tuple[str, str, KeyPath]] = [
        (label, f"class {item.name!r}", ("classes", item.name)) for item in taxonomy.classes for label in item.labels
    ]
    entries += [(label, "ignore", ("ignore",)) for label, _ in taxonomy.ignore]
    entries += [(label, "drop", ("drop",)) for label in taxonomy.drop]
    for label, rule, path in entries:
        if label in seen:
            reason = f"label {label!r} is in {seen[label]} and in {rule}"
            raise DataError(reason, remedy="remove one of the two", line=document.line(path))
        seen[label] = rule
