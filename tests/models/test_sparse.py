"""The sparse backward pass of the RPN's convolution gives the dense gradients."""

import pytest
import torch
from torch import nn

from drivetl.models import sparse
from drivetl.models.build import ModelSpec, build_model


def _gradients(compute, layer, x, weights):
    x = x.clone().requires_grad_()
    out = compute(x, layer)
    grads = torch.autograd.grad((out * weights).sum(), [x, layer.weight, layer.bias])
    return out, grads


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_equal_the_dense_ones(share, channels_last):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3, padding=1)
    x = torch.randn(2, 16, 20, 31)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(2, 24, 20, 31) * (torch.rand(2, 1, 20, 31) < share)
    expected, dense = _gradients(lambda a, b: b(a), layer, x, weights)
    output, ours = _gradients(sparse.conv3x3, layer, x, weights)
    assert torch.equal(output, expected)
    for our_gradient, dense_gradient in zip(ours, dense, strict=True):
        torch.testing.assert_close(our_gradient, dense_gradient, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_corner_position_reaches_only_its_neighbours():
    layer = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(1, 3, 12, 12, requires_grad=True)
    sparse.conv3x3(x, layer)[0, 2, 11, 0].backward()
    touched = x.grad.abs().sum(1)[0] > 0
    assert touched[10:, :2].all() and touched.sum() == 4
    assert layer.bias.grad.tolist() == [0, 0, 1, 0, 0]


def test_a_training_step_of_a_detector_has_the_dense_gradients(monkeypatch):
    spec = ModelSpec("fasterrcnn_mobilenet_v2_lite_fpn", ("car",), 128, 192, 50, 50, 16, 20, 0.05, True)
    target = {"boxes": torch.tensor([[20.0, 30.0, 90.0, 80.0]]), "labels": torch.tensor([1])}

    def gradients():
        torch.manual_seed(3)
        model = build_model(spec).train()
        losses = model([torch.rand(3, 128, 192)], [target])
        sum(losses.values()).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    ours = gradients()
    monkeypatch.setattr("drivetl.models.precision.conv3x3", lambda x, layer: layer(x))
    dense = gradients()
    assert ours.keys() == dense.keys() and any("rpn.head.conv" in name for name in ours)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, dense[name], rtol=1e-3, atol=1e-5, msg=name)
