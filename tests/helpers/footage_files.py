"""Label files of small footage trees by format: an image with two objects, one without objects, one special case."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
from PIL import Image
from pycocotools import mask as rle_tools

SIZE = 40, 30
"""(width, height) of every image."""

Files = dict[str, bytes]
"""Relative path -> content."""


def blank_png(size: tuple[int, int] = SIZE) -> bytes:
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 60)).save(buffer, "PNG")
    return buffer.getvalue()


def image_files(*names: str) -> Files:
    """A small PNG under each name."""
    return {name: blank_png() for name in names}


def cvat_images() -> Files:
    xml = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>ring road</name><size>3</size><mode>annotation</mode>
    <labels><label><name>car</name><attributes>
      <attribute><name>parked</name><input_type>checkbox</input_type></attribute>
      <attribute><name>speed</name><input_type>number</input_type></attribute></attributes></label></labels>
  </task></meta>
  <image id="0" name="drive_1/000000.png" width="40" height="30">
    <tag label="weather"><attribute name="value">fog</attribute></tag>
    <tag label="night"/>
    <box label="car" occluded="1" xtl="2.5" ytl="3" xbr="12.5" ybr="9" z_order="2">
      <attribute name="parked">true</attribute><attribute name="speed">2.50</attribute>
    </box>
    <polygon label="person" occluded="0" points="20,5;24,5;24,15;20,15" z_order="0"/>
    <polyline label="lane" points="0,0;5,5"/>
  </image>
  <image id="1" name="drive_1/000001.png" width="40" height="30"/>
  <image id="2" name="drive_2/000000.png" width="40" height="30">
    <mask label="car" occluded="0" rle="1, 2, 2, 3" left="10" top="4" width="4" height="2" z_order="0"/>
    <box label="car" occluded="0" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90" z_order="0"/>
    <points label="person" points="1,1"/>
  </image>
</annotations>
"""
    names = ("images/drive_1/000000.png", "images/drive_1/000001.png", "images/drive_2/000000.png")
    return {"annotations.xml": xml.encode()} | image_files(*names)


def cvat_video() -> Files:
    xml = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>tunnel</name><size>4</size><mode>interpolation</mode>
    <start_frame>10</start_frame><stop_frame>16</stop_frame><frame_filter>step=2</frame_filter>
    <original_size><width>40</width><height>30</height></original_size></task>
    <source>tunnel.mp4</source></meta>
  <track id="0" label="car" source="manual">
    <box frame="10" outside="0" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="10" ybr="8" z_order="0"></box>
    <box frame="14" outside="0" occluded="1" keyframe="1" xtl="8" ytl="4" xbr="18" ybr="12" z_order="0"></box>
    <box frame="16" outside="1" occluded="0" keyframe="1" xtl="8" ytl="4" xbr="18" ybr="12" z_order="0"></box>
  </track>
  <track id="1" label="person" source="manual">
    <polygon frame="12" outside="0" occluded="0" keyframe="1" points="20,5;24,5;24,15;20,15" z_order="0"></polygon>
    <skeleton frame="14" outside="0" occluded="0" keyframe="1"><points label="head" points="1,1"/></skeleton>
  </track>
</annotations>
"""
    return {"annotations.xml": xml.encode()}


def voc() -> Files:
    def xml(name: str, objects: str) -> bytes:
        return f"""<annotation>
  <folder>x</folder><filename>{name}.png</filename>
  <size><width>40</width><height>30</height><depth>3</depth></size>{objects}
</annotation>
""".encode()

    def item(name: str, box: tuple[float, ...], more: str = "") -> str:
        tags = "".join(
            f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        return f"\n  <object><name>{name}</name><pose>Left</pose>{more}<bndbox>{tags}</bndbox></object>"

    first = item("car", (2.5, 3, 12.5, 9), "<truncated>0.4</truncated><occluded>1</occluded>")
    hard = item("person", (20, 5, 24, 15), "<difficult>1</difficult>")
    files = {
        "Annotations/a.xml": xml("a", first + hard),
        "Annotations/b.xml": xml("b", ""),
        "Annotations/c.xml": xml("c", item("car", (-3, 4, 50, 9)) + item("car", (5, 5, 5, 9))),
    }
    return files | image_files("JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")


def yolo() -> Files:
    files = {
        "data.yaml": b"names: [person, car]\n",
        "labels/drive_1/a.txt": b"1 0.1875 0.2 0.25 0.2\n0 0.5 0.1666667 0.6 0.1666667 0.6 0.5 0.5 0.5\n",
        "labels/drive_1/b.txt": b"",
        "labels/drive_2/c.txt": b"1 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n1 0.5 0.5 0 0.2\n",
    }
    return files | image_files("images/drive_1/a.png", "images/drive_1/b.png", "images/drive_2/c.png")


def labelme() -> Files:
    def document(name: str, shapes: list[dict[str, object]], **more: object) -> bytes:
        body = {"version": "5.0", "flags": {"night": True}, "shapes": shapes, "imagePath": f"{name}.png"}
        return json.dumps(body | {"imageData": None, "imageHeight": 30, "imageWidth": 40} | more).encode()

    def shape(label: str, kind: str, points: list[list[float]], group: int | None = None) -> dict[str, object]:
        return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}

    first = [
        shape("car", "rectangle", [[12.5, 9], [2.5, 3]]),
        shape("person", "polygon", [[20, 5], [24, 5], [24, 15]], 1),
        shape("person", "polygon", [[26, 5], [28, 5], [28, 10]], 1),
    ]
    odd = [shape("car", "circle", [[20, 15], [25, 15]]), shape("lane", "line", [[0, 0], [9, 9]])]
    files = {
        "drive_1/a.json": document("a", first),
        "drive_1/b.json": document("b", []),
        "drive_2/c.json": document("c", odd, imageWidth=None),
    }
    return files | image_files("drive_1/a.png", "drive_1/b.png", "drive_2/c.png")


def bdd100k() -> Files:
    square = [[20, 5], [24, 5], [24, 15], [20, 15]]
    frames = [
        {
            "name": "a.png",
            "attributes": {"weather": "rainy", "timeofday": "night", "scene": "tunnel"},
            "labels": [
                {
                    "id": 3,
                    "category": "car",
                    "attributes": {"occluded": True, "truncated": False},
                    "box2d": {"x1": 2.5, "y1": 3, "x2": 12.5, "y2": 9},
                },
                {
                    "category": "person",
                    "attributes": {"crowd": False},
                    "poly2d": [{"vertices": square, "types": "LLLL", "closed": True}],
                },
                {"category": "lane", "poly2d": [{"vertices": square, "types": "LLLL", "closed": False}]},
            ],
        },
        {"name": "b.png", "labels": None},
        {
            "name": "c.png",
            "videoName": "clip",
            "frameIndex": 4,
            "size": {"width": 40, "height": 30},
            "labels": [
                {"category": "car", "rle": {"size": [30, 40], "counts": _counts(10, 12, 5, 9)}},
                {"category": "car", "box3d": {}},
                {"category": "car", "attributes": {"ignored": True}, "box2d": {"x1": 1, "y1": 1, "x2": 4, "y2": 4}},
            ],
        },
    ]
    content = b"\xef\xbb\xbf" + json.dumps({"frames": frames}).encode()
    return {"labels/all.json": content} | image_files("images/a.png", "images/b.png", "images/clip/c.png")


def _counts(x1: int, x2: int, y1: int, y2: int) -> str:
    mask = np.zeros((30, 40), np.uint8, order="F")
    mask[y1:y2, x1:x2] = 1
    return rle_tools.encode(mask)["counts"].decode()


def cityscapes() -> Files:
    def document(objects: list[tuple[str, list[list[int]]]]) -> bytes:
        records = [{"label": label, "polygon": polygon} for label, polygon in objects]
        return json.dumps({"imgHeight": 30, "imgWidth": 40, "objects": records}).encode()

    def block(x1: int, y1: int, x2: int, y2: int) -> list[list[int]]:
        return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]

    files = {
        "gtFine/train/ulm/ulm_000001_000019_gtFine_polygons.json": document(
            [
                ("road", block(0, 10, 39, 29)),
                ("car", block(2, 5, 21, 14)),
                ("person", block(25, 5, 27, 9)),
                ("car", block(12, 5, 31, 14)),
                ("license plate", block(20, 12, 22, 13)),
            ]
        ),
        "gtFine/train/ulm/ulm_000002_000019_gtFine_polygons.json": document([]),
        "gtFine/train/ulm/ulm_000003_000019_gtFine_polygons.json": document([("cargroup", block(-3, 4, 5, 8))]),
    }
    names = [f"leftImg8bit/train/ulm/ulm_00000{n}_000019_leftImg8bit.png" for n in (1, 2, 3)]
    return files | image_files(*names)


def mot() -> Files:
    files = {
        "M-01/gt/gt.txt": b"1,5,2.5,3,10,6,1,3,0.8\n1,6,20,5,4,10,1,1,1\n3,5,-4,3,10,6,1,3,0.5\n3,9,30,3,5,6,0,8,1\n",
        "M-01/seqinfo.ini": b"[Sequence]\nname=M-01\nimDir=img1\nseqLength=3\nimWidth=40\nimHeight=30\nimExt=.png\n",
    }
    return files | image_files("M-01/img1/000001.png", "M-01/img1/000002.png", "M-01/img1/000003.png")


def nuimages() -> Files:
    mask = {"size": [30, 40], "counts": base64.b64encode(_counts(20, 24, 5, 15).encode()).decode()}
    tables: dict[str, list[dict[str, object]]] = {
        "category": [{"token": "c1", "name": "vehicle.car"}, {"token": "c2", "name": "human.pedestrian.adult"}],
        "attribute": [{"token": "a1", "name": "vehicle.parked"}],
        "log": [{"token": "l1", "logfile": "n003-1", "location": "boston", "date_captured": "2018-01-02"}],
        "sample": [{"token": "s1", "log_token": "l1"}, {"token": "s2", "log_token": "l1"}],
        "sample_data": [
            {
                "token": f"d{number}",
                "sample_token": f"s{number}",
                "filename": f"samples/CAM_FRONT/{number}.png",
                "width": 40,
                "height": 30,
                "is_key_frame": number < 3,
                "timestamp": 1526000000000000,
            }
            for number in (1, 2, 3)
        ],
        "object_ann": [
            {
                "token": "o1",
                "category_token": "c1",
                "sample_data_token": "d1",
                "bbox": [2.5, 3, 12.5, 9],
                "attribute_tokens": ["a1"],
                "mask": None,
            },
            {"token": "o2", "category_token": "c2", "sample_data_token": "d1", "bbox": [20, 5, 24, 15], "mask": mask},
        ],
        "surface_ann": [{"token": "f1", "category_token": "c1", "sample_data_token": "d1"}],
    }
    files = {f"v1.0-mini/{name}.json": json.dumps(rows).encode() for name, rows in tables.items()}
    return files | image_files("samples/CAM_FRONT/1.png", "samples/CAM_FRONT/2.png", "sweeps/3.png")


def coco() -> Files:
    document = {
        "info": {"year": 2020},
        "licenses": [{"id": 1}],
        "categories": [{"id": 70, "name": "person"}, {"id": 3, "name": "car", "supercategory": "vehicle"}],
        "images": [
            {"id": 11, "file_name": "drive_1/a.png", "width": 40, "height": 30, "license": 1},
            {"id": 5, "file_name": "drive_1/b.png", "width": 40, "height": 30},
            {"id": 12, "file_name": "drive_2/c.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 11,
                "category_id": 3,
                "bbox": [2.5, 3, 10, 6],
                "area": 60,
                "iscrowd": 0,
                "score": 0.5,
            },
            {
                "id": 2,
                "image_id": 11,
                "category_id": 70,
                "bbox": [20, 5, 4, 10],
                "segmentation": [[20, 5, 24, 5, 24, 15, 20, 15]],
                "iscrowd": 0,
            },
            {
                "id": 3,
                "image_id": 12,
                "category_id": 70,
                "bbox": [10, 5, 2, 4],
                "segmentation": {"size": [30, 40], "counts": _counts(10, 12, 5, 9)},
                "iscrowd": 1,
            },
        ],
    }
    names = ("images/drive_1/a.png", "images/drive_1/b.png", "images/drive_2/c.png")
    return {"instances.json": json.dumps(document).encode()} | image_files(*names)
