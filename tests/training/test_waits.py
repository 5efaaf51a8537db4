"""Laws of the steps' waits for the device: the counter counts what depends on data, and our code waits once a step."""

import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "tools"), *sys.path])


def test_what_depends_on_data_is_counted_and_nothing_else(tools):
    from syncs import counted

    values = torch.arange(6.0)

    def waits_of(work):
        with counted() as waits:
            work()
        return {operation: count for (_, _, operation), count in waits.items()}

    assert waits_of(lambda: values.sum().item()) == {"_local_scalar_dense": 1}
    assert waits_of(lambda: bool((values > 2).any())) == {"_local_scalar_dense": 1}
    assert waits_of(lambda: torch.where(values > 2)) == {"nonzero": 1}
    assert waits_of(lambda: values[values > 2]) == {"index": 1}
    assert waits_of(lambda: values.clone().tolist()) == {"tolist": 1}
    assert waits_of(lambda: values[torch.tensor([1, 2])]) == {}
    assert waits_of(lambda: values.clone().masked_fill_(values > 2, 0.0)) == {}
    assert waits_of(lambda: torch.where(values > 2, values, 0.0)) == {}


@pytest.mark.parametrize(
    ("arch", "ours"),
    [
        ("fasterrcnn_tiny_fpn", {"loop.py: train_epoch"}),
        ("maskrcnn_mobilenet_v2_lite_fpn", {"loop.py: train_epoch", "ignore.py: _mask_loss"}),
    ],
)
def test_law_our_code_waits_once_a_step_and_once_for_masks(tools, arch, ours):
    from bench.training import STEPS, waits_of_a_step

    waits = waits_of_a_step(arch)
    assert {where: count / STEPS for (code, where, _), count in waits.items() if code == "drivetl"} == dict.fromkeys(
        ours, 1
    )
    assert {code for code, _, _ in waits} == {"drivetl", "torchvision"}
    assert sum(count for (code, _, _), count in waits.items() if code == "torchvision") > 40 * STEPS
