"""A real foreign file on real frames: YOLOX-nano of COCO's classes finds KITTI's cars."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from drivetl.detectors.onnx_detector import onnx_detector
from drivetl.detectors.onnx_session import open_session
from drivetl.files.images import read_rgb

DATA = Path(__file__).parents[2].parent / "shared" / "data"
PEER = DATA / "peers" / "yolox_nano_416_coco.onnx"
KITTI = DATA / "kitti" / "training"
LAYOUT = "decoder: yolox\nclasses: coco80\nplace: top_left\ncolour: BGR\nwhite: 255\nnms_iou: 0.5\n"

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(
    not (PEER.is_file() and KITTI.is_dir()), reason=f"needs the foreign detector and KITTI frames: {PEER}, {KITTI}"
)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    layout = tmp_path_factory.mktemp("layout") / "yolox.yaml"
    layout.write_text(LAYOUT)
    return onnx_detector(PEER, layout)


def frames():
    return {path.stem: path for path in sorted((KITTI / "image_2").iterdir())}


def infer(detector, path):
    return detector.infer([torch.from_numpy(np.ascontiguousarray(read_rgb(path).transpose(2, 0, 1)))])[0]


def by_the_readme(path):
    """Rows (x1, y1, x2, y2, score, class from 0) from 0.25 on before NMS, written as the facts next to the file say."""
    image = cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2BGR)
    height, width = image.shape[:2]
    scale = 416 / max(height, width)
    new_w, new_h = round(width * scale), round(height * scale)
    canvas = np.full((416, 416, 3), 114, np.uint8)
    canvas[:new_h, :new_w] = cv2.resize(image, (new_w, new_h))
    (output,) = open_session(PEER).run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32)})
    rows, index = [], 0
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                row = output[0, index]
                index += 1
                number = int(row[5:].argmax())
                score = float(row[4] * row[5 + number])
                if score < 0.25:
                    continue
                cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
                w, h = np.exp(row[2]) * stride, np.exp(row[3]) * stride
                box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], float)
                box /= [new_w / width, new_h / height] * 2
                rows.append([*np.clip(box, 0, [width, height] * 2), score, number])
    return np.array(rows)


@pytest.mark.parametrize("stem", ["000049", "000036"])
def test_the_decoder_is_the_readmes(detector, stem):
    path = frames()[stem]
    expected, found = by_the_readme(path), infer(detector, path)
    best = found.scores >= 0.25
    assert best.sum() >= 3
    for box, score, label in zip(found.boxes[best], found.scores[best], found.labels[best], strict=True):
        row = expected[np.abs(expected[:, 4] - score).argmin()]
        assert row[5] == label - 1
        np.testing.assert_allclose(box, row[:4], atol=0.02)
    kept = {round(float(score), 5) for score in found.scores[best]}
    for row in expected:  # what NMS removed overlaps a better one of its class
        if round(row[4], 5) not in kept:
            same = found.boxes[best & (found.labels == row[5] + 1) & (found.scores > row[4])]
            assert overlap(row[None, :4], same).max() > 0.5


def overlap(first, second):
    low, high = np.maximum(first[:, None, :2], second[None, :, :2]), np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def test_it_finds_the_cars_of_kitti(detector):
    """Cars and vans of 40 px and more, partly hidden at most: 99 of 113 in all frames; its notes say 27 of 31."""
    n, n_found = 0, 0
    for stem, path in list(frames().items())[::2]:
        rows = [line.split() for line in (KITTI / "label_2" / f"{stem}.txt").read_text().splitlines()]
        wanted = [row for row in rows if row[0] in ("Car", "Van") and int(row[2]) <= 1]
        boxes = np.array([list(map(float, row[4:8])) for row in wanted]).reshape(-1, 4)
        boxes = boxes[boxes[:, 3] - boxes[:, 1] >= 40]
        if not len(boxes):
            continue
        found = infer(detector, path)
        names = np.array([detector.categories[label - 1] for label in found.labels])
        vehicles = found.boxes[(found.scores >= 0.25) & np.isin(names, ("car", "bus", "truck"))]
        n += len(boxes)
        n_found += int((overlap(boxes, vehicles).max(1, initial=0) >= 0.5).sum())
    assert n > 40 and n_found / n > 0.8
