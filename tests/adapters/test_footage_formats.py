"""The details of each format: flags, attributes, masks and errors."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import footage_trees as trees
import numpy as np
import pytest
from footage_trees import boxes, convert_tree, read_tree, write_tree

from drivetl.coco import masks
from drivetl.errors import DataError


def test_voc_keeps_flags_and_counts_what_it_clips(tmp_path: Path) -> None:
    dataset, account = convert_tree("voc", write_tree(tmp_path, trees.voc()))
    car = dataset.images[0].annotations[0]
    assert car.attributes["truncated"] == 0.4 and car.attributes["occluded"] == 1 and car.attributes["pose"] == "Left"
    assert account.clipped == 1 and account.dropped["zero width or height"] == 1
    assert boxes(dataset, "c.png") == [("car", (0.0, 4.0, 40.0, 5.0))]


def test_voc_instance_masks(tmp_path: Path) -> None:
    import io

    import numpy as np
    from PIL import Image

    from drivetl.adapters.voc import colour_index

    ids = np.zeros((30, 40), np.uint8)
    ids[3:9, 3:12] = 1
    palette = [128 * (n & 1) for n in (0, 1)]
    rgb = np.zeros((30, 40, 3), np.uint8)
    rgb[..., 0] = np.take(palette, ids)
    assert (colour_index(rgb) == ids).all()
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    root = write_tree(tmp_path, trees.voc() | {"SegmentationObject/a.png": buffer.getvalue()})
    dataset, _ = convert_tree("voc", root)
    car = dataset.images[0].annotations[0]
    assert car.segmentation is not None
    assert (masks.decode(car.segmentation, 30, 40) == ids).all() and car.area == 54


def test_voc_takes_missing_sizes_from_the_image(tmp_path: Path) -> None:
    files = trees.voc()
    files["Annotations/a.xml"] = files["Annotations/a.xml"].replace(b"<width>40</width>", b"<width>0</width>")
    dataset, _ = convert_tree("voc", write_tree(tmp_path, files))
    assert (dataset.images[0].width, dataset.images[0].height) == trees.SIZE


def test_labelme_joins_groups_and_counts_parts(tmp_path: Path) -> None:
    dataset, account = convert_tree("labelme", write_tree(tmp_path, trees.labelme()))
    person = dataset.images[0].annotations[1]
    assert isinstance(person.segmentation, list) and len(person.segmentation) == 2
    assert person.attributes["group_id"] == 1 and dataset.images[0].attributes["night"] is True
    assert account.dropped == {"a part of an object that several shapes make (group_id)": 1, "lines enclose nothing": 1}
    (car,) = dataset.images[2].annotations
    assert car.area == pytest.approx(3.14159 * 25, rel=0.08)  # the circle, in pixels


def test_labelme_masks_are_images_at_their_first_point(tmp_path: Path) -> None:
    """As LabelMe's AI tools write them: a box and a PNG of its content in base64."""
    files = trees.labelme()
    document = json.loads(files["drive_1/a.json"])
    crop = np.zeros((4, 5), np.uint8)
    crop[1:3, 1:4] = 255

    def shape(points: list[list[float]], mask: object) -> dict[str, object]:
        return {"label": "car", "shape_type": "mask", "points": points, "mask": mask}

    png = base64.b64encode(cv2.imencode(".png", crop)[1].tobytes()).decode()
    empty = base64.b64encode(cv2.imencode(".png", crop * 0)[1].tobytes()).decode()
    corners = [[10.0, 20.0], [14.0, 23.0]]
    document["shapes"] = [shape(corners, png), shape(corners, empty)]
    root = write_tree(tmp_path, {"a.json": json.dumps(document).encode(), "a.png": trees.blank_png()})
    dataset, account = convert_tree("labelme", root)
    (item,) = dataset.images[0].annotations
    expected = np.zeros((30, 40), np.uint8)
    expected[21:23, 11:14] = 1
    assert np.array_equal(masks.decode(item.segmentation, 30, 40), expected)
    assert (item.bbox_xywh, item.area) == ((11, 21, 3, 2), 6)
    assert account.dropped == {"an empty mask": 1}
    for points, mask, reason in [
        ([[37.0, 20.0], [41.0, 23.0]], png, "mask of shapes[0] is not inside the image"),
        (corners, "iVBORw0KGgo=", "mask of shapes[0] is not a usable image"),
        (corners, "", "mask of shapes[0] is not a usable image"),
        (corners, "A", "mask of shapes[0] is not base64"),
        (corners, None, "mask of shapes[0] is None, not a text"),
    ]:
        document["shapes"] = [shape(points, mask)]
        (root / "a.json").write_text(json.dumps(document))
        with pytest.raises(DataError, match=re.escape(reason)):
            convert_tree("labelme", root)


def test_labelme_shape_types_that_are_not_texts_are_errors(tmp_path: Path) -> None:
    document = json.loads(trees.labelme()["drive_1/a.json"])
    document["shapes"][0]["shape_type"] = [[]]
    root = write_tree(tmp_path, {"a.json": json.dumps(document).encode(), "a.png": trees.blank_png()})
    with pytest.raises(DataError, match=re.escape("shape_type of shapes[0] is [[]], not a text")):
        convert_tree("labelme", root)


def test_labelme_reads_windows_paths_and_refuses_paths_outside_the_root(tmp_path: Path) -> None:
    files = trees.labelme()
    files["labels/a.json"] = files.pop("drive_1/a.json").replace(b'"a.png"', b'"..\\\\drive_1\\\\a.png"')
    source, _ = read_tree("labelme", write_tree(tmp_path / "one", files))
    assert source.images[0].file_name == "drive_1/a.png"
    files["labels/a.json"] = files["labels/a.json"].replace(b"drive_1", b"..\\\\..\\\\etc").replace(b"a.png", b"z.png")
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match="leaves its folder"):
        files.pop("drive_1/a.png")
        read_tree("labelme", write_tree(tmp_path / "two", files))


def test_bdd_attributes_ignore_and_reasons(tmp_path: Path) -> None:
    dataset, account = convert_tree("bdd100k", write_tree(tmp_path, trees.bdd100k()))
    first, last = dataset.images[0], dataset.images[2]
    assert first.attributes == {"weather": "rainy", "timeofday": "night", "scene": "tunnel"}
    assert first.annotations[0].attributes["occluded"] is True and first.annotations[0].attributes["track_id"] == "3"
    assert (last.drive, last.frame_index, last.file_name) == ("clip", 4, "clip/c.png")
    assert last.annotations[0].bbox_xywh == (10, 5, 2, 4) and last.annotations[0].area == 8
    assert len(last.ignore_regions) == 1
    assert account.dropped == {"an open line encloses nothing": 1, "a 3D box alone": 1}


def test_bdd_first_release_files(tmp_path: Path) -> None:
    corners = [[20, 5, "L"], [24, 5, "L"], [24, 15, "L"], [20, 15, "L"]]
    objects = [
        {"category": "car", "id": 0, "box2d": {"x1": 1, "y1": 2, "x2": 9, "y2": 8}},
        {"category": "area/drivable", "poly2d": corners},
        {"category": "lane/road curb", "poly2d": corners},
    ]
    document = {"name": "a", "attributes": {"weather": "clear"}, "frames": [{"timestamp": 10000, "objects": objects}]}
    root = write_tree(tmp_path, {"a.json": json.dumps(document).encode(), "a.jpg": trees.blank_png()})
    dataset, account = convert_tree("bdd100k", root)
    assert boxes(dataset, "a.jpg") == [("area/drivable", (20, 5, 4, 10)), ("car", (1, 2, 8, 6))]
    assert account.dropped == {"an open line encloses nothing": 1}


def test_cityscapes_keeps_what_is_visible(tmp_path: Path) -> None:
    dataset, account = convert_tree("cityscapes", write_tree(tmp_path, trees.cityscapes()))
    assert dataset.categories == ("car", "license plate", "road")  # the person is hidden
    first, _, third = dataset.images
    assert (first.drive, first.frame_index, first.attributes["city"]) == ("ulm_000001", 19, "ulm")
    cars = [item for item in first.annotations if item.category_id == 1]
    # the rear car spans pixels 2..21, the front one hides it from 12 on; the plate hides nothing of its car
    assert [item.bbox_xywh for item in cars] == [(2, 5, 10, 10), (12, 5, 20, 10)]
    assert [item.area for item in cars] == [100, 200]
    assert account.dropped == {"hidden completely behind later polygons": 1}  # the person
    assert [region.bbox_xywh for region in third.ignore_regions] == [(0, 4, 6, 5)]


def test_mot_frames_and_flags(tmp_path: Path) -> None:
    dataset, account = convert_tree("mot", write_tree(tmp_path, trees.mot()))
    assert [image.frame_index for image in dataset.images] == [1, 2, 3]
    assert dataset.images[0].annotations[0].attributes["track_id"] == 5
    assert account.ignored == {"distractor marked ignore by the source": 1} and account.clipped == 1


def test_nuimages_joins_its_tables(tmp_path: Path) -> None:
    dataset, account = convert_tree("nuimages", write_tree(tmp_path, trees.nuimages()))
    assert len(dataset.images) == 2  # the sweep is not a keyframe
    first = dataset.images[0]
    assert first.drive == "n003-1"
    assert first.attributes["location"] == "boston" and first.attributes["camera"] == "CAM_FRONT"
    assert first.attributes["time_utc"].startswith("2018-05-1")
    assert first.annotations[0].attributes["vehicle"] == "parked" and first.annotations[1].area == 40
    assert account.dropped == {"a surface, no object": 1}


def test_coco_keeps_unknown_keys_and_renumbers_ids(tmp_path: Path) -> None:
    dataset, _ = convert_tree("coco", write_tree(tmp_path, trees.coco()))
    assert dataset.categories == ("car", "person")
    first, _, last = dataset.images
    assert first.extra == {"license": 1, "source_id": 11}
    assert first.annotations[0].extra == {"score": 0.5, "source_id": 1}
    assert last.ignore_regions[0].category_ids == (2,) and last.ignore_regions[0].area == 8


def test_coco_takes_text_ids(tmp_path: Path) -> None:
    text = trees.coco()["instances.json"].decode()
    for old, new in (('"id": 11', '"id": "x11"'), ('"image_id": 11', '"image_id": "x11"')):
        text = text.replace(old, new)
    dataset, _ = convert_tree("coco", write_tree(tmp_path, trees.coco() | {"instances.json": text.encode()}))
    assert len(dataset.images[0].annotations) == 2


def test_yolo_counts_and_lists_repeated_and_empty_rows(tmp_path: Path) -> None:
    dataset, account = convert_tree("yolo", write_tree(tmp_path, trees.yolo()))
    assert len(dataset.images[2].annotations) == 1
    assert account.dropped == {"repeated row": 1, "row of zero size": 1}
    assert account.notes == {"repeated row: labels/drive_2/c.txt:2": 1, "row of zero size: labels/drive_2/c.txt:3": 1}


def test_yolo_sizes_differ_from_image_to_image(tmp_path: Path) -> None:
    files = trees.yolo() | {"images/drive_2/c.png": trees.blank_png((100, 50))}
    dataset, _ = convert_tree("yolo", write_tree(tmp_path, files))
    assert boxes(dataset, "drive_2/c.png") == [("car", (40, 20, 20, 10))]


def test_yolo_visible_masks(tmp_path: Path) -> None:
    rows = "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n1 0.3 0.2 0.7 0.2 0.7 0.6 0.3 0.6\n0 0.5 0.5 0.1 0.1\n"
    root = write_tree(tmp_path, trees.yolo() | {"labels/drive_1/a.txt": rows.encode()})
    dataset, _ = convert_tree("yolo", root, visible_masks=True)
    assert boxes(dataset, "drive_1/a.png") == [
        ("car", (4, 6, 8, 12)),
        ("car", (12, 6, 16, 12)),
        ("person", (18, 13.5, 4, 3)),
    ]


def test_yolo_edges_rounded_by_six_decimals_are_not_clipped(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.yolo() | {"labels/drive_1/a.txt": b"1 0.133333 0.300000 0.266667 0.200000\n"})
    dataset, account = convert_tree("yolo", root)
    assert account.clipped == 0 and dataset.images[0].annotations[0].bbox_xywh[0] == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"9 0.5 0.5 0.1 0.1", "class '9' has no name"),
        (b"1 320 240 50 50", "is not a fraction"),
        (b"1 0.5 0.5 0.1", "neither box nor polygon"),
        (b"1 0.5 0.5 0.1 0.1 0.9", "prediction"),
        (b"1 0.5 0.5 -0.1 0.1", "negative"),
        (b"1 0.5 nan 0.1 0.1", "a column is 'nan'"),
    ],
)
def test_yolo_errors_name_file_and_line(row: bytes, message: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.yolo() | {"labels/drive_1/a.txt": b"0 0.5 0.5 0.1 0.1\n" + row + b"\n"})
    with pytest.raises(DataError, match=message) as caught:
        read_tree("yolo", root)
    assert str(caught.value.file).endswith("labels/drive_1/a.txt") and caught.value.line == 2
    _, account = convert_tree("yolo", root, on_error="skip")
    assert sum(account.rejected.values()) == 1 and len(account.rejections) == 1


def test_yolo_label_without_its_image(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.yolo() | {"labels/drive_1/z.txt": b"1 0.5 0.5 0.1 0.1\n", "notes.txt": b"hello"})
    with pytest.raises(DataError, match="without an image"):
        read_tree("yolo", root)
    _, account = convert_tree("yolo", root, on_error="skip")
    assert account.rejected == {"label file without an image": 1}


@pytest.mark.parametrize(
    ("shape", "keypoints"),
    [("[4, 2]", "0.44 0.64 0.5 0.6 0.45 0.5 0.5 0.5"), ("[1, 2]", "0.5 0.5"), ("[1, 3]", "0 0 2")],
)
def test_yolo_pose_rows_are_boxes_with_counted_keypoints(shape: str, keypoints: str, tmp_path: Path) -> None:
    rows = f"1 0.1875 0.2 0.25 0.2 {keypoints}\n0 0.55 0.333333 0.1 0.333333\n".encode()
    files = trees.yolo() | {
        "labels/drive_1/a.txt": rows,
        "data.yaml": f"names: [person, car]\nkpt_shape: {shape}".encode(),
    }
    dataset, account = convert_tree("yolo", write_tree(tmp_path, files))
    assert boxes(dataset, "drive_1/a.png")[0] == ("car", (2.5, 3, 10, 6))
    assert account.notes["keypoints of pose labels, not read"] == 1
    files["labels/drive_1/a.txt"] += b"1 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4\n"
    if shape != "[4, 2]":
        with pytest.raises(DataError, match="kpt_shape"):
            read_tree("yolo", write_tree(tmp_path, files))


def test_yolo_rows_that_look_like_pose_rows_are_listed(tmp_path: Path) -> None:
    pose = b"1 0.5 0.6 0.2 0.1 0.44 0.64 0.56 0.64 0.45 0.56 0.55 0.56 0 0\n"
    _, account = read_tree("yolo", write_tree(tmp_path, trees.yolo() | {"labels/drive_1/a.txt": pose}))
    assert any("look like pose rows" in note for note in account.notes)


def two_exports(*more: tuple[str, bytes]) -> trees.Files:
    exports = {"site_a": b"names: [car, person]", "site_b": b"names: {0: person, 1: car}"}
    files: trees.Files = {f"{site}/data.yaml": names for site, names in exports.items()}
    files |= {f"{site}/labels/{site}.txt": b"0 0.5 0.5 0.2 0.2\n" for site in exports}
    return files | {f"{site}/images/{site}.png": trees.blank_png() for site in exports} | dict(more)


def test_yolo_exports_under_one_root_use_their_own_names(tmp_path: Path) -> None:
    dataset, _ = convert_tree("yolo", write_tree(tmp_path, two_exports()))
    labels = {image.file_name: image.annotations[0].attributes["source_label"] for image in dataset.images}
    assert labels == {"site_a/images/site_a.png": "car", "site_b/images/site_b.png": "person"}


@pytest.mark.parametrize("other", ["data.yaml", "site_b/classes.txt", "site_a/labels/classes.txt"])
def test_yolo_names_that_disagree_name_both_files(other: str, tmp_path: Path) -> None:
    names = b"names: [bus]" if other.endswith("yaml") else b"bus"
    with pytest.raises(DataError, match="names other classes") as caught:
        read_tree("yolo", write_tree(tmp_path, two_exports((other, names))))
    assert other in str(caught.value) and "site_" in str(caught.value)


def test_yolo_images_without_any_label_file_are_an_error(tmp_path: Path) -> None:
    files = {name: content for name, content in trees.yolo().items() if not name.startswith("labels")}
    with pytest.raises(DataError, match="contains no label file"):
        read_tree("yolo", write_tree(tmp_path, files))


CORNERS = ((1, 2, 4), (2, 6, 5), (3, 6, 6))
POLYGON = "<polygon>" + "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, x, y in CORNERS) + "</polygon>"


@pytest.mark.parametrize(
    ("extra", "segmentation", "note"),
    [
        (POLYGON, [[2, 4, 6, 5, 6, 6]], ""),
        ("<polygon><pt><x>2</x><y>4</y></pt></polygon>", None, "<polygon> elements without three readable points"),
        ("<robot><x>1</x></robot>", None, "<robot> elements, not read"),
    ],
)
def test_voc_polygons_are_read_and_unknown_elements_counted(
    extra: str, segmentation: object, note: str, tmp_path: Path
) -> None:
    xml = trees.voc()["Annotations/a.xml"].replace(b"</bndbox>", f"</bndbox>{extra}".encode(), 1)
    dataset, account = convert_tree("voc", write_tree(tmp_path, trees.voc() | {"Annotations/a.xml": xml}))
    assert dataset.images[0].annotations[0].segmentation == segmentation
    assert any(note in text for text in [*account.notes, ""])


def test_voc_rotation_of_cvat_is_enclosed(tmp_path: Path) -> None:
    turned = b"</bndbox><attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    xml = trees.voc()["Annotations/a.xml"].replace(b"</bndbox>", turned, 1)
    root = write_tree(tmp_path, trees.voc() | {"Annotations/a.xml": xml})
    dataset, account = convert_tree("voc", root)
    assert boxes(dataset, "a.png") == [("car", (4.5, 1, 6, 10))]
    assert account.notes["rotated boxes, each enclosed by its upright box"] == 1
    with pytest.raises(DataError, match="rotated by 90 degrees"):
        read_tree("voc", root, rotated="refuse")


@pytest.mark.parametrize("flag", ["true", "1", '"1"', '"true"'])
def test_ignore_flags_as_number_or_text_are_ignore_regions(flag: str, tmp_path: Path) -> None:
    content = trees.bdd100k()["labels/all.json"].replace(b'"crowd": false', f'"crowd": {flag}'.encode())
    dataset, _ = convert_tree("bdd100k", write_tree(tmp_path, trees.bdd100k() | {"labels/all.json": content}))
    assert [item.attributes["source_label"] for item in dataset.images[0].ignore_regions] == ["person"]


def test_an_open_line_may_be_marked_by_a_number(tmp_path: Path) -> None:
    content = trees.bdd100k()["labels/all.json"].replace(b'"closed": false', b'"closed": 0')
    _, account = convert_tree("bdd100k", write_tree(tmp_path, trees.bdd100k() | {"labels/all.json": content}))
    assert account.dropped["an open line encloses nothing"] == 1


def test_labelme_labels_may_be_numbers(tmp_path: Path) -> None:
    content = trees.labelme()["drive_1/a.json"].replace(b'"label": "car"', b'"label": 0')
    source, _ = read_tree("labelme", write_tree(tmp_path, trees.labelme() | {"drive_1/a.json": content}))
    assert source.taxonomy.categories[0] == "0"


def test_yolo_names_are_texts_as_written(tmp_path: Path) -> None:
    files = trees.yolo() | {"data.yaml": b"names: [true, 07]"}
    source, _ = read_tree("yolo", write_tree(tmp_path, files))
    assert source.taxonomy.categories == ("07", "true")


def test_yolo_without_names_uses_the_class_numbers(tmp_path: Path) -> None:
    files = trees.yolo()
    del files["data.yaml"]
    source, account = read_tree("yolo", write_tree(tmp_path, files))
    assert source.taxonomy.categories == ("0", "1")
    assert any("no class names" in note for note in account.notes)


def test_a_damaged_image_is_an_error_or_rejected_with_its_objects(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.voc() | {"JPEGImages/c.png": b"not an image"})
    with pytest.raises(DataError, match=r"not a readable image|cannot be read"):
        read_tree("voc", root)
    dataset, account = convert_tree("voc", root, on_error="skip")
    assert len(dataset.images) == 2 and sum(account.rejected.values()) == 2
