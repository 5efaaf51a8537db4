"""Files: atomic writes, names that stay below their root, image sizes equal to the decoded ones."""

import io
import os
import struct
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from drivetl.errors import DataError
from drivetl.files.image_headers import HEAD_BYTES, size_of_head
from drivetl.files.images import image_size, read_rgb
from drivetl.files.paths import list_images, safe_relative
from drivetl.files.read import read_text
from drivetl.files.write import new_directory, write_atomically


def encoded(kind: str, width: int, height: int, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_is_that_of_the_decoded_image_rotated_or_not(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(encoded(kind, 31, 17, **({} if kind == "BMP" else {"exif": exif.tobytes()})))
    height, width = read_rgb(path).shape[:2]
    assert image_size(path) == (width, height)


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["PNG", "JPEG"]), st.booleans())
def test_the_first_bytes_give_the_same_size_as_the_library(width, height, kind, progressive):
    data = encoded(kind, width, height, **({"progressive": progressive} if kind == "JPEG" else {}))
    assert size_of_head(data[:HEAD_BYTES]) == (width, height)


@settings(max_examples=200)
@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_damaged_files_give_a_size_or_a_data_error(tmp_path_factory, kind, data):
    content = bytearray(encoded(kind, 60, 40))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(len(content) - 1, 200)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("h") / "a.img"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        width, height = image_size(path)
    except DataError as error:
        assert "a.img" in str(error)
    else:
        assert 0 < width * height <= 200_000_000


def test_an_image_over_the_limit_is_refused_without_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + bytes(4))
    for read in (image_size, read_rgb):
        with pytest.raises(DataError, match="larger than 200 megapixels"):
            read(tmp_path / "bomb.png")


def test_files_that_are_not_images_are_errors_with_their_file(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "text.png": "not a readable image",
        "empty.jpg": "not a readable image",
        "folder.png": "cannot be read",
        "none.png": "cannot be read",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {reason}"):
            image_size(tmp_path / name)
    cut = encoded("PNG", 60, 40)[:60]
    (tmp_path / "cut.png").write_bytes(cut)
    assert image_size(tmp_path / "cut.png") == (60, 40)
    with pytest.raises(DataError, match=r"cut\.png: "):
        read_rgb(tmp_path / "cut.png")


def test_text_drops_its_byte_order_mark_and_reports_the_line_of_an_invalid_byte(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    assert read_text(path) == "one\r\ntwo"
    path.write_bytes(b"one\ntwo\nth\xffee")
    with pytest.raises(DataError, match=r"a\.txt:3: byte 0xff is not UTF-8"):
        read_text(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["", "..", "../a", "a/../../b", "/a", "\\a", "C:\\a", "c:a", "a\0b", "..\\a"])
def test_names_that_leave_the_root_are_refused(name):
    with pytest.raises(DataError):
        safe_relative(name)


@given(st.text(max_size=12))
def test_a_safe_name_stays_below_its_root(tmp_path_factory, name):
    try:
        safe = safe_relative(name)
    except DataError:
        return
    root = os.path.normpath("/some/root")
    assert os.path.normpath(f"{root}/{safe}").startswith(root)


def test_a_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "words")
    assert path.read_text() == "words" and list(path.parent.iterdir()) == [path]
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udc80")
    assert path.read_text() == "words" and list(path.parent.iterdir()) == [path]


def test_a_new_directory_appears_complete_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_directory(tmp_path / "a") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_directory(tmp_path / "a") as folder:
        (folder / "whole").write_text("x")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "whole").read_text() == "x"
    with pytest.raises(DataError, match="never overwritten"), new_directory(tmp_path / "a"):
        pass


def test_a_new_directory_may_be_the_target_of_a_link(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        link = tmp_path / f"to_{name}"
        link.symlink_to(name)
        with new_directory(link) as folder:
            (folder / "whole").write_text("x")
        assert link.is_symlink() and (tmp_path / name / "whole").read_text() == "x"


def test_a_new_directory_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is the working directory"), new_directory(Path()):
        pass
    Path("round").symlink_to("round")
    with pytest.raises(DataError, match="round: cannot be written"), new_directory(Path("round")):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["round"]


def test_a_path_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", "words")
    with pytest.raises(DataError, match="cannot be written"):
        write_atomically(tmp_path / "folder", "words")
    with pytest.raises(DataError, match="cannot be written"), new_directory(tmp_path / "file" / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_images_are_listed_sorted_at_any_depth(tmp_path):
    for name in ("b/2.JPG", "a.png", "b/1.jpeg", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_images(tmp_path) == ["a.png", "b/1.jpeg", "b/2.JPG"]


def test_hidden_images_are_not_listed_and_linked_ones_once(tmp_path):
    names = ("in/a.png", "in/.b/a.png", "in/._a.png", "in/__MACOSX/a.png", "out/c.png", "in/d/e.png")
    for name in (*names, "in/folder.png/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for link, target in {"in/l": "out", "in/m": "out", "out/n": "in", "in/b": "in/d", "in/x.png": "none"}.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    assert list_images(tmp_path / "in") == ["a.png", "d/e.png", "l/c.png"]
    assert list_images(tmp_path / "in" / "b") == ["e.png"]
    (tmp_path / "in" / "shown").symlink_to(tmp_path / "in" / ".b")
    assert "shown/a.png" in list_images(tmp_path / "in")


@given(st.text("ab.-_/\\: é\n\0", max_size=12))
def test_a_name_is_normalised_like_a_path_or_refused(name):
    posix = PurePosixPath(name.replace("\\", "/"))
    leaves = not posix.parts or posix.is_absolute() or ".." in posix.parts or ":" in posix.parts[0] or "\0" in name
    if leaves:
        with pytest.raises(DataError, match="leaves its folder"):
            safe_relative(name)
    else:
        assert safe_relative(name) == str(posix)


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3_000_000])
def test_a_text_is_read_to_its_end(tmp_path, size):
    text = "abcdefg\n" * (size // 8) + "x" * (size % 8)
    (tmp_path / "t.txt").write_text(text)
    assert read_text(tmp_path / "t.txt") == text


def test_a_folder_is_neither_a_text_nor_an_image(tmp_path):
    for read in (read_text, image_size):
        with pytest.raises(DataError, match="Is a directory"):
            read(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_images_are_read_by_their_upper_bits_or_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind.lower()}"
    for highest, refused in ((4095, True), (16383, True), (60000, False)):
        values = np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16)
        Image.fromarray(values).save(path, kind)
        if refused:
            with pytest.raises(DataError, match=f"16-bit image whose highest value is {highest}"):
                read_rgb(path)
        else:
            assert (read_rgb(path)[..., 0] == values >> 8).all()
