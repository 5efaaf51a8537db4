"""Taxonomies: which source labels make which driving class, what is ignored and what is dropped.

    name: kitti
    classes:                      # their order gives the category ids 1..K
      car:     {labels: [Car], from: {car: 1.0}}
      cyclist: {labels: [Cyclist], from: {person: 0.5, bicycle: 0.5}}
    ignore: {DontCare: all, cargroup: [car]}      # or a plain list, which means all classes
    drop: [Misc]
    min_height_px: 25             # optional: lower objects become ignore regions, as KITTI's moderate level does

`from` names the pretrained classes a class grows out of, with weights; head surgery reads it.
A source label in none of the lists is an error that names it: nothing disappears by a spelling mistake.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetl.errors import DataError
from drivetl.files.yaml_reader import load_yaml


@dataclass(frozen=True, slots=True)
class DrivingClass:
    """One class of the target: its name, its source labels, and what it grows out of."""

    name: str
    labels: tuple[str, ...]
    grows_from: tuple[tuple[str, float], ...] = ()
    """((source class, weight), ...) with weights that sum to 1; empty: nothing known, same name assumed."""


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The mapping of one source's labels to driving classes."""

    name: str
    classes: tuple[DrivingClass, ...]
    ignore: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """((source label, class names it hides; empty means all), ...)."""
    drop: tuple[str, ...] = ()
    min_height_px: float = 0.0
    """Objects lower than this in the image are too small to be sure of: they become ignore regions. 0: none."""

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
        """Class name -> {source class: weight}; a class without `from` grows out of its namesake."""
        return {item.name: dict(item.grows_from) or {item.name: 1.0} for item in self.classes}

    def category_id(self, label: str) -> int | None:
        """The id of a source label's class; None when it belongs to no class."""
        return next((number for number, item in enumerate(self.classes, 1) if label in item.labels), None)

    def ignored_ids(self, label: str) -> tuple[int, ...] | None:
        """Category ids that an ignored label hides, () for all; None when the label is not in `ignore`."""
        for name, hidden in self.ignore:
            if name == label:
                return tuple(self.categories.index(item) + 1 for item in hidden)
        return None

    def suggestion(self, label: str) -> str:
        """What to do about an unknown label, with the nearest known one when there is one."""
        known = (
            [known for item in self.classes for known in item.labels]
            + [name for name, _ in self.ignore]
            + list(self.drop)
        )
        near = difflib.get_close_matches(label, known, n=1)
        hint = f"did you mean {near[0]!r}? Otherwise " if near else ""
        return f"{hint}add it to classes, ignore or drop of taxonomy {self.name!r}"


def own_labels(labels: Iterable[str]) -> Taxonomy:
    """The taxonomy of footage that came without one: its own labels as classes, sorted."""
    return Taxonomy("own labels", tuple(DrivingClass(label, (label,)) for label in sorted(set(labels))))


def load_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy file. Raises DataError that names the file and what is wrong with which entry."""
    document = load_yaml(path)
    try:
        return parse_taxonomy(document)
    except DataError as error:
        raise error.at(path) from None


def parse_taxonomy(document: object) -> Taxonomy:
    """The taxonomy in a parsed YAML document. Raises DataError without a file name."""
    if not isinstance(document, dict) or not isinstance(document.get("classes"), dict) or not document["classes"]:
        raise DataError(
            "a taxonomy needs `classes`, a mapping of at least one class", remedy="see datasets/kitti/taxonomy.yaml"
        )
    unknown = set(document) - {"name", "classes", "ignore", "drop", "description", "min_height_px"}
    if unknown:
        raise DataError(
            f"unknown key {sorted(map(str, unknown))[0]!r}",
            remedy="a taxonomy has name, description, classes, ignore, drop, min_height_px",
        )
    classes = tuple(_parse_class(str(name), body) for name, body in document["classes"].items())
    names = [item.name for item in classes]
    taxonomy = Taxonomy(
        str(document.get("name", "unnamed")),
        classes,
        _parse_ignore(document.get("ignore") or [], names),
        tuple(str(label) for label in _strings(document.get("drop") or [], "drop")),
        _parse_height(document.get("min_height_px", 0)),
    )
    _check_each_label_once(taxonomy)
    return taxonomy


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
    relation = body.get("from") or {}
    if not isinstance(relation, dict) or not all(
        isinstance(w, int | float) and w > 0 and w < float("inf") for w in relation.values()
    ):
        raise DataError(
            f"`from` of class {name!r} must map source classes to positive weights",
            remedy="for example {person: 0.5, bicycle: 0.5}",
        )
    total = math.fsum(relation.values())  # so that 0.6 + 0.3 + 0.1 is 1 and the weights stay as written
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
                    f"ignore of {label!r} names {name!r}, which is no class", remedy=f"choose from {', '.join(names)}"
                )
        parsed.append((str(label), tuple(classes)))
    return tuple(parsed)


def _short(value: object) -> str:
    """A value for an error line: aliases can make a small YAML file an enormous list."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxstring, shortener.maxother = 2, 60, 60
    return shortener.repr(value)


def _strings(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise DataError(f"{what} must be a list of names, not {_short(value)}", remedy="write it as [a, b]")
    return [str(item) for item in value]


def _check_each_label_once(taxonomy: Taxonomy) -> None:
    seen: dict[str, str] = {}
    places = [(label, f"class {item.name!r}") for item in taxonomy.classes for label in item.labels]
    places += [(label, "ignore") for label, _ in taxonomy.ignore] + [(label, "drop") for label in taxonomy.drop]
    for label, place in places:
        if label in seen:
            raise DataError(f"label {label!r} stands in {seen[label]} and in {place}", remedy="keep it in one place")
        seen[label] = place
