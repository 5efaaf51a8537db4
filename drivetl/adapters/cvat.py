"""CVAT XML 1.1, "for images" and "for video", exported from a project, a task or a job.

Images: `<image>` with shapes. Video: `<track>` with shapes per frame; missing frames between two of them are
interpolated, as CVAT does. Boxes, polygons and masks become objects; other shapes are counted with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from drivetl.adapters.cvat_shapes import Meta, on_line_of, parse_meta, parse_shape, shape_labels, tag_attributes
from drivetl.adapters.cvat_tracks import Track, parse_track, video_images
from drivetl.adapters.reading import (
    FOUND_ELSEWHERE,
    Footage,
    ImageIndex,
    Reading,
    first_folder,
    folder_drive,
    label_files,
)
from drivetl.adapters.xml import Node, root_tag, stream
from drivetl.coco.records import SourceImage
from drivetl.errors import DataError
from drivetl.files.fields import whole


def read(reading: Reading) -> Footage:
    """CVAT footage: all XML files of a folder, or one file. Exports in sub-folders keep their folder names."""
    files = [path for path in label_files(reading.root, ".xml") if path == reading.root or not _is_other_xml(path)]
    if not files:
        raise DataError("contains no CVAT file (root element <annotations>)", remedy="check --root", file=reading.root)
    folder = reading.root if reading.root.is_dir() else reading.root.parent
    nested = {path.parent for path in files} != {folder}
    images_root = reading.images or (folder if nested else first_folder(folder, "images"))
    return Footage(images_root, _all_images(reading, files, folder, images_root))


def _is_other_xml(path: Path) -> bool:
    """Whether a file is XML of another kind. An unreadable file is kept, so that its error is reported."""
    return root_tag(path) not in ("annotations", "")


def _all_images(reading: Reading, files: list[Path], folder: Path, images_root: Path) -> Iterator[SourceImage]:
    index = ImageIndex(images_root)
    for path in files:
        prefix = path.parent.relative_to(folder).as_posix() if path.parent != folder else ""
        drive = (Path(prefix).name if prefix else "") or (path.stem if len(files) > 1 else "")
        with reading.file(path):
            yield from _file_images(reading, path, index, prefix, drive)


def _file_images(reading: Reading, path: Path, index: ImageIndex, prefix: str, drive: str) -> Iterator[SourceImage]:
    meta = Meta()
    tracks: list[Track] = []
    for node in stream(path, "annotations"):
        if node.tag == "meta":
            meta = parse_meta(node)
        elif node.tag == "image":
            with reading.file(path, partial(shape_labels, node)):
                yield _image(reading, node, path, meta, index, prefix, drive)
        elif node.tag == "track":
            tracks.append(parse_track(reading, node, path))
    if tracks or meta.is_video:
        yield from video_images(reading, tracks, meta, path, index, prefix, drive)


def _image(
    reading: Reading, node: Node, path: Path, meta: Meta, index: ImageIndex, prefix: str, drive: str
) -> SourceImage:
    name, subset = node.need("name").replace("\\", "/"), node.attributes.get("subset", "")
    with on_line_of(node):
        size = whole(node.need("width"), "width"), whole(node.need("height"), "height")
    file_name = _on_disk(reading, index, name, subset, prefix, many=meta.subsets > 1)
    image = SourceImage(file_name, *size, label_file=path, attributes={"subset": subset} if subset else {})
    task = meta.tasks.get(node.attributes.get("task_id", ""))
    image.drive = folder_drive(name) or (task.name if task and len(meta.tasks) > 1 else drive)
    for tag in node.all("tag"):
        image.attributes |= tag_attributes(tag, meta)
    for child in node.children:
        item = parse_shape(reading, child, child.attributes.get("label", ""), path, size, meta)
        if item is not None:
            image.objects.append(item)
    return image


def _on_disk(reading: Reading, index: ImageIndex, name: str, subset: str, prefix: str, *, many: bool) -> str:
    """The image's name below the images root; the export of a project has a folder per subset."""
    outer = f"{prefix}/" if prefix else ""
    inner = [f"{subset}/{name}", name] if subset else [name]
    existing = index.exact(*(outer + folder + tail for tail in inner for folder in ("images/", "")))
    if existing is None:
        existing = index.elsewhere(inner[0], below=outer)
        if existing is not None and PurePosixPath(existing).stem != PurePosixPath(name).name:
            reading.list_place(FOUND_ELSEWHERE, index.root / existing)
    if existing is None:
        reading.note("images that are not on disk; their sizes are taken from the labels")
    return existing or outer + (inner[0] if many else name)
