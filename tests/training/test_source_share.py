"""`optim.source_share`: what is judged and saved lies on the line between the start and what was learnt."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import write_tree

from drivetl.config import FinetuneConfig
from drivetl.errors import ConfigError
from drivetl.models.checkpoint import read_weights
from drivetl.training.ema import Average, Held, Swapped
from drivetl.training.finetune import finetune


def weights(run, which="last"):
    return read_weights(run / "checkpoints" / which / "model.safetensors")


def with_share(config: FinetuneConfig, share: float, start) -> FinetuneConfig:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, start=str(start), anchors="keep"),
        optim=dataclasses.replace(config.optim, source_share=share, epochs=1, ema=0.0),
    )


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_law_saved_weights_lie_between_the_source_and_what_was_learnt(source, tmp_path, share):
    """The training itself is untouched, so two runs differ by the last step alone: the line between both ends."""
    config, start = source
    finetune(with_share(config, 0.0, start), tmp_path / "learnt")
    finetune(with_share(config, share, start), tmp_path / "held")
    before, learnt, held = weights(start, "best"), weights(tmp_path / "learnt"), weights(tmp_path / "held")
    moved = 0
    for key, value in held.items():
        assert torch.equal(value, torch.lerp(learnt[key], before[key], share)), key
        moved += not torch.equal(learnt[key], before[key])
    assert moved


def test_law_a_class_that_came_from_nothing_keeps_all_it_learnt(source, tmp_path):
    config, start = source
    train = write_tree(tmp_path / "new", categories=("car", "tractor"))
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, train=str(train), val=str(train))
    )
    for share in (0.0, 0.5):
        finetune(with_share(config, share, start), tmp_path / str(share))
    learnt, held = weights(tmp_path / "0.0"), weights(tmp_path / "0.5")
    key = "roi_heads.box_predictor.cls_score.weight"  # background, car, tractor
    assert torch.equal(held[key][2], learnt[key][2])
    assert not torch.equal(held[key][1], learnt[key][1])
    key = "roi_heads.box_predictor.bbox_pred.weight"
    assert torch.equal(held[key][8:], learnt[key][8:])
    assert not torch.equal(held[key][4:8], learnt[key][4:8])


def test_the_model_itself_trains_on_with_its_own_weights():
    model = torch.nn.Linear(3, 2)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    held = Held.of({"weight": torch.zeros(2, 3)}, 0.5, ())
    average = Average(model, 0.9)
    for average_ in (None, average):
        with Swapped(model, average_, held):
            assert torch.equal(model.weight, own["weight"] / 2)
            assert torch.equal(model.bias, own["bias"])
        assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_a_share_of_all_is_refused():
    config = FinetuneConfig()
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, source_share=1.0))
    with pytest.raises(ConfigError, match=r"optim\.source_share is 1\.0.*in \[0, 1\)"):
        config.check()
