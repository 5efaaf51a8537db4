"""MOT: the image of each frame, and rows of missing frames."""

from __future__ import annotations

from pathlib import Path

import footage_trees as trees
import pytest
from footage_trees import boxes, convert_tree, read_tree, write_tree

from drivetl.errors import DataError


@pytest.mark.parametrize(
    ("name", "message"), [("000000.png", "is frame 0"), ("2.png", "frame 2 may be"), ("002.jpg", "frame 2")]
)
def test_frame_numbers_are_unique_and_count_from_one(name: str, message: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path, trees.mot() | {f"M-01/img1/{name}": trees.blank_png()})
    with pytest.raises(DataError, match=message) as caught:
        read_tree("mot", root)
    assert caught.value.file is not None and name in str(caught.value)


def test_rows_of_missing_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    files = trees.mot()
    files["M-01/gt/gt.txt"] += b"5,5,2.5,3,10,6,1,3,0.8\n"
    del files["M-01/seqinfo.ini"]
    dataset, account = convert_tree("mot", write_tree(tmp_path, files))
    assert [image.frame_index for image in dataset.images] == [1, 2, 3]
    assert account.dropped == {"on a frame that was not extracted": 1}
    assert account.notes["labelled frames that were not extracted, left out with their objects"] == 1
    assert len(boxes(dataset, "M-01/img1/000001.png")) == 2


def test_without_images_all_frames_are_kept(tmp_path: Path) -> None:
    files = {name: content for name, content in trees.mot().items() if not name.endswith(".png")}
    dataset, account = convert_tree("mot", write_tree(tmp_path, files))
    assert [image.frame_index for image in dataset.images] == [1, 2, 3] and not account.dropped
