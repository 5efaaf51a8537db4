"""The bench of whole training steps: every column is measured, and what it counts is right."""

import sys
from pathlib import Path

import pytest
import torch

from drivetl.models.build import ModelSpec, build_model

CPU = torch.device("cpu")


@pytest.fixture
def loops(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "tools"), *sys.path])
    import training_loops

    return training_loops


def test_law_the_operations_of_a_product_are_counted_and_its_rate_is_positive(loops, monkeypatch):
    a, b = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7)
    assert loops.flops_of(lambda: a @ b) == 2 * 3 * 5 * 7
    assert loops.flops_of(lambda: (a @ b).sum().backward()) == 2 * 2 * 3 * 5 * 7
    monkeypatch.setitem(loops.MATRIX, "cpu", 32)
    assert loops.matmul_rate(CPU, torch.float32) > 0


@pytest.mark.parametrize("arch", ["fasterrcnn_mobilenet_v2_lite_fpn", "fasterrcnn_tiny_fpn"])
def test_law_the_gradients_of_backbone_and_rpn_are_torchvisions(loops, arch):
    """In double precision, where no unit is clamped in one model and not in the other."""
    from bench.training import unfused
    from loss_curves import scenes, start_model

    spec = ModelSpec(arch, ("a", "b", "c"), 96, 128, 40, 20, 16, 10, 0.05, frozen_norm=True)
    theirs = unfused(start_model(spec, scenes(2, 2, 96, 128), CPU))
    ours = build_model(spec)
    ours.load_state_dict(theirs.state_dict())
    torch.manual_seed(0)
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    gradients = []
    for model in (theirs.double().train(), ours.double().train()):
        levels = list(model.backbone(images).values())
        objectness, deltas = model.rpn.head(levels)
        torch.manual_seed(1)
        sum(
            (item * torch.randn(item.shape, dtype=torch.float64)).sum() for item in (*levels, *objectness, *deltas)
        ).backward()
        gradients.append({name: item.grad for name, item in model.named_parameters() if item.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 10
    for name, expected in gradients[0].items():
        assert torch.linalg.vector_norm(gradients[1][name] - expected) <= 1e-6 * torch.linalg.vector_norm(expected), (
            name
        )


def test_every_column_of_a_cpu_is_measured(loops):
    from bench.training import batch

    spec = ModelSpec("fasterrcnn_tiny_fpn", ("a", "b", "c"), 128, 160, 40, 20, 16, 10, 0.05, frozen_norm=True)
    row = loops.throughput(spec, batch(128, 160, 1), CPU, torch.float32, 1e9, 1)
    missing = {key for key, value in row.items() if value is None}
    assert missing == {"recipe AMP img/s", "recipe peak MB", "recipe AMP peak MB", "ours peak MB"}
    assert all(value > 0 for key, value in row.items() if key not in missing and key != "transfer s/step")
    assert row["ours / recipe"] == pytest.approx(row["ours img/s"] / row["recipe img/s"])


@pytest.mark.gpu
def test_a_gpu_has_amp_and_memory(loops):
    from bench.training import batch

    spec = ModelSpec("fasterrcnn_tiny_fpn", ("a", "b", "c"), 128, 160, 40, 20, 16, 10, 0.05, frozen_norm=True)
    row = loops.throughput(spec, batch(128, 160, 2), torch.device("cuda"), torch.bfloat16, 1e12, 1)
    assert all(value is not None and value > 0 for value in row.values())


@pytest.mark.gpu
def test_law_a_step_on_a_gpu_waits_as_often_as_was_counted(loops):
    """Losses; NMS and its counts; a sample of anchors and of proposals; the levels of RoIs."""
    from bench.training import batch
    from profile_training import real_waits

    from drivetl.models.build import build_model
    from drivetl.training.optimizer import build_optimizer

    device = torch.device("cuda")
    spec = ModelSpec("fasterrcnn_tiny_fpn", ("a", "b", "c"), 128, 160, 40, 20, 16, 10, 0.05, frozen_norm=True)
    model = build_model(spec).to(device).train()
    optimizer = build_optimizer(model, spec.arch, loops.OPTIM, fused=True)
    images = batch(128, 160, 4)
    loops.our_step(model, images, optimizer, device, torch.float32)
    waits = real_waits(lambda: loops.our_step(model, images, optimizer, device, torch.float32))
    assert waits <= 6


def test_law_the_losses_are_those_of_torchvisions_loop(loops, tmp_path):
    """The same weights, batches and random numbers: in fp32 the first losses agree to rounding."""
    from loss_curves import BATCHES, CURVE_DIFFERENCE, FIRST_DIFFERENCE, RECIPE, differences, loss_curves, plot

    spec = ModelSpec("fasterrcnn_tiny_fpn", ("a", "b", "c"), 64, 96, 60, 40, 16, 10, 0.05, frozen_norm=True)
    curves = loss_curves(spec, 1, CPU, torch.float32, steps=2 * BATCHES)
    (row,) = differences(curves)
    assert list(curves) == [RECIPE, "drivetl, fp32"] and row["steps"] == 2 * BATCHES
    assert row["first step differs by"] < FIRST_DIFFERENCE
    assert row[f"largest of {BATCHES} steps"] < CURVE_DIFFERENCE
    assert len({round(loss, 3) for loss in curves[RECIPE]}) > BATCHES  # it trains, on different batches
    assert row["reference's last loss"] < sum(curves[RECIPE][:BATCHES]) / BATCHES
    plot({"a": curves, "b": curves}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_law_a_difference_is_a_share_of_the_references_loss(loops):
    from loss_curves import BATCHES, RECIPE, differences

    theirs = [2.0] * (BATCHES + 2)
    ours = [2.0, *theirs[1:-1], 2.4]
    (row,) = differences({RECIPE: theirs, "drivetl, fp32": ours})
    assert row["first step differs by"] == 0 and row["largest of one step"] == pytest.approx(0.2)
    assert row[f"largest of {BATCHES} steps"] == pytest.approx(0.2 / BATCHES)
    assert row["last loss"] == pytest.approx(2 + 0.4 / BATCHES) and row["reference's last loss"] == 2


@pytest.mark.parametrize("words", [["conditions", "--curves", "x.png"], ["training", "--curves", "x.png", "--syncs"]])
def test_curves_are_of_the_training_alone(loops, words, monkeypatch, capsys):
    import benchmark

    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--curves are for training" in capsys.readouterr().err
