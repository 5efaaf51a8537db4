"""Which class of one set is which class of another: by name, by the taxonomies' relation, or as the user says.

    classes = class_map(detector_classes, dataset.categories, own_labels(detector_classes), taxonomy)
    classes.objects  # {3: 1}: a detection of class 3 is one of the dataset's class 1

`training.replay` relates two datasets by it, the evaluation of a detector its classes to those of the data.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetl.coco.records import Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import DrivingClass, Taxonomy
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.yaml_reader import load_yaml

GivenClasses = Mapping[str, str | None]
"""The user's own map: their class -> our class, None for no class."""


@dataclass(frozen=True)
class ClassMap:
    """What becomes of each of their classes (a detector's, or another dataset's) among ours, by ids from 1."""

    objects: dict[int, int]
    """Their class -> our class: its objects are objects of it."""
    ignored: dict[int, tuple[int, ...]]
    """Their class -> the classes of ours that its objects may belong to: neither right nor wrong."""
    background: tuple[int, ...]
    """Their classes without any relation to ours."""
    unknown: tuple[int, ...]
    """Our classes that none of theirs is."""
    overlapped: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Our unknown class -> our known classes that what is found on its objects may be of: vans found as cars."""


def class_map(
    theirs: Sequence[str],
    ours: Sequence[str],
    of_theirs: Taxonomy,
    of_ours: Taxonomy,
    *,
    given: GivenClasses | None = None,
    first_of_several: bool = False,
) -> ClassMap:
    """Relate their classes to ours, both in id order. The first rule that applies decides about a class of theirs:

    0. `given` names it: it is that class of ours, or none.
    1. It has the name of a class of ours, or of one of that class's labels: its objects are objects of it.
    2. One of the two grows out of the other alone (`from: {person: 1}`), no class of theirs has our class's name, and
       no other class of ours is in the same relation to it: its objects are objects of it. With `first_of_several` it
       is the first of those in the same relation.
    3. It is related to classes of ours in any other way - one is a part of the other, both grow out of a common class,
       or several would be possible: what is found may or may not be an object of those classes.
    4. Otherwise it is background.

    Names are compared as in head surgery (`fold`), equal ones first. Raises ConfigError as `check_given` does.
    """
    given_ids = _given_ids(given or {}, theirs, ours)
    origins = [_Origin.of(name, of_theirs) for name in theirs]
    targets = [_Origin.of(name, of_ours) for name in ours]
    objects = dict(given_ids)
    for number, name in enumerate(theirs, 1):
        if number not in objects and (to := _named(name, ours, targets)) is not None:
            objects[number] = to
    by_name = set(objects.values())
    ignored: dict[int, tuple[int, ...]] = {}
    for number, item in enumerate(origins, 1):
        if number in objects:
            continue
        related = tuple(to for to, other in enumerate(targets, 1) if other.is_related(item))
        same = [to for to in related if to not in by_name and targets[to - 1].is_of_one_kind(item)]
        if len(same) == 1 or (same and first_of_several):
            objects[number] = same[0]
        elif related:
            ignored[number] = related
    objects = {number: to for number, to in sorted(objects.items()) if to}
    unknown = tuple(number for number in range(1, len(ours) + 1) if number not in objects.values())
    return ClassMap(
        objects,
        ignored,
        tuple(number for number in range(1, len(theirs) + 1) if number not in objects and number not in ignored),
        unknown,
        {number: _overlapped(number, objects, origins, targets) for number in unknown},
    )


@dataclass(frozen=True)
class _Origin:
    """A class for comparison: its folded name, labels, and the classes that it grows out of."""

    name: str
    labels: frozenset[str]
    parents: frozenset[str]

    @classmethod
    def of(cls, name: str, taxonomy: Taxonomy) -> _Origin:
        known = next((item for item in taxonomy.classes if item.name == name), None)
        labels = known.labels if known is not None else ()
        parents = dict(known.grows_from) if known is not None and known.grows_from else {name: 1.0}
        return cls(fold(name), frozenset(map(fold, labels)), frozenset(map(fold, parents)))

    def is_of_one_kind(self, other: _Origin) -> bool:
        """Whether one of the two grows out of the other alone."""
        return self.parents == {other.name} or other.parents == {self.name}

    def is_related(self, other: _Origin) -> bool:
        """Whether one grows out of the other, or both grow out of a common class."""
        return bool((self.parents | {self.name}) & (other.parents | {other.name}))


def fold(name: str) -> str:
    """A class name for comparison: `Traffic_Light` and `traffic light` are the same."""
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def _named(name: str, ours: Sequence[str], targets: Sequence[_Origin]) -> int | None:
    """The class of ours with that name, or with a label of that name; an equal name before a folded one."""
    if name in ours:
        return ours.index(name) + 1
    folded = fold(name)
    by_name = next((to for to, other in enumerate(targets, 1) if other.name == folded), None)
    return by_name or next((to for to, other in enumerate(targets, 1) if folded in other.labels), None)


def _overlapped(
    number: int, objects: Mapping[int, int], origins: Sequence[_Origin], targets: Sequence[_Origin]
) -> tuple[int, ...]:
    related = {to for their, to in objects.items() if targets[number - 1].is_related(origins[their - 1])}
    return tuple(sorted(related))


def _given_ids(given: GivenClasses, theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """Their class -> our class, 0 for none."""
    check_given(given, theirs, ours)
    return {
        number: 0 if to is None else _numbers(to, ours)[0]
        for name, to in given.items()
        for number in _numbers(name, theirs)
    }


def _numbers(name: str, classes: Sequence[str]) -> list[int]:
    """Those of the classes, counted from 1, with that name; where none has it, those whose folded name is the same."""
    equal = [number for number, known in enumerate(classes, 1) if known == name]
    return equal or [number for number, known in enumerate(classes, 1) if fold(known) == fold(name)]


def check_given(given: GivenClasses, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raises ConfigError for a name on the left that is not a class of theirs, or on the right not one of ours."""
    for name, to in given.items():
        for word, classes, whose in ((name, theirs, "the detector"), (to, ours, "the data")):
            if word is not None and not _numbers(word, classes):
                raise ConfigError(
                    f"the class map names {word!r}, which is not a class of {whose}", remedy=nearest(word, classes)
                )


def given_for(given: GivenClasses, theirs: Sequence[str]) -> dict[str, str | None]:
    """The part of the user's map that names classes of this detector; the other part is for another one."""
    return {name: to for name, to in given.items() if _numbers(name, theirs)}


def parse_class_map(text: str) -> dict[str, str | None]:
    """The map of `--class-map`: `person=pedestrian,train=tram`, or a YAML file of such lines.

    `bus=` in the text, or null in the file, is no class. Raises ConfigError, and DataError for a file.
    """
    if text.lower().endswith((".yaml", ".yml")):
        return _read_class_map(Path(text))
    given: dict[str, str | None] = {}
    for word in (part.strip() for part in text.split(",") if part.strip()):
        name, sign, to = (part.strip() for part in word.partition("="))
        if not (name and sign):
            raise ConfigError(f"--class-map {word!r} is not THEIRS=OURS", remedy="for example person=pedestrian")
        if given.setdefault(name, to or None) != (to or None):
            raise ConfigError(f"--class-map maps {name!r} twice", remedy="keep one of the two")
    return given


def _read_class_map(path: Path) -> dict[str, str | None]:
    document = load_yaml(path)
    if not isinstance(document, dict) or not all(
        isinstance(name, str) and (to is None or isinstance(to, str)) for name, to in document.items()
    ):
        raise DataError("not a class map", remedy="write a line per class, like person: pedestrian", file=path)
    return dict(document)


def taxonomy_of_relation(relation: Mapping[str, Mapping[str, float]]) -> Taxonomy:
    """The taxonomy of a run's detector, from the relation that its model.json has."""
    return Taxonomy(
        "run", tuple(DrivingClass(name, (name,), tuple(parents.items())) for name, parents in relation.items())
    )


def with_known_classes(dataset: Dataset, maps: Iterable[ClassMap]) -> Dataset:
    """The dataset for detectors that do not know all of its classes; ids and files are unchanged.

    A class that one of them does not know is not labelled: it has no AP, and detections of it do not count. Its objects
    are ignore regions of the known classes that they may be found as (`ClassMap.overlapped`), and otherwise left out.
    """
    maps = list(maps)
    unknown = {number for of_one in maps for number in of_one.unknown}
    if not unknown:
        return dataset
    overlapped = {
        number: tuple(sorted({to for of_one in maps for to in of_one.overlapped.get(number, ())} - unknown))
        for number in unknown
    }
    known = tuple(number for number in range(1, len(dataset.categories) + 1) if number not in unknown)
    return dataset.subset([_with_known(image, known, overlapped) for image in dataset.images])


def _with_known(image: ImageRecord, known: tuple[int, ...], overlapped: Mapping[int, tuple[int, ...]]) -> ImageRecord:
    regions = [
        IgnoreRegion(item.bbox_xywh, item.area, overlapped[item.category_id], item.segmentation, item.attributes)
        for item in image.annotations
        if overlapped.get(item.category_id)
    ]
    return dataclasses.replace(
        image,
        labelled=known if image.labelled is None else tuple(sorted(set(known) & set(image.labelled))),
        annotations=[item for item in image.annotations if item.category_id in known],
        ignore_regions=image.ignore_regions + regions,
    )
