"""`optim.source_share`: the evaluated and saved weights lie on the line between the start and the trained weights."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch
from training_runs import weights, write_tree

from drivetl.coco.io import read_dataset
from drivetl.coco.writing import write_dataset
from drivetl.config import FinetuneConfig
from drivetl.errors import ConfigError
from drivetl.training.ema import Average, SourceBlend, evaluated_weights, source_share_of_class
from drivetl.training.finetune import finetune


def with_share(config: FinetuneConfig, share: float, start) -> FinetuneConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, start=str(start), anchors="keep"),
        optim=dataclasses.replace(config.optim, source_share=share, epochs=1, ema=0.0),
    )


def start_objects(config: FinetuneConfig) -> list[int]:
    """Labelled objects per class in training, classes in order."""
    train = read_dataset(Path(config.data.train))
    counts = Counter(item.category_id for image in train.images for item in image.annotations)
    return [counts[number] for number in range(1, len(train.categories) + 1)]


def rows(key: str, share: float, objects: list[int], value: torch.Tensor) -> torch.Tensor:
    """The start's share per row of the box predictor, background first, written out from the definition."""
    row_shares = [share, *(max(share, 20 / (20 + count)) for count in objects)]
    shares = torch.tensor(row_shares).repeat_interleave(4 if "bbox_pred" in key else 1)
    return shares.view(-1, *[1] * (value.ndim - 1))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_law_saved_weights_lie_between_the_source_and_the_trained_weights(source, tmp_path, share):
    """The share does not change the training itself, so two runs differ only by the final blend."""
    config, start = source
    finetune(with_share(config, 0.0, start), tmp_path / "trained")
    finetune(with_share(config, share, start), tmp_path / "blend")
    before, trained, blend = weights(start, "best"), weights(tmp_path / "trained"), weights(tmp_path / "blend")
    moved = 0
    for key, value in blend.items():
        shares = torch.tensor(share)
        if ".box_predictor." in key:
            shares = rows(key, share, start_objects(config), value)
        assert torch.equal(value, torch.lerp(trained[key], before[key], shares)), key
        moved += not torch.equal(trained[key], before[key])
    assert moved


def test_law_a_class_without_a_source_class_keeps_its_trained_rows(source, tmp_path):
    config, start = source
    train = write_tree(tmp_path / "new", categories=("car", "tractor"))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, train=str(train), val=str(train)))
    for share in (0.0, 0.5):
        finetune(with_share(config, share, start), tmp_path / str(share))
    trained, blend = weights(tmp_path / "0.0"), weights(tmp_path / "0.5")
    key = "roi_heads.box_predictor.cls_score.weight"  # background, car, tractor
    assert torch.equal(blend[key][2], trained[key][2])
    assert not torch.equal(blend[key][1], trained[key][1])
    key = "roi_heads.box_predictor.bbox_pred.weight"
    assert torch.equal(blend[key][8:], trained[key][8:])
    assert not torch.equal(blend[key][4:8], trained[key][4:8])


def test_law_a_class_without_objects_keeps_the_rows_of_the_source(source, tmp_path):
    """And the more objects a class has, the closer its rows are to the trained ones."""
    config, start = source
    train = read_dataset(Path(config.data.train))
    for image in train.images:
        image.annotations = [item for item in image.annotations if item.category_id != 2]
    write_dataset(train, tmp_path / "without.json")
    blend = with_share(config, 0.3, start)
    blend = dataclasses.replace(blend, data=dataclasses.replace(blend.data, train=str(tmp_path / "without.json")))
    finetune(blend, tmp_path / "run")
    before, after = weights(start, "best"), weights(tmp_path / "run")
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(after[key][2], before[key][2])
    assert not torch.equal(after[key][1], before[key][1])
    assert [source_share_of_class(0.3, count) for count in (0, 20, 47, 10_000)] == [1.0, 0.5, 0.3, 0.3]


def test_the_model_continues_training_with_its_own_weights():
    model = torch.nn.Linear(3, 2)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    blend = SourceBlend.of({"weight": torch.zeros(2, 3)}, 0.5, {})
    average = Average(model, 0.9)
    for optional_average in (None, average):
        with evaluated_weights(model, optional_average, blend):
            assert torch.equal(model.weight, own["weight"] / 2)
            assert torch.equal(model.bias, own["bias"])
        assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_a_source_share_of_one_is_refused():
    config = FinetuneConfig()
    with pytest.raises(ConfigError, match=r"optim\.source_share is 1\.0.*at least 0 and below 1"):
        dataclasses.replace(config.optim, source_share=1.0)
