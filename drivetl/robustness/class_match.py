"""The classes of the evaluated detectors next to those of the data: what meets, and what one of them does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.coco.class_map import ClassMap, GivenClasses, check_given, class_map, given_for, taxonomy_of_relation
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import dataset_taxonomy, own_labels
from drivetl.console.text import first_of_all
from drivetl.errors import ConfigError

NAMED = 12
"""Most names in a message."""


def class_maps(
    categories: Mapping[str, Sequence[str]],
    relations: Mapping[str, Mapping[str, Mapping[str, float]]],
    dataset: Dataset,
    given: GivenClasses | None = None,
) -> dict[str, ClassMap]:
    """How the classes of each detector (name -> categories) meet those of the dataset.

    relations: name -> what its classes were derived from, as a run's model.json has it; empty where it is unknown.
    given: the user's own map, for all detectors together. Raises ConfigError when a detector shares no class with the
    data, and for a name in `given` that is a class of no detector.
    """
    check_given(given or {}, [name for names in categories.values() for name in names], dataset.categories)
    of_data = dataset_taxonomy(dataset, dataset.file or "the dataset")
    maps = {}
    for name, classes in categories.items():
        relation = relations.get(name)
        maps[name] = class_map(
            classes,
            dataset.categories,
            taxonomy_of_relation(relation) if relation else own_labels(classes),
            of_data,
            given=given_for(given or {}, classes),
            first_of_several=True,
        )
        if not maps[name].objects:
            which = "baseline" if name == "baseline" else "detector"
            raise ConfigError(
                f"no class of the {which} is one of the data's: {first_of_all(classes, NAMED)}; those"
                f" are {first_of_all(dataset.categories, NAMED)}",
                remedy=f"name the same ones, like --class-map {classes[0]}={dataset.categories[0]}"
                if classes
                else "give its categories",
            )
    if not set.intersection(*(set(of_one.objects.values()) for of_one in maps.values())):
        raise ConfigError("no class of the data is known to both detectors", remedy="evaluate them without --baseline")
    return maps


def is_same(of_one: ClassMap, n_classes: int) -> bool:
    """Whether a detector has the classes of the data in their order, and no others."""
    same = list(range(1, n_classes + 1))
    return list(of_one.objects) == same == list(of_one.objects.values()) and not (of_one.ignored or of_one.background)


def class_document(
    maps: Mapping[str, ClassMap], names: Mapping[str, str], categories: Mapping[str, Sequence[str]], dataset: Dataset
) -> dict[str, Any] | None:
    """How the classes met, for results.json; None where every detector has the data's classes.

    names: what each detector is called in the report.
    """
    ours = dataset.categories
    if all(tuple(categories[name]) == ours and is_same(of_one, len(ours)) for name, of_one in maps.items()):
        return None
    counts = dict.fromkeys(range(1, len(ours) + 1), 0)
    for image in dataset.images:
        for item in image.annotations:
            counts[item.category_id] += 1
    document: dict[str, Any] = {name: _met(of_one, categories[name], ours) for name, of_one in maps.items()}
    unknown = sorted({number for of_one in maps.values() for number in of_one.unknown})
    rows = []
    for number in unknown:
        lacking = [name for name, of_one in maps.items() if number in of_one.unknown]
        rows.append(
            {
                "class": ours[number - 1],
                "objects": counts[number],
                "unknown_to": [names[name] for name in lacking],
                "why": _why(maps[lacking[0]], number, categories[lacking[0]]),
                "may_be_found_as": sorted(
                    {ours[to - 1] for name in lacking for to in maps[name].overlapped[number] if to not in unknown}
                ),
            }
        )
    return {"run": None, "baseline": None} | document | {"unknown": rows}


def _met(of_one: ClassMap, theirs: Sequence[str], ours: Sequence[str]) -> dict[str, Any]:
    return {
        "maps": [{"theirs": theirs[number - 1], "ours": ours[to - 1]} for number, to in of_one.objects.items()],
        "unmapped": [name for number, name in enumerate(theirs, 1) if number not in of_one.objects],
    }


def _why(of_one: ClassMap, number: int, theirs: Sequence[str]) -> str:
    related = [theirs[their - 1] for their, to in of_one.ignored.items() if number in to]
    if related:
        return f"its {' or '.join(related)} may be one, or something else"
    return "its related class is another one of the data" if of_one.overlapped[number] else "it has no related class"
