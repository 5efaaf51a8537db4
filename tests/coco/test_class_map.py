"""Laws of the class map: names, labels, relations, the user's word, and what is not known."""

import dataclasses
from pathlib import Path

import pytest
from class_relations import SOURCE, TARGET

from drivetl.coco.class_map import class_map, parse_class_map, taxonomy_of_relation, with_known_classes
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import own_labels, parse_taxonomy
from drivetl.errors import DrivetlError


def taxonomy(classes):
    return parse_taxonomy({"name": "test", "classes": classes})


def related(source, target):
    """{source class: (target class, or the classes it may be, or None)}, and the target's classes that are unknown."""
    found = class_map(tuple(source), tuple(target), taxonomy(source), taxonomy(target))
    ours, theirs = list(target), list(source)
    fates = {theirs[number - 1]: ours[to - 1] for number, to in found.objects.items()}
    fates |= {theirs[number - 1]: tuple(ours[to - 1] for to in hides) for number, hides in found.ignored.items()}
    fates |= {theirs[number - 1]: None for number in found.background}
    return fates, [ours[number - 1] for number in found.unknown]


def test_law_classes_meet_by_name_label_and_relation_and_partial_ones_are_ignored():
    fates, unknown = related(SOURCE, TARGET)
    assert fates == {
        "person": "pedestrian",  # pedestrian grows out of person alone
        "bicycle": ("cyclist",),  # a part of a cyclist
        "Automobile": "car",  # a label of car
        "traffic light": None,
        "bus": ("tram",),
    }
    assert unknown == ["cyclist", "tram"]


def grows(**parents):
    return {name: {"labels": [name], "from": dict.fromkeys(names, 1.0)} for name, names in parents.items()}


@pytest.mark.parametrize(
    ("source", "target", "fates"),
    [
        (grows(car=["car"]), grows(car=["car"], van=["car"]), {"car": "car"}),  # a name decides before a relation
        (grows(car=["car"], van=["car"]), grows(car=["car"]), {"car": "car", "van": ("car",)}),
        (grows(person=["person"]), grows(walker=["person"], child=["person"]), {"person": ("walker", "child")}),
        (
            grows(walker=["person"], rider=["person"]),
            grows(person=["person"]),
            dict.fromkeys(("walker", "rider"), "person"),
        ),
        (grows(rider=["person"]), grows(pedestrian=["person"]), {"rider": ("pedestrian",)}),  # siblings are not equal
        (grows(boat=["boat"]), grows(car=["car"]), {"boat": None}),
    ],
)
def test_the_rules_in_their_order(source, target, fates):
    assert related(source, target)[0] == fates


KITTI = {
    "car": {"from": {"car": 1.0}},
    "van": {"from": {"car": 0.6, "truck": 0.3, "bus": 0.1}},
    "truck": {"from": {"truck": 1.0}},
    "pedestrian": {"from": {"person": 1.0}},
    "person_sitting": {"from": {"person": 1.0}},
    "cyclist": {"from": {"person": 0.5, "bicycle": 0.5}},
}
COCO = ("person", "bicycle", "car", "bus", "truck", "zebra")


def of_detector(theirs, ours, given=None):
    """{their class: our class} of a detector's names, and {our unknown class: the classes it may be found as}."""
    found = class_map(theirs, tuple(ours), own_labels(theirs), taxonomy(ours), given=given, first_of_several=True)
    names = list(ours)
    hidden = {names[number - 1]: [names[to - 1] for to in found.overlapped[number]] for number in found.unknown}
    return {theirs[number - 1]: names[to - 1] for number, to in found.objects.items()}, hidden


def test_a_detector_of_coco_on_kitti():
    met, hidden = of_detector(COCO, KITTI)
    assert met == {"person": "pedestrian", "car": "car", "truck": "truck"}
    assert hidden == {"van": ["car", "truck"], "person_sitting": ["pedestrian"], "cyclist": ["pedestrian"]}


@pytest.mark.parametrize("name", ["traffic light", "Traffic_Light", " TRAFFIC-LIGHT", "traffic  light"])
def test_names_are_compared_without_case_blanks_and_underscores(name):
    assert of_detector((name,), {"traffic_light": {}, "light": {}})[0] == {name: "traffic_light"}


def test_an_equal_name_comes_before_a_folded_one():
    assert of_detector(("car", "Car"), {"Car": {}, "car": {}})[0] == {"car": "car", "Car": "Car"}


@pytest.mark.parametrize(
    ("given", "met"),
    [
        ({"bus": "van"}, {"person": "pedestrian", "car": "car", "truck": "truck", "bus": "van"}),
        ({"Person": "cyclist"}, {"person": "cyclist", "car": "car", "truck": "truck"}),
        ({"person": None}, {"car": "car", "truck": "truck"}),
        ({"truck": "car"}, {"person": "pedestrian", "car": "car", "truck": "car"}),
    ],
)
def test_the_users_map_comes_first(given, met):
    assert of_detector(COCO, KITTI, given)[0] == met


def test_a_class_of_a_run_meets_the_class_it_grew_out_of():
    """A run whose pedestrian grew out of person knows the person of other data."""
    relation = {"pedestrian": {"person": 1.0}, "cyclist": {"person": 0.5, "bicycle": 0.5}}
    ours = {"person": {"from": {"person": 1.0}}, "bicycle": {"from": {"bicycle": 1.0}}}
    found = class_map(tuple(relation), tuple(ours), taxonomy_of_relation(relation), taxonomy(ours))
    assert found.objects == {1: 1} and found.ignored == {2: (1, 2)} and found.unknown == (2,)


def test_law_the_same_classes_are_the_identity_whatever_the_relation():
    for theirs in (TARGET, KITTI, SOURCE):
        found = class_map(tuple(theirs), tuple(theirs), own_labels(theirs), taxonomy(theirs), first_of_several=True)
        assert found.objects == {number: number for number in range(1, len(theirs) + 1)}
        assert not found.ignored and not found.background and not found.unknown


def test_law_with_known_classes_keeps_every_object_of_a_known_class():
    image = ImageRecord(5, "5.png", 100, 50)
    image.annotations = [Annotation(number, (number, 0.0, 5.0, 6.0), 30.0) for number in range(1, 7)]
    image.ignore_regions = [IgnoreRegion((50, 0, 1, 1), 1.0)]
    data = Dataset(tuple(KITTI), [image, ImageRecord(6, "6.png", 100, 50, labelled=(1, 2))], Path(), {})
    first = class_map(COCO, tuple(KITTI), own_labels(COCO), taxonomy(KITTI), first_of_several=True)
    known, empty = with_known_classes(data, [first]).images
    assert [item.category_id for item in known.annotations] == [1, 3, 4]
    assert [(region.bbox_xywh[0], region.category_ids) for region in known.ignore_regions] == [
        (50, ()),
        (2, (1, 3)),
        (5, (4,)),
        (6, (4,)),
    ]
    assert known.labelled == (1, 3, 4) and empty.labelled == (1,)
    assert len(image.annotations) == 6 and image.labelled is None, "the input is not changed"
    everything = class_map(tuple(KITTI), tuple(KITTI), own_labels(KITTI), taxonomy(KITTI))
    assert with_known_classes(data, [everything]) is data
    cars = class_map(("car",), tuple(KITTI), own_labels(("car",)), taxonomy(KITTI))
    both = with_known_classes(data, [first, cars]).images[0]
    assert [item.category_id for item in both.annotations] == [1], "what both know"
    assert {region.category_ids for region in both.ignore_regions} == {(), (1,)}, "no class that is unknown itself"
    assert dataclasses.replace(both, annotations=[], ignore_regions=[], labelled=None) == dataclasses.replace(
        image, annotations=[], ignore_regions=[]
    )


def test_the_map_of_the_command_line_and_of_a_file_are_the_same(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("person: pedestrian\ntraffic light: signal\nbus: null\n")
    assert parse_class_map(str(path)) == parse_class_map("person=pedestrian, traffic light=signal,bus=")
    assert parse_class_map("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person", "--class-map 'person' is not THEIRS=OURS"),
        ("=car", "is not THEIRS=OURS"),
        ("a=b,a=c", "maps 'a' twice"),
        ("nowhere.yaml", "nowhere.yaml"),
        ("list.yaml", "list.yaml: not a class map"),
        ("number.yaml", "number.yaml: not a class map"),
    ],
)
def test_mistakes_in_the_map(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("[a, b]\n")
    (tmp_path / "number.yaml").write_text("a: 3\n")
    with pytest.raises(DrivetlError) as caught:
        parse_class_map(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"persn": "pedestrian"}, "names 'persn', which is not a class of the detector - did you mean 'person'?"),
        ({"person": "pedestrain"}, "names 'pedestrain', which is not a class of the data - did you mean 'pedestrian'?"),
    ],
)
def test_a_map_of_classes_that_are_not_there(given, message):
    with pytest.raises(DrivetlError) as caught:
        of_detector(COCO, KITTI, given)
    assert message in str(caught.value)
