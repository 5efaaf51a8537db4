"""Laws of the waits for the device: the counter counts what depends on data, and a step or inference waits a few
times."""

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


def test_constants_copied_to_the_device_are_counted(tools):
    from syncs import counted

    with counted() as waits:
        torch.tensor(0.5, device="cpu"), torch.as_tensor([1.0, 2.0], dtype=torch.float32, device="cpu")
        torch.tensor(0.5), torch.zeros(3, device="cpu")
    assert {operation: count for (_, _, operation), count in waits.items()} == {"tensor": 1, "as_tensor": 1}


@pytest.mark.parametrize(("arch", "masks"), [("fasterrcnn_tiny_fpn", 0), ("maskrcnn_mobilenet_v2_lite_fpn", 2)])
def test_law_a_step_of_four_images_waits_six_times_and_twice_more_for_masks(tools, arch, masks):
    """Losses; NMS and its counts; a sample of anchors and of proposals; the levels of RoIs. Masks: which, and their
    levels."""
    from bench.training import STEPS, waits_of_a_step

    waits = waits_of_a_step(arch)
    assert {(where, operation): count / STEPS for (_, where, operation), count in waits.items()} == {
        ("loop.py: train_epoch", "tolist"): 1,
        ("waits.py: counts_of", "tolist"): 4 + masks,
        ("boxes.py: nms", "nms"): 1,
    }
    plain = waits_of_a_step(arch, plain=True)
    assert sum(plain.values()) > 70 * STEPS
    assert {code for code, _, _ in plain} == {"drivetl", "torchvision"}


@pytest.mark.parametrize(("arch", "masks"), [("fasterrcnn_tiny_fpn", False), ("maskrcnn_mobilenet_v2_lite_fpn", True)])
def test_law_inference_on_four_images_waits_seven_times_and_a_few_times_more_for_masks(tools, arch, masks):
    """Proposals: NMS and its counts; the levels of RoIs; detections: how many, NMS and its counts; the copy of the
    result. Masks: their levels, their corners, and those of every image."""
    from bench.training import BATCH, STEPS, waits_of_inference

    waits = waits_of_inference(arch)
    expected = {
        ("boxes.py: nms", "nms"): 2,
        ("waits.py: counts_of", "tolist"): 4 + masks,
        ("detector.py: _to_detections", "cpu"): 1,
        ("detector.py: _encoded", "cpu"): BATCH * masks,
        ("ignore.py: _pasted", "tolist"): masks,
    }
    found = {(where, operation): count / STEPS for (_, where, operation), count in waits.items()}
    assert found == {place: count for place, count in expected.items() if count}
    assert sum(waits_of_inference(arch, plain=True).values()) > 50 * STEPS
