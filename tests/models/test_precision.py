"""Laws of exact precision: boxes stay fp32 under autocast, fused frozen norm is the same arithmetic."""

import copy

import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops.misc import FrozenBatchNorm2d

from drivetl.errors import ConfigError
from drivetl.models.build import ARCHITECTURES
from drivetl.models.norm import FusedFrozenBatchNorm2d, choose_norm, freeze_norm
from drivetl.models.precision import choose_precision, make_exact
from drivetl.models.runtime import choose_device


def _detector(exact: bool):
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=320, max_size=1000, box_score_thresh=0.0
    )
    if exact:
        make_exact(model)
    return model.eval()


def _proposals(model, images, autocast: bool):
    """(the RPN's proposals, the detected boxes)."""
    caught = []
    hook = model.rpn.register_forward_hook(lambda module, inputs, output: caught.extend(output[0]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        detections = model(images)
    hook.remove()
    return torch.cat(caught), torch.cat([item["boxes"] for item in detections])


def test_proposals_and_boxes_are_fp32_and_not_rounded_under_autocast():
    images = [torch.rand(3, 320, 1000)]
    plain, plain_boxes = _proposals(_detector(exact=True), images, autocast=False)
    fast, fast_boxes = _proposals(_detector(exact=True), images, autocast=True)
    assert fast.dtype == fast_boxes.dtype == torch.float32
    # distinct coordinates per box: rounding to bf16 collapses them
    distinct = len(fast[:, 0].unique()) / len(fast)
    assert distinct >= 0.95 * len(plain[:, 0].unique()) / len(plain)
    assert len(fast_boxes[:, 0].unique()) / len(fast_boxes) >= 0.95 * len(plain_boxes[:, 0].unique()) / len(plain_boxes)


def test_torchvision_alone_rounds_proposals():
    """The reason for the casts; when this fails, torchvision has been fixed and they can be removed."""
    rounded, _ = _proposals(_detector(exact=False), [torch.rand(3, 320, 1000)], autocast=True)
    assert torch.equal(rounded.float(), rounded.bfloat16().float())


def test_anchors_are_fp32_under_autocast():
    model = _detector(exact=True)
    caught = []
    model.rpn.anchor_generator.register_forward_hook(lambda module, inputs, output: caught.extend(output))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        model([torch.rand(3, 320, 400)])
    assert all(item.dtype == torch.float32 for item in caught)


def test_losses_are_finite_and_fp32_under_autocast():
    model = _detector(exact=True).train()
    target = {"boxes": torch.tensor([[600.0, 20.0, 690.0, 90.0]]), "labels": torch.tensor([1])}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([torch.rand(3, 320, 1000)], [target])
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())


def test_exact_modules_change_nothing_without_autocast():
    images = [torch.rand(3, 200, 300)]
    ours, theirs = _detector(exact=True), _detector(exact=False)
    with torch.inference_mode():
        for a, b in zip(ours(images), theirs(images), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_frozen_norm_keeps_the_activations_dtype_and_value():
    norm = FrozenBatchNorm2d(8)
    for buffer in norm.buffers():
        buffer.uniform_(0.5, 1.5)
    fused = freeze_norm(torch.nn.Sequential(norm))[0]
    assert isinstance(fused, FusedFrozenBatchNorm2d)
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(fused(x), norm(x), rtol=1e-5, atol=1e-6)
    assert fused(x.bfloat16()).dtype == torch.bfloat16
    assert norm(x.bfloat16()).dtype == torch.float32  # the reason for the fused one


def test_freezing_trained_norm_keeps_eval_output_and_has_no_parameters():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    before = model.eval()(x)
    frozen = freeze_norm(model).train()
    torch.testing.assert_close(frozen(x), before)
    assert not list(frozen[1].parameters())


@pytest.mark.parametrize(
    "arch", ["fasterrcnn_mobilenet_v2_lite_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_frozen_norms_are_folded_and_change_neither_features_nor_gradients(arch):
    torch.manual_seed(0)
    plain = ARCHITECTURES[arch].build(3).backbone.eval()
    for name, buffer in plain.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    folded = freeze_norm(copy.deepcopy(plain))
    norms = [module for module in folded.modules() if isinstance(module, FusedFrozenBatchNorm2d)]
    assert norms and all(norm.folded for norm in norms)
    assert folded.state_dict().keys() == {key for key in plain.state_dict() if "num_batches" not in key}
    again = copy.deepcopy(folded)
    images = torch.rand(2, 3, 64, 96)
    ours, theirs, copied = folded(images), plain(images), again(images)
    for level in theirs:
        largest = float(theirs[level].detach().abs().max())
        torch.testing.assert_close(ours[level], theirs[level], rtol=1e-3, atol=1e-4 * largest)
        assert torch.equal(copied[level], ours[level])
    for features in (ours, theirs):
        sum(value.square().mean() for value in features.values()).backward()
    weights = dict(plain.named_parameters())
    for name, parameter in folded.named_parameters():
        scale = float(weights[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-3, atol=1e-3 * scale)


def test_a_convolution_with_another_reader_is_not_folded():
    class Skip(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, bias=False)
            self.norm = torch.nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    skip, x = Skip().eval(), torch.rand(1, 3, 8, 8)
    skip.norm.running_mean.uniform_()
    before = skip(x)
    torch.testing.assert_close(freeze_norm(skip)(x), before)


def test_norm_is_frozen_by_start_and_batch_size():
    assert choose_norm("auto", "none", 2)[0] is False
    assert choose_norm("auto", "coco", 2)[0] is True
    assert choose_norm("auto", "coco", 32)[0] is False
    assert choose_norm("train", "coco", 2) == (False, "as configured")


def test_device_and_precision_are_chosen_with_a_reason():
    assert choose_precision("bf16", torch.device("cpu")) == (torch.bfloat16, "as configured")
    dtype, reason = choose_precision("auto", torch.device("cpu"))
    assert (dtype == torch.float32) == ("no bf16" in reason)
    with pytest.raises(ConfigError, match="unknown"):
        choose_device("warp")
    with pytest.raises(ConfigError, match="not available"):
        choose_device("cuda:99")
