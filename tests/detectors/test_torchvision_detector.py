"""torchvision's detectors by name: their classes, their weights, and what is told where they cannot be had."""

import urllib.error

import numpy as np
import pytest
import torch
from torchvision.models import get_model, get_model_weights

from drivetl.coco.detections import Detections
from drivetl.detectors.classes import labels_of_outputs
from drivetl.detectors.spec import open_detector, parse_spec
from drivetl.detectors.torchvision_detector import TorchvisionDetector
from drivetl.errors import CheckpointError, ConfigError, DataError

NAME = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def random():
    return TorchvisionDetector(NAME, "random", "cpu")


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 90, 160), dtype=np.uint8))


def test_gaps_in_the_numbering_are_no_classes():
    names, labels = labels_of_outputs(["__background__", "person", "N/A", "car"])
    assert names == ("person", "car") and labels.tolist() == [0, 1, 0, 2]


def test_the_classes_are_those_of_the_weights(random):
    assert len(random.categories) == 80 and random.categories[:3] == ("person", "bicycle", "car")
    full = get_model_weights(NAME).DEFAULT.meta["categories"]
    for number, name in enumerate(full):
        assert random.label_of[number] == (random.categories.index(name) + 1 if name in random.categories else 0)


def test_it_is_torchvisions_own_model(random, image):
    (found,) = random.infer([image])
    with torch.inference_mode():
        (theirs,) = random.model([image / 255])
    known = random.label_of[theirs["labels"].numpy()]
    assert len(known) > 20
    np.testing.assert_allclose(found.boxes, theirs["boxes"].numpy()[known > 0], atol=1e-4)
    np.testing.assert_array_equal(found.labels, known[known > 0])
    numbers = np.array([1, 12, 13, 90])  # person, no class, stop sign, toothbrush
    found = random._known(
        Detections(np.eye(4, dtype=np.float32), np.ones(4, np.float32), numbers, ["a", "b", "c", "d"])
    )
    assert [random.categories[label - 1] for label in found.labels] == ["person", "stop sign", "toothbrush"]
    assert found.masks == ["a", "c", "d"] and found.boxes.shape == (3, 4)
    with pytest.raises(DataError, match="uint8 tensor"):
        random.infer([image.float()])


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone(random):
    before = torch.get_rng_state()
    other = open_detector(parse_spec(f"torchvision:{NAME}:random"), device="cpu")
    assert torch.equal(before, torch.get_rng_state()) and other.weights_hash == random.weights_hash
    assert other.name == NAME and other.augmentation["transforms"] == []
    assert open_detector(parse_spec(f"torchvision:{NAME}:random"), manifest={"x": 1}).augmentation == {"x": 1}


def test_published_weights_come_from_the_cache(random, image, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / get_model_weights(NAME).COCO_V1.url.rsplit("/", 1)[1]
    file.parent.mkdir()
    model = get_model(NAME, weights=None, weights_backbone=None)
    torch.save(model.state_dict(), file)
    detector = TorchvisionDetector(NAME, "COCO_V1", "cpu")
    assert all(torch.equal(detector.model.state_dict()[key], value) for key, value in model.state_dict().items())
    assert detector.weights_hash != random.weights_hash and "coco" in detector.augmentation["preset"]
    torch.save({"model": print}, file)
    with pytest.raises(CheckpointError, match="which is never run"):
        TorchvisionDetector(NAME)


def test_a_refused_download_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(CheckpointError) as caught:
        TorchvisionDetector(NAME)
    text = str(caught.value)
    assert f"the COCO_V1 weights of {NAME} cannot be downloaded (<urlopen error no route to host>)" in text
    assert f"put ssdlite320_mobilenet_v3_large_coco-a79551df.pth into {tmp_path}/checkpoints" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "retinanet_resnet50",
            "",
            "torchvision has no detector 'retinanet_resnet50' - did you mean 'retinanet_resnet5",
        ),
        ("resnet50", "", "torchvision has no detector 'resnet50'"),
        (NAME, "COCO_V7", "publishes no weights 'COCO_V7' for .* - use COCO_V1 or random"),
    ],
)
def test_unknown_names(name, weights, message):
    with pytest.raises(ConfigError, match=message):
        TorchvisionDetector(name, weights)
