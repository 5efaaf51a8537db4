"""Laws of replay: which classes meet, what is unknown, exact resume, refusals."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from class_relations import SOURCE, TARGET
from training_runs import kill_after, write_tree

from drivetl.coco.class_map import class_map
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import parse_taxonomy
from drivetl.config import load_config
from drivetl.data.dataset import DetectionDataset
from drivetl.data.sampling import Streams
from drivetl.errors import ConfigError
from drivetl.models.weights import read_weights
from drivetl.training import loop, trainer
from drivetl.training.finetune import finetune
from drivetl.training.replay import DEFAULT_SHARE, Replay, source_share, under_classes


def taxonomy(classes):
    return parse_taxonomy({"name": "test", "classes": classes})


def with_classes(classes, images=()):
    return Dataset(tuple(classes), list(images), Path(), {})


def test_the_fate_of_every_class_is_said_in_words():
    source = with_classes(SOURCE)
    classes = class_map(tuple(SOURCE), tuple(TARGET), taxonomy(SOURCE), taxonomy(TARGET))
    replay = Replay(Path(), under_classes(source, tuple(TARGET), classes), classes, tuple(SOURCE), 0.5)
    assert replay.classes_in_words() == (
        "objects: person as pedestrian, Automobile as car; ignore regions: bicycle (may be cyclist), bus (may be tram);"
        " background: traffic light; not labelled there: cyclist, tram"
    )


def test_law_every_object_is_an_object_an_ignore_region_or_of_an_unrelated_class():
    image = ImageRecord(5, "5.png", 100, 50, labelled=(1, 2, 4, 5))  # automobiles are not labelled here
    image.annotations = [Annotation(number, (number, 0.0, 5.0, 6.0), 30.0) for number in (1, 2, 4, 5)]
    image.ignore_regions = [
        IgnoreRegion((0, 0, 1, 1), 1.0),
        IgnoreRegion((1, 0, 1, 1), 1.0, (1, 4)),
        IgnoreRegion((2, 0, 1, 1), 1.0, (4,)),
    ]
    other = ImageRecord(6, "6.png", 100, 50)
    source = with_classes(SOURCE, [image, other])
    classes = class_map(tuple(SOURCE), tuple(TARGET), taxonomy(SOURCE), taxonomy(TARGET))
    mapped, empty = under_classes(source, tuple(TARGET), classes).images
    assert [(item.category_id, item.bbox_xywh[0]) for item in mapped.annotations] == [(2, 1)]
    regions = [(region.bbox_xywh[0], region.category_ids) for region in mapped.ignore_regions]
    assert regions == [(2, (3,)), (5, (4,)), (0, ()), (1, (2,))]
    assert mapped.labelled == (2,) and empty.labelled == (1, 2)
    assert [item.category_id for item in image.annotations] == [1, 2, 4, 5], "the input is not changed"


def replaying(config, source, share=0.25, **optim):
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source=str(source), source_share=share),
        optim=dataclasses.replace(config.optim, **optim),
    )


@pytest.fixture
def old_city(tmp_path):
    """Images of another domain: cars are called automobiles, boats are unknown to the target."""
    relation = {"automobile": {"car": 1.0}}
    return write_tree(
        tmp_path / "old", n_images=5, categories=("automobile", "boat"), first_drive=20, seed=4, relation=relation
    )


def recorded_batches(monkeypatch):
    """[(image id, stream) of every image] of every step that is trained."""
    steps, forward = [], loop.forward_uint8

    def remember(model, images, device, targets=None):
        steps.append([(int(item["image_id"]), int(item.get("stream", 0))) for item in targets])
        return forward(model, images, device, targets)

    monkeypatch.setattr(loop, "forward_uint8", remember)
    return steps


def test_a_run_replays_the_source_and_says_so(small_config, old_city, tmp_path, monkeypatch, capsys):
    steps = recorded_batches(monkeypatch)
    small_config = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, anchors="fit"))
    config = replaying(small_config, old_city)
    outcome = finetune(config, tmp_path / "run")
    assert [sum(stream for _, stream in step) for step in steps] == [1] * 6
    assert {image for step in steps[:3] for image, stream in step if stream == 0} == set(range(1, 9))
    assert outcome.rows[-1]["step"] == 6  # 8 images, 3 a step, twice
    recorded = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert {"source_sha256", "source_images_sha256"} <= recorded.keys()
    words = " ".join(capsys.readouterr().out.split())
    assert "data.source: 5 images of 3 drives, 25 % of every batch" in words
    assert "an epoch is 3 steps with 9 images of data.train and 3 of data.source" in words
    named = "objects: automobile as car; background: boat; not labelled there: pedestrian"
    assert named in words and named in (tmp_path / "run" / "README.md").read_text().replace("\\", "")
    finetune(small_config, tmp_path / "plain")
    assert "boxes" in json.loads((tmp_path / "plain" / "anchors.json").read_text())["reason"]
    for name in ("augmentation.json", "anchors.json", "taxonomy.yaml"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert load_config(tmp_path / "run" / "config.yaml") == config


@pytest.mark.parametrize("steps", [1, 4])
def test_resume_after_a_kill_is_bit_exact_with_a_source(small_config, old_city, tmp_path, monkeypatch, steps):
    config = replaying(small_config, old_city, 0.3)
    finetune(config, tmp_path / "whole")
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, steps)
        finetune(config, tmp_path / "killed")
    finetune(config, tmp_path / "killed", resume=True)
    whole, killed = (
        read_weights(tmp_path / name / "checkpoints/last/model.safetensors") for name in ("whole", "killed")
    )
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_resume_is_refused_when_the_source_has_changed(small_config, old_city, tmp_path):
    config = replaying(small_config, old_city, epochs=1)
    finetune(config, tmp_path / "run")
    image = old_city.parent / "000004.png"
    content = image.read_bytes()
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"images of data\.source are not those .*--accept-changed-images"):
        finetune(config, tmp_path / "run", resume=True)
    image.write_bytes(content)
    finetune(config, tmp_path / "run", resume=True)
    old_city.write_bytes(old_city.read_bytes() + b" ")
    with pytest.raises(ConfigError, match=r"data\.source: the file is not the one this run began with"):
        finetune(config, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match=r"data\.source_share was 0\.25, now 0\.5"):
        finetune(replaying(config, old_city, 0.5), tmp_path / "run", resume=True)


def test_auto_is_the_default_share_and_a_resumed_run_keeps_it(small_config, old_city, tmp_path):
    config = replaying(small_config, old_city, "auto", epochs=1)
    assert source_share(config) == DEFAULT_SHARE
    assert source_share(replaying(small_config, "", "auto")) == 0.0
    finetune(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.yaml").data.source_share == DEFAULT_SHARE
    finetune(config, tmp_path / "run", resume=True)


def test_the_same_image_of_both_streams_is_augmented_differently(old_city):
    def noise(sample, rng):
        sample.image = rng.integers(0, 255, sample.image.shape).astype("uint8")
        return sample

    data = read_dataset(old_city)
    both = Streams([DetectionDataset(data, augment=noise, stream=number) for number in (0, 1)])
    assert len(both) == 10
    (first, target), (second, other) = both[1, 3], both[1, 8]
    assert not torch.equal(first, second) and "stream" not in target and int(other["stream"]) == 1
    assert int(target["image_id"]) == int(other["image_id"]) == 4


def test_a_loss_that_is_not_finite_names_the_images_of_the_source(small_config, old_city, tmp_path, monkeypatch):
    forward = loop.forward_uint8

    def broken(*arguments):
        return {key: value * float("nan") for key, value in forward(*arguments).items()}

    monkeypatch.setattr(loop, "forward_uint8", broken)
    with pytest.raises(Exception, match=r"image ids \d+, \d+, \d+, \d+ of data\.source"):
        finetune(replaying(small_config, old_city), tmp_path / "run")


@pytest.mark.parametrize(
    "case", ["val images", "val copy", "source data", "other classes", "no images", "val file", "train file"]
)
def test_an_unusable_source_is_refused_before_anything_is_written(small_config, source, old_city, tmp_path, case):
    train, val = Path(small_config.data.train), Path(small_config.data.val)
    path, config, arguments = old_city, small_config, {}
    if case == "val images":
        path = val.with_name("copy.json")
        path.write_bytes(val.read_bytes())
        message = r"copy\.json: data\.source has .*000001\.png, which data\.val evaluates on"
    elif case == "val copy":
        (old_city.parent / "000004.png").write_bytes((val.parent / "000001.png").read_bytes())
        message = r"data\.source has .*old/000004\.png \(a copy of .*val/000001\.png\), which data\.val evaluates on"
    elif case == "source data":
        path = write_tree(tmp_path / "unseen", first_drive=30, seed=6)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(source[1])))
        arguments, message = {"source_data": path}, r"has .*000001\.png, which --source-data evaluates on"
    elif case == "other classes":
        path = write_tree(tmp_path / "harbour", categories=("boat", "plane"))
        message = (
            r"data\.source has classes boat, plane, none of .* data\.train \(.*train/data\.json\): car, pedestrian"
        )
    elif case == "no images":
        write_dataset(read_dataset(old_city).subset([]), old_city)
        message = r"old/data\.json: data\.source: no images in it"
    else:
        path = val if case == "val file" else train.parent / ".." / "train" / "data.json"
        message = rf"data\.source is the same file as data\.{case.split()[0]}"
    with pytest.raises(ConfigError, match=message):
        finetune(replaying(config, path), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_drives_in_the_source_and_in_validation_are_a_warning(small_config, tmp_path, capsys):
    path = write_tree(tmp_path / "old", first_drive=10)
    finetune(replaying(small_config, path, epochs=1), tmp_path / "run")
    output = " ".join(capsys.readouterr().err.split())
    assert "in data.source and in data.val: 3 drives (drive 10 and 2 more)" in output
