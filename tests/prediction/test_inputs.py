"""What can be named on the command line, and what is said about everything else, without torch."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from planted import CLASSES, planted_dataset

from drivetl.errors import ConfigError, DataError
from drivetl.files.video import video_writer
from drivetl.prediction.inputs import VideoInput, find_input, has_labels


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images in two folders, a video and a dataset."""
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/2.jpg", "b/3.png"):
        Path(name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(name, np.full((20, 30, 3), 90, np.uint8))
    Path("a/notes.txt").write_text("no image")
    with video_writer(Path("drive.webm"), 32, 20, 10, "vp8") as write:
        for _ in range(3):
            write(np.full((20, 32, 3), 90, np.uint8))
    planted_dataset(tmp_path / "planted", n_images=2)
    return tmp_path


def named(*sources, **options):
    found = find_input(sources, CLASSES, **options)
    return sorted(str(found.images_root / image.file_name) for image in found.images)


def test_images_folders_and_globs(place):
    one, two, three = (str(place / name) for name in ("a/1.png", "a/2.jpg", "b/3.png"))
    assert named("a/1.png") == [one]
    assert named("b/3.png", "a/1.png", "a/1.png", str(place / "a" / "1.png")) == [one, three]
    assert find_input(["a"], CLASSES).images_root == Path("a")
    assert [path.rsplit("/", 1)[1] for path in named("a")] == ["1.png", "2.jpg"]
    assert named("a", "b/3.png") == named("[ab]/**/*.*g") == named("?") == [one, two, three]
    assert named("*/*.png") == [one, three]
    found = find_input(["*/*.png"], CLASSES)
    assert [(image.id, image.file_name) for image in found.images] == [(1, "a/1.png"), (2, "b/3.png")]
    assert found.categories == CLASSES and not has_labels(found)


def test_a_folder_whose_name_is_a_pattern_is_a_folder(place):
    (place / "[a]").mkdir()
    assert cv2.imwrite("[a]/1.png", np.zeros((9, 9, 3), np.uint8))
    assert len(find_input(["[a]"], CLASSES).images) == 1


def test_a_video_and_a_dataset(place):
    video = find_input(["drive.webm"], CLASSES)
    assert isinstance(video, VideoInput) and (video.info.width, video.info.height, video.info.rate_fps) == (32, 20, 10)
    data = find_input(["planted/val.json"], CLASSES)
    assert len(data.images) == 2 and has_labels(data)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["missing.png"], "no such file or folder"),
        (["*.bmp"], "matches no image"),
        (["a/*.txt"], "matches no image"),
        (["a/notes.txt"], "not an image, a video or a dataset json"),
        (["empty"], "holds no images"),
        (["a", "empty"], "holds no images"),
        (["bad.mp4"], "cannot be opened as a video"),
        (["bad.png"], "not a readable image"),
        (["half.png"], "cannot be decoded"),
        (["five.tif"], "not a readable image|cannot be decoded"),
        (["none.json"], "holds no images"),
    ],
)
def test_law_what_cannot_be_used_is_one_error_with_its_file(place, sources, message):
    Path("empty").mkdir()
    for name in ("bad.mp4", "bad.png"):
        Path(name).write_bytes(b"neither nor")
    Path("half.png").write_bytes(Path("a/1.png").read_bytes()[:60])
    Path("five.tif").write_bytes(tiff(5))
    document = json.loads(Path("planted/val.json").read_text()) | {"images": [], "annotations": []}
    Path("none.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as caught:
        find_input(sources, CLASSES, on_error=lambda *_: None)
    assert caught.value.file is not None and sources[-1] in str(caught.value)


def tiff(channels: int) -> bytes:
    """A baseline TIFF of 4 x 4 px with this many interleaved 8-bit channels."""
    pixels = bytes(16 * channels)
    values = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: channels, 278: 4, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(values)) + entries + bytes(4)


def test_grey_and_transparent_images_are_read_as_rgb(place):
    for name, shape in (("grey.png", (20, 30)), ("alpha.png", (20, 30, 4))):
        assert cv2.imwrite(name, np.full(shape, 90, np.uint8))
        assert len(find_input([name], CLASSES).images) == 1


def test_a_video_or_a_dataset_stands_alone_and_has_the_classes_of_the_run(place):
    for sources in (["drive.webm", "a"], ["a", "planted/val.json"], ["drive.webm", "drive.webm"]):
        with pytest.raises(ConfigError, match="is one of 2 inputs"):
            find_input(sources, CLASSES)
    with pytest.raises(ConfigError, match=r"has the classes car, pedestrian, the detector car"):
        find_input(["planted/val.json"], ("car",))


def test_an_image_without_a_header_is_left_out_when_there_are_others(place):
    Path("a/0.png").write_bytes(b"neither nor")
    reasons = {}
    assert [path.rsplit("/", 1)[1] for path in named("a", on_error=reasons.__setitem__)] == ["1.png", "2.jpg"]
    assert reasons.keys() == {"0.png"}
    with pytest.raises(DataError, match="not a readable image"):
        named("a")
