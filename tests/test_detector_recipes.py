"""The recipes of docs/detector_recipes.md run as they are shown, on stand-ins with the interface of each package.

Every stand-in finds the planted boxes of the image as it was given, so that a recipe with another order of colours,
another first class or another form of boxes does not find what the planted detector finds.
"""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from planted import PlantedDetector, read_planted

from drivetl.api.robustness import as_detector
from drivetl.data.dataset import read_image

PAGE = (Path(__file__).parents[1] / "docs" / "detector_recipes.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
NAMES = ("person", "bicycle", "car")


def find(rgb):
    """(boxes, scores, 0-based classes among NAMES) of a (H, W, 3) RGB array."""
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    found = PlantedDetector().infer([torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)])[0]
    return torch.from_numpy(found.boxes), torch.from_numpy(found.scores), torch.from_numpy(2 * (2 - found.labels))


def ultralytics():
    class YOLO:
        def __init__(self, weights):
            self.names = dict(enumerate(NAMES))

        def predict(self, source, conf, max_det, verbose):
            return [self._one(*find(image[..., ::-1])) for image in source]

        def _one(self, boxes, scores, classes):
            return SimpleNamespace(boxes=SimpleNamespace(xyxy=boxes, conf=scores, cls=classes.float()))

    return {"ultralytics": {"YOLO": YOLO}}


def rfdetr():
    coco = {1: "person", 2: "bicycle", 90: "car"}  # with a gap

    class RFDETRBase:
        def predict(self, images, threshold):
            found = [self._one(*find(image)) for image in images]
            return found if len(found) > 1 else found[0]

        def _one(self, boxes, scores, classes):
            ids = np.array(list(coco))[classes.numpy()]
            return SimpleNamespace(xyxy=boxes.numpy(), confidence=scores.numpy(), class_id=ids)

    return {"rfdetr": {"RFDETRBase": RFDETRBase}, "rfdetr.util": {}, "rfdetr.util.coco_classes": {"COCO_CLASSES": coco}}


def transformers():
    class Processor:
        @classmethod
        def from_pretrained(cls, name):
            return cls()

        def __call__(self, images, return_tensors):
            assert return_tensors == "pt"
            return {"pixel_values": [image.permute(1, 2, 0).numpy() for image in images]}

        def post_process_object_detection(self, outputs, threshold, target_sizes):
            keys = ("boxes", "scores", "labels")
            assert [tuple(image.shape[:2]) for image in outputs] == target_sizes
            return [dict(zip(keys, find(image), strict=True)) for image in outputs]

    class Model:
        config = SimpleNamespace(id2label=dict(enumerate(NAMES)))

        @classmethod
        def from_pretrained(cls, name):
            return cls()

        def eval(self):
            return self

        def __call__(self, pixel_values):
            return pixel_values

    return {"transformers": {"AutoImageProcessor": Processor, "AutoModelForObjectDetection": Model}}


def detectron2():
    class Predictor:
        def __init__(self, config):
            assert config.MODEL.WEIGHTS == "weights" and config.MODEL.ROI_HEADS.SCORE_THRESH_TEST < 0.01

        def __call__(self, bgr):
            boxes, scores, classes = find(bgr[..., ::-1])
            instances = SimpleNamespace(pred_boxes=SimpleNamespace(tensor=boxes), scores=scores, pred_classes=classes)
            return {"instances": instances}

    config = SimpleNamespace(
        merge_from_file=lambda path: None,
        MODEL=SimpleNamespace(WEIGHTS="", ROI_HEADS=SimpleNamespace(SCORE_THRESH_TEST=0.5)),
        DATASETS=SimpleNamespace(TRAIN=("coco",)),
    )
    zoo = ModuleType("model_zoo")
    zoo.get_config_file = zoo.get_checkpoint_url = lambda name: "weights"
    metadata = SimpleNamespace(get=lambda name: SimpleNamespace(thing_classes=list(NAMES)))
    return {
        "detectron2": {"model_zoo": zoo},
        "detectron2.config": {"get_cfg": lambda: config},
        "detectron2.data": {"MetadataCatalog": metadata},
        "detectron2.engine": {"DefaultPredictor": Predictor},
    }


STAND_INS = {
    "Ultralytics": ultralytics,
    "RF-DETR": rfdetr,
    "Hugging Face transformers": transformers,
    "detectron2": detectron2,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    data = read_planted(tmp_path_factory.mktemp("d"), n_images=4)
    pixels = [read_image(record, data.images_root) for record in data.images[:3]]  # the last one has another size
    return [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in pixels]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", sorted(STAND_INS))
def test_a_recipe_finds_what_its_detector_finds(monkeypatch, images, name, count):
    for module, content in STAND_INS[name]().items():
        stand_in = ModuleType(module)
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, module, stand_in)
    names = {}
    exec(compile(RECIPES[name], name, "exec"), names)
    detector = as_detector(names["make"]())
    expected = PlantedDetector().infer(images[-count:])
    assert sum(len(found.boxes) for found in expected) > 0
    for found, planted in zip(detector.infer(images[-count:]), expected, strict=True):
        assert found.boxes.tolist() == planted.boxes.tolist() and found.scores.tolist() == planted.scores.tolist()
        words = [detector.categories[label - 1] for label in found.labels]
        assert words == [{1: "car", 2: "person"}[label] for label in planted.labels.tolist()]


def test_every_recipe_is_short_and_has_its_licence():
    assert RECIPES.keys() == STAND_INS.keys()
    for name, code in RECIPES.items():
        lines = [line for line in code.splitlines() if line.strip()]
        assert len(lines) < 20, name
    for name in STAND_INS:
        section = PAGE.split(f"## {name}\n")[1].split("```")[0]
        assert ("AGPL-3.0" if name == "Ultralytics" else "Apache-2.0") in section
