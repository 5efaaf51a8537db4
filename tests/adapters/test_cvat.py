"""CVAT: images, tracks, masks, tags and attributes."""

from __future__ import annotations

from pathlib import Path

import footage_trees as trees
import pytest
from footage_trees import boxes, convert_tree, read_tree, write_tree

from drivetl.coco import masks
from drivetl.errors import DataError


def video(tmp_path: Path, shapes: str, meta: str = "") -> Path:
    """A video export with one car track."""
    size = "<original_size><width>40</width><height>30</height></original_size>"
    text = f"<annotations><meta><task><id>1</id><name>clip</name>{meta}{size}</task></meta><track id='4' label='car'>"
    return write_tree(tmp_path, {"annotations.xml": f"{text}{shapes}</track></annotations>".encode()})


def box(frame: int, x: float, *, outside: int = 0) -> str:
    return f"<box frame='{frame}' outside='{outside}' keyframe='1' xtl='{x}' ytl='2' xbr='{x + 10}' ybr='8'/>\n"


def by_frame(root: Path, **options: str) -> dict[int | None, list[float]]:
    """frame -> left edges of its boxes."""
    dataset, _ = convert_tree("cvat", root, **options)
    return {image.frame_index: [item.bbox_xywh[0] for item in image.annotations] for image in dataset.images}


def test_attributes_tags_and_clips(tmp_path: Path) -> None:
    dataset, account = convert_tree("cvat", write_tree(tmp_path, trees.cvat_images()))
    first = dataset.images[0]
    assert first.drive == "drive_1" and first.attributes == {"weather": "fog", "night": True}
    car = first.annotations[0]
    assert car.attributes == {"source_label": "car", "parked": True, "speed": 2.5, "occluded": 1, "z_order": 2}
    assert account.dropped == {"a polyline encloses nothing": 1, "points enclose nothing": 1}


@pytest.mark.parametrize(
    ("shape", "box_xywh"),
    [
        ("<ellipse label='car' cx='20' cy='15' rx='8' ry='4'/>", (12, 11, 16, 8)),
        ("<ellipse label='car' cx='20' cy='15' rx='8' ry='4' rotation='90'/>", (16, 7, 8, 16)),
        (
            "<cuboid label='car' xtl1='5' ytl1='6' xbl1='5' ybl1='20' xtr1='15' ytr1='6' xbr1='15' ybr1='20'"
            " xtl2='9' ytl2='4' xbl2='9' ybl2='17' xtr2='19' ytr2='4' xbr2='19' ybr2='17'/>",
            (5, 4, 14, 16),
        ),
    ],
)
def test_ellipses_and_cuboids_are_enclosed(shape: str, box_xywh: tuple[float, ...], tmp_path: Path) -> None:
    text = f"<annotations><image id='0' name='a.png' width='40' height='30'>{shape}</image></annotations>"
    dataset, account = convert_tree("cvat", write_tree(tmp_path, {"a.xml": text.encode(), "a.png": trees.blank_png()}))
    assert dataset.images[0].annotations[0].bbox_xywh == pytest.approx(box_xywh) and not account.dropped


def test_rle_mask_is_row_major_in_its_crop(tmp_path: Path) -> None:
    dataset, _ = convert_tree("cvat", write_tree(tmp_path, trees.cvat_images()))
    masked = dataset.images[2].annotations[0]
    assert masked.segmentation is not None
    mask = masks.decode(masked.segmentation, 30, 40)
    # runs 1, 2, 2, 3 of a 4 x 2 crop at (10, 4): .##. / .###
    assert mask[4:6, 10:14].tolist() == [[0, 1, 1, 0], [0, 1, 1, 1]]
    assert mask.sum() == 5 == masked.area and masked.bbox_xywh == (11, 4, 3, 2)


def test_rotated_boxes_are_enclosed_and_counted_or_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.cvat_images())
    dataset, account = convert_tree("cvat", root)
    assert boxes(dataset, "drive_2/000000.png")[0] == ("car", (11, 4, 3, 2))
    assert boxes(dataset, "drive_2/000000.png")[1] == ("car", (13, 7, 4, 10))  # 10 x 4, rotated by 90 degrees
    assert account.notes["rotated boxes, each enclosed by its upright box"] == 1
    with pytest.raises(DataError, match="rotated by 90 degrees") as caught:
        read_tree("cvat", root, rotated="refuse")
    assert caught.value.line == 21


def test_video_frames_step_and_interpolation(tmp_path: Path) -> None:
    dataset, account = convert_tree("cvat", write_tree(tmp_path, trees.cvat_video()))
    assert [image.frame_index for image in dataset.images] == [10, 12, 14, 16]
    assert next(image.file_name for image in dataset.images) == "tunnel/000010.jpg"
    assert {image.drive for image in dataset.images} == {"tunnel"}
    assert boxes(dataset, "tunnel/000012.jpg") == [("car", (4, 2, 10, 8)), ("person", (20, 5, 4, 10))]
    assert dataset.images[1].annotations[0].attributes["interpolated"] is True
    assert boxes(dataset, "tunnel/000016.jpg") == []  # outside
    assert account.dropped == {"skeletons are not converted": 1}


def test_nothing_is_interpolated_while_a_track_is_outside(tmp_path: Path) -> None:
    shapes = box(0, 0) + box(2, 4, outside=1) + box(5, 10) + box(7, 14)
    edges = by_frame(video(tmp_path, shapes, "<size>10</size>"))
    assert edges == {0: [0], 1: [2], 2: [], 3: [], 4: [], 5: [10], 6: [12], 7: [14], 8: [], 9: []}


def test_nothing_is_interpolated_over_a_broken_keyframe(tmp_path: Path) -> None:
    shapes = box(0, 0) + box(2, 4).replace("xtl='4'", "xtl='nan'") + box(4, 8)
    root = video(tmp_path, shapes, "<size>5</size>")
    with pytest.raises(DataError, match="xtl is 'nan'"):
        read_tree("cvat", root)
    dataset, account = convert_tree("cvat", root, on_error="skip")
    assert [len(image.annotations) for image in dataset.images] == [1, 0, 0, 0, 1]
    assert sum(account.rejected.values()) == 1


def test_jobs_cover_their_own_frames(tmp_path: Path) -> None:
    meta = (
        "<size>100</size><start_frame>5</start_frame><stop_frame>302</stop_frame><frame_filter>step=3</frame_filter>"
        "<segments><segment><id>1</id><start>10</start><stop>12</stop></segment></segments>"
    )
    assert by_frame(video(tmp_path, box(38, 1), meta)) == {35: [], 38: [1], 41: []}


def test_frames_are_found_by_their_number(tmp_path: Path) -> None:
    root = write_tree(
        video(tmp_path, box(0, 0), "<size>2</size>"),
        {"images/frame_000000.png": trees.blank_png(), "images/frame_000001.png": trees.blank_png()},
    )
    source, account = read_tree("cvat", root)
    assert [image.file_name for image in source.images] == ["frame_000000.png", "frame_000001.png"]
    assert not account.notes


def test_polygons_of_equal_length_are_interpolated(tmp_path: Path) -> None:
    shapes = (
        "<polygon frame='0' outside='0' points='0,0;4,0;4,4'/><polygon frame='2' outside='0' points='4,2;8,2;8,6'/>"
        "<polygon frame='4' outside='0' points='4,2;8,2;8,6;4,6'/>"
    )
    dataset, _ = convert_tree("cvat", video(tmp_path, shapes, "<size>5</size>"))
    rings = [image.annotations[0].segmentation for image in dataset.images]
    assert rings[1] == [[2, 1, 6, 1, 6, 5]]
    assert rings[3] == rings[2] == [[4, 2, 8, 2, 8, 6]]  # another number of corners: held


def test_too_large_frame_numbers_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="frames from"):
        read_tree("cvat", video(tmp_path, box(0, 0), "<stop_frame>99999999999</stop_frame>"))


def project(tmp_path: Path, *, saved: bool, frame: int = 17) -> Path:
    """A project export of three videos: `b` follows `a` in subset day, `c` is alone in subset night."""
    tasks = "".join(
        f"<task><id>{number}</id><name>{name}</name><size>{size}</size><mode>interpolation</mode>"
        f"<subset>{subset}</subset><start_frame>{start}</start_frame><stop_frame>{start + 2 * size - 1}</stop_frame>"
        "<frame_filter>step=2</frame_filter>"
        "<original_size><width>40</width><height>30</height></original_size></task>"
        for number, name, size, subset, start in (
            (10, "b", 3, "day", 5),
            (9, "a", 4, "day", 2),
            (11, "c", 2, "night", 0),
        )
    )
    # a: frames 2, 4, 6, 8; b: 5, 7, 9 in the video, numbered from 2 + 2 * 4 = 10 on, so 15, 17, 19; c: 0, 2
    tracks = "".join(
        f"<track id='{task}' label='car' task_id='{task}' subset='x'>{box(number, x)}</track>"
        for task, number, x in ((9, 4, 1), (10, frame, 2), (11, 2, 3))
    )
    text = f"<annotations><meta><project><tasks>{tasks}</tasks></project></meta>{tracks}</annotations>"
    running = {"day": (2, 4, 6, 8, 15, 17, 19), "night": (0, 2)}
    own = {"a": (2, 4, 6, 8), "b": (5, 7, 9), "c": (0, 2)}
    names = [f"{subset}/frame_{number:06d}.PNG" for subset, numbers in running.items() for number in numbers]
    if not saved:
        names = [f"{name}/{number:06d}.png" for name, numbers in own.items() for number in numbers]
    files = {f"images/{name}": trees.blank_png() for name in names}
    return write_tree(tmp_path, {"annotations.xml": text.encode()} | files)


@pytest.mark.parametrize(
    ("saved", "labelled"),
    [
        (False, {"a/000004.png": 1, "b/000007.png": 2, "c/000002.png": 3}),
        (True, {"day/frame_000004.PNG": 1, "day/frame_000017.PNG": 2, "night/frame_000002.PNG": 3}),
    ],
)
def test_a_project_numbers_the_frames_of_a_subset_consecutively(
    saved: bool, labelled: dict[str, float], tmp_path: Path
) -> None:
    dataset, account = convert_tree("cvat", project(tmp_path, saved=saved))
    boxed = {image.file_name: image.annotations[0].bbox_xywh[0] for image in dataset.images if image.annotations}
    assert boxed == labelled and len(dataset.images) == 9 and not account.notes
    assert [image.frame_index for image in dataset.images if image.drive == "b"] == [5, 7, 9]


def test_image_exports_of_videos_name_frames_without_suffix_by_subset(tmp_path: Path) -> None:
    images = "".join(
        f"<image id='{n}' name='frame_00000{n}' subset='{subset}' width='40' height='30'/>"
        for subset in ("day", "night")
        for n in (0, 1)
    )
    text = f"<annotations><meta><project><subsets>day\nnight</subsets></project></meta>{images}</annotations>"
    files = {f"images/{subset}/frame_00000{n}.PNG": trees.blank_png() for subset in ("day", "night") for n in (0, 1)}
    source, account = read_tree("cvat", write_tree(tmp_path, {"annotations.xml": text.encode()} | files))
    assert [f"images/{image.file_name}" for image in source.images] == sorted(files) and not account.notes


def test_a_project_frame_outside_its_task_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="frame 7 is not in task 'b', whose frames are numbered from 15"):
        convert_tree("cvat", project(tmp_path, saved=False, frame=7))


def test_tasks_of_a_project_are_drives(tmp_path: Path) -> None:
    tasks = "".join(f"<task><id>{n}</id><name>drive {n}</name></task>" for n in (1, 2))
    image = "<image id='0' name='a{n}.png' task_id='{n}' subset='S{n}' width='40' height='30'/>"
    text = f"<annotations><meta><project><tasks>{tasks}</tasks><subsets>S1\nS2</subsets></project></meta>"
    text += "".join(image.format(n=n) for n in (1, 2)) + "</annotations>"
    source, _ = read_tree("cvat", write_tree(tmp_path, {"annotations.xml": text.encode()}))
    assert [(image.file_name, image.drive) for image in source.images] == [
        ("S1/a1.png", "drive 1"),
        ("S2/a2.png", "drive 2"),
    ]


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b"<annotations>\n<image id='0' name='a.png' width='4'", "not valid XML", 2),
        (b"<annotations>\n<image id='0' name='a.png' width='4'/></annotations>", "no attribute 'height'", 2),
        (b"<other/>", "contains no CVAT file", None),
        (b"<annotations>" + b"<a>" * 90, "nested deeper", 1),
        (b"\xff\xfe\x00", "not valid XML", 1),
        (b"", "not valid XML", 1),
        (b"<!DOCTYPE l [<!ENTITY a 'b'>]><annotations>&a;</annotations>", "declares entities", 1),
    ],
)
def test_errors_name_file_and_line(content: bytes, message: str, line: int | None, tmp_path: Path) -> None:
    write_tree(tmp_path, {"annotations.xml": content})
    with pytest.raises(DataError, match=message) as caught:
        read_tree("cvat", tmp_path)
    assert caught.value.line == line and caught.value.file is not None


def test_nested_entities_are_an_error(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<annotations>&b;</annotations>'
    path = tmp_path / "annotations.xml"
    path.write_text(bomb)
    with pytest.raises(DataError, match="declares entities"):
        read_tree("cvat", path)


def test_only_extracted_frames_become_images(tmp_path: Path) -> None:
    root = write_tree(
        video(tmp_path, box(0, 0) + box(4, 8), "<size>5</size>"), {"images/clip/000002.png": trees.blank_png()}
    )
    dataset, account = convert_tree("cvat", root)
    assert [image.file_name for image in dataset.images] == ["clip/000002.png"]
    assert boxes(dataset, "clip/000002.png") == [("car", (4, 2, 10, 6))]  # between two labelled frames
    assert account.dropped == {"on a frame that was not extracted": 4}


@pytest.mark.parametrize("broken", [b"", b"<?xml version='1.0'?>\n&\n<annotations/>"])
def test_a_broken_file_next_to_a_good_one_is_an_error(broken: bytes, tmp_path: Path) -> None:
    good = b"<annotations><image id='0' name='a.png' width='40' height='30'/></annotations>"
    root = write_tree(tmp_path, {"good.xml": good, "other.xml": b"<log/>", "z.xml": broken})
    with pytest.raises(DataError, match="not valid XML") as caught:
        read_tree("cvat", root)
    assert caught.value.file == root / "z.xml"
    dataset, account = convert_tree("cvat", root, on_error="skip")
    assert [image.file_name for image in dataset.images] == ["a.png"]
    assert account.notes["label files or images left out because they cannot be read"] == 1


def test_frames_of_another_drive_are_not_used(tmp_path: Path) -> None:
    root = video(tmp_path, box(0, 0), "<size>2</size><source>v.mp4</source>")
    write_tree(tmp_path, {"images/other/000000.png": trees.blank_png()})
    with pytest.raises(DataError, match=r"drive 'v'; folders are 'other'") as caught:
        read_tree("cvat", root)
    assert caught.value.file == root / "annotations.xml"
    _, account = read_tree("cvat", root, images=root / "images" / "other")  # the user names the folder of the frames
    assert not account.notes.keys() - {"labelled frames that were not extracted, left out with their objects"}


@pytest.mark.parametrize("folder", ["v", "clip", "annotations", "train"])
def test_a_folder_of_frames_may_have_the_name_of_video_task_or_file(folder: str, tmp_path: Path) -> None:
    root = video(tmp_path, box(0, 0), "<size>1</size><source>v.mp4</source>")
    source, _ = read_tree("cvat", write_tree(root, {f"images/{folder}/000000.png": trees.blank_png()}))
    assert [(image.file_name, image.drive) for image in source.images] == [(f"{folder}/000000.png", "v")]


@pytest.mark.parametrize(
    ("first", "last", "middle", "degrees"),
    [(0, 90, (84.853, 84.853), 45), (350, 10, (100, 20), 0), (10, 350, (100, 20), 0), (90, 90, (20, 100), 90)],
)
def test_a_rotated_box_turns_by_the_smaller_angle(
    first: float, last: float, middle: tuple[float, float], degrees: float, tmp_path: Path
) -> None:
    shape = "<box frame='{}' outside='0' xtl='50' ytl='90' xbr='150' ybr='110' rotation='{}'/>"
    root = video(tmp_path, shape.format(0, first) + shape.format(2, last), "<size>3</size>")
    path = root / "annotations.xml"
    path.write_text(
        path.read_text().replace("<width>40</width><height>30</height>", "<width>200</width><height>200</height>")
    )
    dataset, _ = convert_tree("cvat", root)
    item = dataset.images[1].annotations[0]
    assert item.bbox_xywh[2:] == pytest.approx(middle, abs=1e-3)
    assert item.attributes["rotation"] == pytest.approx(degrees)
    assert item.attributes["unrotated_box_xyxy"] == [50, 90, 150, 110]
