"""torch.compile is optional: where it is on, it compiled, or the training ends; where it cannot, it says so."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

from drivetl.errors import DrivetlError
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.compiled import PARTS, compile_network
from drivetl.models.gpu import MOST_SHAPES

SPEC = ModelSpec("fasterrcnn_mobilenet_v2_lite_fpn", ("car",), 64, 96, 20, 10, 8, 10, 0.05, frozen_norm=True)
CPU = torch.device("cpu")
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))]
TARGETS = [{"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}]


class Small(nn.Module):
    """The parts of a detector that are compiled, each one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.rpn = nn.Conv2d(3, 4, 3), nn.Module()
        self.rpn.head = Head()

    def forward(self, x):
        return self.rpn.head([self.backbone(x)])


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return [self.layer(item).relu() for item in x]


def losses_of(model):
    torch.manual_seed(0)
    model.zero_grad()
    losses = model([image.clone() for image in IMAGES], [dict(target) for target in TARGETS])
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters()]


def test_without_a_compiler_the_model_is_unchanged_and_the_reason_is_given(monkeypatch):
    def no_compiler(module, **options):
        def call(x):
            raise RuntimeError("Failed to find C++ compiler.\nmore lines")

        return call

    monkeypatch.setattr(torch, "compile", no_compiler)
    model = build_model(SPEC)
    compiled, message = compile_network(model, CPU)
    assert compiled is None and "not compiled: Failed to find C++ compiler. - install" in message
    assert model.backbone._compiled_call_impl is None


def test_law_a_compiled_detector_has_the_losses_and_gradients_of_the_uncompiled_one():
    """Traced by the compiler's front end without breaks, and then run as it is: to the bit."""
    torch.manual_seed(0)
    model = build_model(SPEC).train()
    names = list(model.state_dict())
    losses_of(model)
    expected, their_gradients = losses_of(model)
    compiled, message = compile_network(model, CPU, backend="eager")
    assert "compiled at the first step" in message and list(model.state_dict()) == names
    losses, gradients = losses_of(model)
    assert all(torch.equal(losses[key], expected[key]) for key in expected)
    for ours, theirs in zip(gradients, their_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)  # the RPN's backward pass is dense when compiled
    assert compiled.check() == "compiled: backbone (1 graph), rpn.head (1 graph)"
    assert compiled.check() == "", "said once"
    model.eval()
    model([torch.rand(3, 80, 96)])
    assert compiled.graphs == dict.fromkeys(PARTS, 1), "evaluation is not compiled"


def test_law_a_part_that_was_not_compiled_ends_the_training():
    compiled, _ = compile_network(Small(), CPU, backend="eager")
    with pytest.raises(DrivetlError, match=r"backbone and rpn\.head not compiled"):
        compiled.check()


def test_more_shapes_than_are_worth_compiling_are_computed_without():
    model = Small().train()
    compiled, _ = compile_network(model, CPU, backend="eager")
    plain = Small().train()
    plain.load_state_dict(model.state_dict())
    for side in range(8, 8 + MOST_SHAPES + 2):
        x = torch.rand(1, 3, side, 9)
        assert torch.equal(model(x)[0], plain(x)[0])
    assert compiled.graphs == dict.fromkeys(PARTS, MOST_SHAPES)


def test_what_cannot_be_compiled_is_an_error_with_its_reason():
    model = Small().train()
    convolve = model.rpn.head.layer.forward

    def in_two_graphs(x):
        torch._dynamo.graph_break()
        return convolve(x)

    model.rpn.head.layer.forward = in_two_graphs
    compile_network(model, CPU, backend="eager")
    with pytest.raises(DrivetlError, match=r"rpn\.head cannot be compiled"):
        model(torch.rand(1, 3, 9, 9))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_law_inductor_compiles_for_a_cpu_and_computes_the_same():
    model = Small().train()
    x = torch.rand(1, 3, 9, 9)
    expected = model(x)[0].detach()
    compiled, message = compile_network(model, CPU)
    assert compiled is not None, message
    found = model(x)[0]
    found.sum().backward()
    torch.testing.assert_close(found.detach(), expected)
    assert compiled.check() == "compiled: backbone (1 graph), rpn.head (1 graph)"


@pytest.mark.gpu
def test_law_a_gpu_compiles_the_whole_detector():
    torch.manual_seed(0)
    device = torch.device("cuda")
    model = build_model(SPEC).train().to(device)
    images, targets = [IMAGES[0].to(device)], [{key: value.to(device) for key, value in TARGETS[0].items()}]
    model(images, targets)
    torch.manual_seed(0)
    expected = model(images, targets)
    compiled, _ = compile_network(model, device)
    torch.manual_seed(0)
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert compiled.check()
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-3, atol=1e-3)
