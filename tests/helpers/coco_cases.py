"""Random COCO truths and results with the hard cases of matching, and pycocotools' evaluation of them."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetl.coco.masks import encode


def random_case(seed, n_images=12, n_classes=3, coarse=True, crowds=True, masks=False, detections=30):
    """(truth document, results list); coarse grids make ties in IoU and score, and areas at COCO's bounds."""
    rng = np.random.default_rng(seed)
    step = 16.0 if coarse else 16.37
    ids = rng.permutation(np.arange(1, 5 * n_images))[:n_images]
    truth = {
        "images": [{"id": int(i), "width": 320, "height": 240, "file_name": f"{i}.png"} for i in ids],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, n_classes + 1)],
        "annotations": [],
    }
    results = []
    for image in truth["images"]:
        if rng.random() < 0.2:
            continue  # an empty image, sometimes with detections below
        for _ in range(rng.integers(0, 9)):
            box = _box(rng, step)
            crowd = int(crowds and rng.random() < 0.2)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": int(rng.integers(1, n_classes + 1)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": crowd,
                }
            )
    by_image = {}
    for item in truth["annotations"]:
        by_image.setdefault(item["image_id"], []).append(item)
    for image in truth["images"]:
        for _ in range(rng.integers(0, detections)):
            near = by_image.get(image["id"])
            if near and rng.random() < 0.7:
                source = near[rng.integers(len(near))]
                jitter = rng.integers(-1, 2, 4) * step / 2
                box = (np.array(source["bbox"]) + jitter).tolist()
                box[2], box[3] = max(box[2], 1.0), max(box[3], 1.0)
                category = source["category_id"]
            else:
                box, category = _box(rng, step), int(rng.integers(1, n_classes + 1))
            score = float(rng.integers(1, 9) / 8 if coarse else rng.random())
            results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    if masks:
        _add_masks(truth, results, rng)
    return truth, results


def _box(rng, step):
    x, y = rng.integers(0, 12, 2) * step
    w, h = rng.integers(1, 8, 2) * step
    return [float(x), float(y), float(w), float(h)]


def _add_masks(truth, results, rng):
    for record in truth["annotations"] + results:
        x, y, w, h = (round(side) for side in record["bbox"])
        mask = np.zeros((240, 320), np.uint8)
        mask[max(y, 0) : max(y + h, 1), max(x, 0) : max(x + w, 1)] = 1
        mask[rng.random(mask.shape) < 0.1] = 0
        record["segmentation"] = encode(mask)
        if "iscrowd" in record:
            if not record["iscrowd"] and rng.random() < 0.4:  # as labelling tools write them
                record["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h + 1]]
            record["area"] = float(rng.choice([mask.sum(), 32.0**2, 96.0**2]))


def oracle(truth, results, iou_type="bbox"):
    """pycocotools' evaluation: an object with .eval and .stats."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = {key: [dict(item) for item in value] for key, value in truth.items()}
        for item in gt.dataset["annotations"]:
            if isinstance(item.get("segmentation"), dict):
                item["segmentation"] = dict(item["segmentation"])
        gt.createIndex()
        if results:
            dt = gt.loadRes([_plain(item, iou_type) for item in results])
        else:
            dt = COCO()
            dt.dataset = {**gt.dataset, "annotations": []}
            dt.createIndex()
        evaluation = COCOeval(gt, dt, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _plain(item, iou_type):
    kept = {key: item[key] for key in ("image_id", "category_id", "score")}
    if iou_type == "bbox":
        return kept | {"bbox": list(item["bbox"])}
    return kept | {"segmentation": dict(item["segmentation"])}
