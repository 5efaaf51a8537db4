"""Properties of every footage format: each law is a function of a format's name, its case and an empty folder."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from footage_files import Files, blank_png
from footage_trees import boxes, convert_tree, read_tree, write_tree
from format_cases import FormatCase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetl.adapters.writers import write_voc, write_yolo
from drivetl.cli import main
from drivetl.coco import masks
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset
from drivetl.coco.taxonomy import own_labels
from drivetl.errors import DataError, DrivetlError

Law = Callable[[str, FormatCase, Path], None]
LAWS: dict[str, Law] = {}
"""Name -> law."""


OTHER_SIZE = r"right of or below their image|labels were made for|RLE size .* is not the image's"


def law(function: Law) -> Law:
    """Add a function to the laws."""
    LAWS[function.__name__] = function
    return function


def check_law(name: str, format_name: str, case: FormatCase, folder: Path) -> None:
    """Check one law, or skip with the reason why it does not apply."""
    if name in case.exempt:
        pytest.skip(case.exempt[name])
    LAWS[name](format_name, case, folder)


@law
def first_image_holds_its_objects(name: str, case: FormatCase, folder: Path) -> None:
    dataset, _ = convert_tree(name, write_tree(folder, case.tree()))
    image = next(image for image in dataset.images if image.file_name == case.first_image)
    assert boxes(dataset, case.first_image) == sorted(case.objects)
    assert tuple(region.bbox_xywh for region in image.ignore_regions) == case.ignored
    assert all((dataset.images_root / image.file_name).is_file() for image in dataset.images)


@law
def images_without_objects_are_kept(name: str, case: FormatCase, folder: Path) -> None:
    dataset, _ = convert_tree(name, write_tree(folder, case.tree()))
    assert sum(not image.annotations and not image.ignore_regions for image in dataset.images) >= 1
    assert [image.id for image in dataset.images] == list(range(1, len(dataset.images) + 1))


@law
def own_labels_become_classes(name: str, case: FormatCase, folder: Path) -> None:
    source, _ = read_tree(name, write_tree(folder, case.tree()))
    assert source.own_labels
    assert source.taxonomy.categories == case.labels


@law
def flags_that_are_not_set_change_nothing(name: str, case: FormatCase, folder: Path) -> None:
    """A flag may be 0, "0" or "false": a text is not true because it is not empty."""
    for number, (text, flagged) in enumerate(case.unset_flags):
        files = {file: content.replace(text, flagged) for file, content in case.tree().items()}
        assert files != case.tree()
        dataset, account = convert_tree(name, write_tree(folder / str(number), files))
        assert boxes(dataset, case.first_image) == sorted(case.objects)
        assert "deleted in the source" not in account.dropped
        first = next(image for image in dataset.images if image.file_name == case.first_image)
        assert len(first.ignore_regions) == len(case.ignored)


@law
def images_know_their_drive(name: str, case: FormatCase, folder: Path) -> None:
    source, _ = read_tree(name, write_tree(folder, case.tree()))
    assert all(image.drive for image in source.images)


@law
def labels_for_other_sizes_are_scaled_or_refused(name: str, case: FormatCase, folder: Path) -> None:
    """The images were made smaller after labelling: no box stays where it was in the larger image."""
    smaller = {file: blank_png((5, 4)) for file in case.tree() if file.endswith(".png")}
    files = {file: content for file, content in case.tree().items() if file not in smaller}
    sizeless = dict(files)
    for text, other in case.without_size:
        sizeless = {file: content.replace(text, other) for file, content in sizeless.items()}
    if sizeless != files:
        with pytest.raises(DataError, match=OTHER_SIZE):
            convert_tree(name, write_tree(folder / "sizeless", sizeless | smaller))
        kept, _ = convert_tree(name, write_tree(folder / "same", case.tree() | sizeless))
        assert boxes(kept, case.first_image) == sorted(case.objects)
    try:
        dataset, _ = convert_tree(name, write_tree(folder / "smaller", files | smaller))
    except DataError as error:
        assert re.search(OTHER_SIZE, str(error))
        return
    scale = 5 / 40, 4 / 30
    expected = [(label, tuple(round(v * scale[i % 2], 3) for i, v in enumerate(box))) for label, box in case.objects]
    assert boxes(dataset, case.first_image) == sorted(expected)


@law
def reading_twice_gives_the_same(name: str, case: FormatCase, folder: Path) -> None:
    root = write_tree(folder, case.tree())
    assert read_tree(name, root)[0].images == read_tree(name, root)[0].images


@law
def command_writes_the_contract(name: str, case: FormatCase, folder: Path) -> None:
    root, out = write_tree(folder / "in", case.tree()), folder / "out"
    arguments = ["convert-footage", "--format", name, "--root", str(root), "--out", str(out)]
    assert main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["all.json", "summary.json", "train.json", "val.json"]
    parts = {part: read_dataset(out / f"{part}.json") for part in ("all", "train", "val")}
    assert all((parts["all"].images_root / image.file_name).is_file() for image in parts["all"].images)
    names = [image.file_name for part in ("train", "val") for image in parts[part].images]
    assert len(set(names)) == len(names)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(arguments) == 0  # again: byte for byte the same
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@law
def empty_or_missing_root_is_the_users_mistake(name: str, case: FormatCase, folder: Path) -> None:
    (folder / "empty").mkdir()
    for root in (folder / "empty", folder / "missing"):
        out = folder / "out"
        assert main(["convert-footage", "--format", name, "--root", str(root), "--out", str(out)]) == 2
        with pytest.raises(DrivetlError) as caught:
            read_tree(name, root)
        assert str(root) in str(caught.value) and not out.exists()


@law
def truth_fed_back_scores_one(name: str, case: FormatCase, folder: Path) -> None:
    """pycocotools loads what conversion writes, and the truth scores 1.0 against itself."""
    dataset, _ = convert_tree(name, write_tree(folder / "in", case.tree()))
    write_dataset(dataset, folder / "all.json")
    truth = COCO(str(folder / "all.json"))
    assert len(truth.imgs) == len(dataset.images)
    objects = [item for item in truth.anns.values() if not item["iscrowd"]]
    regions = [item for item in truth.anns.values() if item["iscrowd"]]
    for kind in ["bbox", "segm"] if all("segmentation" in item for item in objects + regions) else ["bbox"]:
        results = [
            {key: item[key] for key in ("image_id", "category_id", "bbox")}
            | {"score": 0.9}
            | ({"segmentation": truth.annToRLE(item)} if kind == "segm" else {})
            for item in objects + regions  # a detection inside an ignore region is neither right nor wrong
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 0, -1]
        assert (precision > -1).any() and precision[precision > -1].min() > 1 - 1e-9


Row = tuple[str, str, tuple[float, ...]]


def _rows(dataset: Dataset, *, ignored: bool) -> list[Row]:
    """(image, class, box xyxy to 1e-4 px) of all objects, or of all ignore regions once per class they hide."""
    rows: list[Row] = []
    for image in dataset.images:
        items = [(item.category_id, item.bbox_xywh) for item in image.annotations]
        if ignored:
            everything = tuple(range(1, len(dataset.categories) + 1))
            items = [
                (number, region.bbox_xywh)
                for region in image.ignore_regions
                for number in region.category_ids or everything
            ]
        for number, (x, y, w, h) in items:
            box = tuple(round(value, 4) for value in (x, y, x + w, y + h))
            rows.append((image.file_name, dataset.categories[number - 1], box))
    return sorted(rows)


def _written_and_read_again(source: str, case: FormatCase, folder: Path, target: str) -> None:
    original, _ = convert_tree(source, write_tree(folder / "in", case.tree()))
    out = folder / "out"
    lost: dict[str, int] = {}
    if target == "coco":
        write_dataset(original, out / "all.json")
    else:
        lost = {"yolo": write_yolo, "voc": write_voc}[target](original, out)
    again, account = convert_tree(target, out, own_labels(original.categories), images=original.images_root)
    names = {image.file_name for image in original.images}
    kept = [image for image in again.images if image.file_name in names]
    assert [image.file_name for image in kept] == sorted(names)
    assert _rows(again, ignored=False) == _rows(original, ignored=False)
    regions = _rows(original, ignored=True)
    assert _rows(again, ignored=True) == ([] if target == "yolo" else regions)
    if target == "yolo":
        assert lost["ignore regions"] == sum(len(image.ignore_regions) for image in original.images)
    assert account.clipped == 0


@law
def written_as_yolo_it_comes_back(name: str, case: FormatCase, folder: Path) -> None:
    _written_and_read_again(name, case, folder, "yolo")


@law
def written_as_voc_it_comes_back(name: str, case: FormatCase, folder: Path) -> None:
    _written_and_read_again(name, case, folder, "voc")


@law
def written_as_coco_it_comes_back(name: str, case: FormatCase, folder: Path) -> None:
    _written_and_read_again(name, case, folder, "coco")


def _over_many_lines(files: Files) -> Files:
    """The files with every JSON written over many lines, so that a line says which record it is."""
    return {
        name: json.dumps(json.loads(content.decode("utf-8-sig")), indent=2).encode()
        if name.endswith(".json")
        else content
        for name, content in files.items()
    }


def _replaced(files: Files, before: bytes, after: bytes) -> Files:
    """The files with the first `before` of the first file that holds it replaced."""
    name = min(name for name, content in files.items() if before in content)
    return files | {name: files[name].replace(before, after, 1)}


def _text_at(error: DataError) -> str:
    """The line that an error names, or the JSON object that begins there, on one line."""
    assert error.line is not None, f"no line in: {error}"
    lines = Path(str(error.file)).read_text().splitlines()
    if not str(error.file).endswith(".json"):
        return lines[error.line - 1]
    return json.dumps(json.JSONDecoder().raw_decode("\n".join(lines[error.line - 1 :]).lstrip(" ["))[0])


@law
def broken_shapes_are_named_by_file_and_line(name: str, case: FormatCase, folder: Path) -> None:
    root = write_tree(folder, _over_many_lines(_replaced(case.tree(), *case.broken_shape)))
    with pytest.raises(DataError) as caught:
        convert_tree(name, root)
    assert case.broken_shape[1].decode() in _text_at(caught.value)
    _, account = convert_tree(name, root, on_error="skip")
    assert account.rejections[0] == str(caught.value)


@law
def unknown_labels_are_named_by_file_and_line(name: str, case: FormatCase, folder: Path) -> None:
    root = write_tree(folder, _over_many_lines(case.tree()))
    known = {*case.labels, *case.unclassed} - {case.a_label}
    with pytest.raises(DataError, match=f"label '{re.escape(case.a_label)}' is unknown") as caught:
        convert_tree(name, root, own_labels(known))
    assert case.label_place.decode() in _text_at(caught.value)


@law
def broken_images_are_named(name: str, case: FormatCase, folder: Path) -> None:
    root = write_tree(folder, _over_many_lines(_replaced(case.tree(), *case.broken_size)))
    with pytest.raises(DataError) as caught:
        convert_tree(name, root)
    file = Path(str(caught.value.file))
    content = (root / file).read_bytes()
    if case.one_file_per_image:
        assert case.broken_size[1] in content
    else:
        assert case.broken_size[1].decode() in _text_at(caught.value)


@law
def objects_of_a_broken_image_are_rejected_one_by_one(name: str, case: FormatCase, folder: Path) -> None:
    """Objects in = objects out + ignored + dropped + rejected, also when their image is left out as a whole."""
    files = case.tree()
    files |= case.siblings(files)
    _, whole = convert_tree(name, write_tree(folder / "whole", files))
    broken = _replaced(files, *case.broken_size)
    with pytest.raises(DrivetlError):
        convert_tree(name, write_tree(folder / "broken", broken))
    dataset, account = convert_tree(name, write_tree(folder / "broken", broken), on_error="skip")
    empties = account.read.pop("unreadable record", 0)  # broken images that held no object count as one
    assert account.read == whole.read and sum(account.rejected.values()) >= 1
    assert len(account.rejections) >= 1 and empties <= len(account.rejections)
    assert dataset.images and all(image.width == 40 for image in dataset.images)


VALUES = [
    b"NaN",
    b"1e308",
    b"-1e308",
    b"-1",
    b"0",
    b"0.5",
    b"99999999999999999999999",
    b"1e999",
    b"",
    b"true",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b"[[]]",
    b"\xff",
    b"\x00",
    b"../../x",
    b"/etc/passwd",
    "\u0661".encode(),
    b"-",
    b"1_000",
]
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
TOKEN = re.compile(rb'"[^"]*"|[\w.]+|\[[^\[\]]*\]|\{[^{}]*\}')


@st.composite
def mutations(draw: st.DrawFn, files: Files) -> Files:
    """The tree with one label file damaged: truncated, a token replaced, bytes changed, doubled or removed."""
    name = draw(st.sampled_from(sorted(name for name in files if not name.endswith(".png"))))
    content = files[name]
    kind = draw(st.sampled_from(["cut", "number", "token", "byte", "double", "remove"]))
    if kind in ("number", "token"):
        matches = list((NUMBER if kind == "number" else TOKEN).finditer(content))
        if matches:
            match = draw(st.sampled_from(matches))
            value = draw(st.sampled_from(VALUES))
            content = content[: match.start()] + value + content[match.end() :]
    else:
        at = draw(st.integers(0, len(content)))
        to = min(len(content), at + draw(st.integers(1, 60)))
        middle = {
            "cut": None,
            "byte": bytes([draw(st.integers(0, 255))]) + content[at + 1 :],
            "double": content[at:to] + content[at:],
            "remove": content[to:],
        }[kind]
        content = content[:at] + (middle if middle is not None else b"")
    return files | {name: content}


def _converts(name: str, case: FormatCase, files: Files, on_error: str) -> bool:
    """Convert; True when it went through. The account balances (convert_tree), nothing that the files list is missing
    from it, and the output is sound."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_tree(Path(folder) / "in", files)
        try:
            dataset, account = convert_tree(name, root, on_error=on_error)
        except DrivetlError as error:
            assert str(error)
            return False
        listed = sum(
            case.count_objects(content)
            for file_name, content in files.items()
            if file_name.endswith(case.label_suffix) and not file_name.endswith(("classes.txt", "data.yaml"))
        )
        assert sum(account.read.values()) >= listed, account.as_dict()
        path = Path(folder) / "out.json"
        write_dataset(dataset, path)
        for image in read_dataset(path).images:
            size_hw = image.height, image.width
            for item in [*image.annotations, *image.ignore_regions]:
                x, y, w, h = item.bbox_xywh
                assert w > 0 and h > 0 and x >= 0 and y >= 0
                assert x + w <= image.width + 1e-6 and y + h <= image.height + 1e-6
                if item.segmentation:
                    assert masks.decode(item.segmentation, *size_hw).shape == size_hw
    return True


@law
def damaged_files_are_errors_or_accounted_for(name: str, case: FormatCase, folder: Path) -> None:
    """Whatever happens to a label file, nobody sees a traceback and nothing is lost silently."""
    for tree in (case.tree, *case.more_trees.values()):

        @settings(max_examples=60, suppress_health_check=list(HealthCheck))
        @given(mutations(tree()))
        def check(files: Files) -> None:
            clean = _converts(name, case, files, "stop")
            skipped = _converts(name, case, files, "skip")
            assert skipped or not clean  # what passes without skipping passes with it

        check()


@law
def datasets_has_a_card_and_a_taxonomy(name: str, case: FormatCase, folder: Path) -> None:
    """What the card's commands are worth is checked with all other cards."""
    card = Path(__file__).parents[2] / "datasets" / name
    assert f"--format {name}" in (card / "README.md").read_text()
    assert (card / "taxonomy.yaml").is_file()
