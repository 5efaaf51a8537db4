"""One `FormatCase` per footage format: the facts that the format laws need. A new format adds a row to CASES."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import footage_files as trees
import orjson
from footage_files import Files

XYWH = tuple[float, float, float, float]
CAR, PERSON = (2.5, 3.0, 10.0, 6.0), (20.0, 5.0, 4.0, 10.0)
"""The two objects of every tree's first image, xywh px."""


@dataclass(frozen=True)
class FormatCase:
    """A small tree of a format with known content, and ways to break it."""

    tree: Callable[[], Files]
    """Three images of 40 x 30 px as PNG files: one with a car and a person, one without objects, one special case."""
    first_image: str
    """File name of the first one, relative to the images root."""
    label_suffix: str
    """How the names of its label files end."""
    count_objects: Callable[[bytes], int]
    """Objects listed in a label file, counted without the reader; 0 where the syntax is broken."""
    broken_shape: tuple[bytes, bytes]
    """Text of the car's shape, and a text that makes it unreadable."""
    broken_size: tuple[bytes, bytes]
    """Text of an image's size (in its labels or in the image file), and a text that makes it unreadable."""
    label_place: bytes
    """Part of the line, or of the JSON object, that gives an object `a_label` for the first time."""
    objects: tuple[tuple[str, XYWH], ...] = (("car", CAR), ("person", PERSON))
    """(label, box) of the first image, sorted."""
    ignored: tuple[XYWH, ...] = ()
    """Boxes of the first image's ignore regions."""
    labels: tuple[str, ...] = ("car", "person")
    """The classes without a taxonomy, in order."""
    a_label: str = "person"
    """A label of the first image."""
    unclassed: tuple[str, ...] = ()
    """Labels of the tree that are not classes but must be in a taxonomy."""
    one_file_per_image: bool = False
    """A broken image is then named by its file alone, otherwise by its line too."""
    more_trees: Mapping[str, Callable[[], Files]] = field(default_factory=dict)
    """Other layouts of the format, for the law about damaged files."""
    siblings: Callable[[Files], Files] = lambda files: {}
    """Files to add so that an image is left when the broken one is gone."""
    unset_flags: tuple[tuple[bytes, bytes], ...] = ()
    """(text of the first image's labels, the same with a flag that is not set), as other tools write it."""
    without_size: tuple[tuple[bytes, bytes], ...] = ()
    """Replacements that take the sizes of the images out of the labels; () where the labels always have them."""
    exempt: Mapping[str, str] = field(default_factory=dict)
    """Name of a law that does not apply -> the reason."""


def rows_in(content: bytes) -> int:
    """Number of lines that are not blank."""
    try:
        return sum(bool(line.strip()) for line in content.decode().split("\n"))
    except UnicodeDecodeError:  # a file that is not text is one unreadable record
        return 0


def json_in(content: bytes) -> Any:
    """The document, None where the syntax is broken."""
    try:
        return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return None


def length(value: object, key: str) -> int:
    """Length of the list under a key, 0 without one."""
    items = value.get(key) if isinstance(value, dict) else None
    return len(items) if isinstance(items, list) else 0


def _labels_of_frames(content: bytes) -> int:
    document = json_in(content)
    frames = document.get("frames") if isinstance(document, dict) else document
    return sum(length(frame, "labels") for frame in frames) if isinstance(frames, list) else 0


def _elements(content: bytes, *paths: str) -> int:
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
        return 0
    return sum(len(root.findall(path)) for path in paths)


CASES = {
    "cvat": FormatCase(
        tree=trees.cvat_images,
        first_image="drive_1/000000.png",
        label_suffix=".xml",
        count_objects=lambda content: _elements(content, "image/box", "image/polygon", "image/mask", "image/points"),
        broken_shape=(b'xtl="2.5"', b'xtl="x"'),
        broken_size=(b'width="40"', b'width="x"'),
        label_place=b'<polygon label="person"',
        more_trees={"video": trees.cvat_video},
    ),
    "labelme": FormatCase(
        tree=trees.labelme,
        first_image="drive_1/a.png",
        label_suffix=".json",
        count_objects=lambda content: length(json_in(content), "shapes"),
        broken_shape=(b"[[12.5, 9], [2.5, 3]]", b'"x"'),
        broken_size=(b'"imageWidth": 40', b'"imageWidth": "x"'),
        label_place=b'"label": "person"',
        objects=(("car", CAR), ("person", (20.0, 5.0, 8.0, 10.0))),  # two polygons of one group
        unclassed=("lane",),
        one_file_per_image=True,
        without_size=((b'"imageWidth"', b'"width"'),),
        unset_flags=tuple(
            (b'"label": "car"', b'"difficult": %s, "label": "car"' % off) for off in (b"0", b'"0"', b'""')
        ),
    ),
    "voc": FormatCase(
        tree=trees.voc,
        first_image="a.png",
        label_suffix=".xml",
        count_objects=lambda content: _elements(content, "object"),
        broken_shape=(b"<xmin>2.5", b"<xmin>x"),
        broken_size=(b"<width>40", b"<width>x"),
        label_place=b"<name>person",
        objects=(("car", CAR),),
        ignored=(PERSON,),  # `difficult`
        without_size=((b"<size>", b"<extent>"), (b"</size>", b"</extent>")),
        one_file_per_image=True,
        exempt={"images_know_their_drive": "VOC has no field for it, and the tree has no folders that name drives"},
    ),
    "yolo": FormatCase(
        tree=trees.yolo,
        first_image="drive_1/a.png",
        label_suffix=".txt",
        count_objects=rows_in,
        broken_shape=(b"1 0.1875", b"1 x"),
        broken_size=(b"\x89PNG", b"broken"),
        label_place=b"0 0.5 0.1666667",
        one_file_per_image=True,
    ),
    "bdd100k": FormatCase(
        tree=trees.bdd100k,
        first_image="a.png",
        label_suffix=".json",
        count_objects=_labels_of_frames,
        broken_shape=(b'{"x1": 2.5, "y1": 3, "x2": 12.5, "y2": 9}', b'"x"'),
        broken_size=(b'"width": 40', b'"width": "x"'),
        label_place=b'"category": "person"',
        unclassed=("lane",),
        without_size=((b'"size"', b'"extent"'),),
        unset_flags=tuple((b'"crowd": false', b'"crowd": %s' % off) for off in (b"0", b'"0"', b'"false"', b"null")),
        exempt={"images_know_their_drive": "single images of BDD100K are of no video, only its frames are"},
    ),
    "cityscapes": FormatCase(
        tree=trees.cityscapes,
        first_image="train/ulm/ulm_000001_000019_leftImg8bit.png",
        label_suffix=".json",
        count_objects=lambda content: length(json_in(content), "objects"),
        broken_shape=(b"[[2, 5], [21, 5], [21, 14], [2, 14]]", b'"x"'),
        broken_size=(b'"imgWidth": 40', b'"imgWidth": "x"'),
        a_label="road",
        label_place=b'"label": "road"',
        objects=(
            ("car", (2, 5, 10, 10)),  # what the second car leaves of it
            ("car", (12, 5, 20, 10)),
            ("license plate", (20, 12, 3, 2)),
            ("road", (0, 10, 40, 20)),
        ),
        labels=("car", "license plate", "road"),  # the second car hides the person
        unclassed=("cargroup", "person"),
        one_file_per_image=True,
        unset_flags=tuple(
            (b'"label": "car"', b'"deleted": %s, "label": "car"' % off) for off in (b"0", b'"0"', b'"false"')
        ),
    ),
    "nuimages": FormatCase(
        tree=trees.nuimages,
        first_image="samples/CAM_FRONT/1.png",
        label_suffix="object_ann.json",
        count_objects=lambda content: len(rows) if isinstance(rows := json_in(content), list) else 0,
        broken_shape=(b"[2.5, 3, 12.5, 9]", b'"x"'),
        broken_size=(b'"width": 40', b'"width": "x"'),
        label_place=b'"category_token": "c2"',
        objects=(("human.pedestrian.adult", PERSON), ("vehicle.car", CAR)),
        labels=("human.pedestrian.adult", "vehicle.car"),
        a_label="human.pedestrian.adult",
    ),
    "mot": FormatCase(
        tree=trees.mot,
        first_image="M-01/img1/000001.png",
        label_suffix="gt.txt",
        count_objects=rows_in,
        broken_shape=(b"1,5,2.5", b"1,5,x"),
        broken_size=(b"imWidth=40", b"imWidth=x"),
        label_place=b"1,6,20,5",
        objects=(("car", CAR), ("pedestrian", PERSON)),
        labels=("car", "distractor", "pedestrian"),
        without_size=((b"imWidth=", b"other="),),
        a_label="pedestrian",
        one_file_per_image=True,
        siblings=lambda files: {name.replace("M-01", "M-02"): content for name, content in files.items()},
    ),
    "coco": FormatCase(
        tree=trees.coco,
        first_image="drive_1/a.png",
        label_suffix=".json",
        count_objects=lambda content: length(json_in(content), "annotations"),
        broken_shape=(b"[2.5, 3, 10, 6]", b'"x"'),
        broken_size=(b'"width": 40', b'"width": "x"'),
        label_place=b'"category_id": 70',
        without_size=((b'"width": 40', b'"w": 40'), (b'"height": 30', b'"h": 30')),
    ),
}
"""Registered name of the format -> its case."""
