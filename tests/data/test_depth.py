"""Depth maps of a dataset are used by the conditions, and the report counts them."""

import json

import cv2
import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.conditions import apply, pixel_seed
from drivetl.data.dataset import read_image
from drivetl.data.depth import depth_path, read_depth
from drivetl.errors import DataError
from drivetl.robustness.detection_cache import image_keys
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import run_sweep
from drivetl.robustness.sweep import Task, variants
from drivetl.sample.write import write_town_a

FOG = ("fog", 4)


def with_depth(folder, metres=5.0):
    """Planted images at a depth of `metres`: image 0 has `depth` as its own key, the others among their attributes."""
    path = planted_dataset(folder, n_images=3)
    document = json.loads(path.read_text())
    (folder / "depth").mkdir()
    for number, image in enumerate(document["images"]):
        name = f"depth/{number}.png"
        shape = (image["height"], image["width"])
        cv2.imwrite(str(folder / name), np.full(shape, metres * 256, np.uint16))
        if number:
            image["attributes"]["depth"] = name
        else:
            image["depth"] = name
    path.write_text(json.dumps(document))
    return read_dataset(path)


def foggy(data, index):
    task = Task(index, data.images[index], (FOG,))
    return next(iter(variants(task, data.images_root)))[1]


def test_fog_uses_the_true_distance(tmp_path):
    near, far = with_depth(tmp_path / "near", 5.0), with_depth(tmp_path / "far", 120.0)
    for index in (0, 1):
        record = near.images[index]
        image = read_image(record, near.images_root)
        depth = read_depth(record, near.images_root)
        assert depth.dtype == np.float32 and np.unique(depth).tolist() == [5.0]
        assert np.array_equal(foggy(near, index), apply(image, *FOG, pixel_seed(record.file_name, *FOG), depth))
        # near objects are still visible, far ones are grey
        assert foggy(near, index).std() > 2 * foggy(far, index).std()


def test_images_with_different_depth_have_different_keys(tmp_path):
    data = with_depth(tmp_path / "a")
    bare = read_dataset(planted_dataset(tmp_path / "b", n_images=3))
    assert not set(image_keys(data)) & set(image_keys(bare))
    assert depth_path(bare.images[0], bare.images_root) is None is read_depth(bare.images[0], bare.images_root)


def test_the_report_counts_depth_maps(tmp_path):
    data = with_depth(tmp_path / "a")
    data.images[2].attributes.pop("depth")
    swept = run_sweep(PlantedDetector(), data, ["fog"], [1], cache=tmp_path / "c", workers=0)
    assert report_document(swept, n_draws=50)["data"]["depth_images"] == 2


def test_an_unusable_depth_map_is_refused(tmp_path):
    data = with_depth(tmp_path / "a")
    record, root = data.images[1], data.images_root
    cv2.imwrite(str(root / "depth/1.png"), np.zeros((10, 10), np.uint16))
    with pytest.raises(DataError, match=r"depth map is uint16 of shape \(10, 10\) - write a 16-bit PNG of 256 x 96"):
        read_depth(record, root)
    cv2.imwrite(str(root / "depth/1.png"), np.zeros((96, 256), np.uint8))
    with pytest.raises(DataError, match="depth map is uint8"):
        read_depth(record, root)
    (root / "depth/1.png").unlink()
    with pytest.raises(DataError, match=r"the depth map of images/000001\.png cannot be read"):
        read_depth(record, root)
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        image_keys(data)
    record.attributes["depth"] = "../../secret.png"
    with pytest.raises(DataError, match="leaves its folder"):
        read_depth(record, root)


def test_the_sample_citys_depth_maps_survive_its_conversion(tmp_path):
    write_town_a(tmp_path / "town", 3, scale=0.25, depth=True)
    assert main(["convert-kitti", "--root", str(tmp_path / "town"), "--out", str(tmp_path / "data")]) == 0
    data = read_dataset(tmp_path / "data" / "all.json")
    for record in data.images:
        depth = read_depth(record, data.images_root)
        assert depth.shape == (record.height, record.width) and 2 < np.median(depth[depth > 0]) < 200
