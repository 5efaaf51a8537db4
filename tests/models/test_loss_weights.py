"""Laws of weighted images: labelled losses plus weight times the others', box losses apart, nothing at weight 0."""

import pytest
import torch

from drivetl.models import ignore
from drivetl.models.build import architecture
from drivetl.models.norm import freeze_norm


def target(boxes, labels, **more):
    return {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.tensor(labels).long(), **more}


LABELLED = [target([[10, 10, 60, 50], [80, 20, 120, 70]], [1, 3]), target([[30, 20, 90, 80]], [2])]
PSEUDO = target([[20, 30, 70, 90]], [2], ignore_boxes=torch.tensor([[90.0, 0.0, 140.0, 60.0]]))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 96, 160, generator=generator) for _ in range(3)]


def build():
    """A detector that samples every anchor and proposal, so that its losses depend on no random choice."""
    torch.manual_seed(0)
    arguments = {"min_size": 96, "max_size": 192, "rpn_pre_nms_top_n_train": 40, "rpn_post_nms_top_n_train": 40}
    model = ignore.make_ignore_aware(architecture("fasterrcnn_tiny_fpn").build(num_classes=4, **arguments).train())
    freeze_norm(model)  # batch statistics would mix the images
    for sampler in (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler):
        sampler.batch_size_per_image, sampler.positive_fraction = 10**6, 1.0
    return model


def run(images, targets):
    """(losses, gradients by parameter name)"""
    model = build()
    losses = model([image.clone() for image in images], [dict(item) for item in targets])
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: parameter.grad for name, parameter in model.named_parameters()}


def weighted(score, box):
    return PSEUDO | {"loss_weights": torch.tensor([score, box])}


def test_law_losses_of_a_batch_are_the_labelled_ones_plus_weight_times_those_of_the_others(images):
    labelled, _ = run(images[:2], LABELLED)
    alone, _ = run(images[2:], [PSEUDO])
    both, _ = run(images, [*LABELLED, weighted(0.5, 0.25)])
    for key in labelled:
        factor = 0.25 if "box" in key else 0.5
        torch.testing.assert_close(both[key], labelled[key] + factor * alone[key], rtol=1e-4, atol=1e-6)
    assert labelled["loss_box_reg"] > 0 and labelled["loss_rpn_box_reg"] > 0 and alone["loss_rpn_box_reg"] > 0


def test_law_the_place_of_a_weighted_image_in_the_batch_does_not_matter(images):
    last, _ = run(images, [*LABELLED, weighted(0.5, 0.0)])
    first, _ = run([images[2], *images[:2]], [weighted(0.5, 0.0), *LABELLED])
    for key in last:
        torch.testing.assert_close(first[key], last[key], rtol=1e-4, atol=1e-6)


def test_law_at_weight_0_an_image_does_not_exist_in_the_gradient(images):
    _, without = run(images[:2], LABELLED)
    _, ours = run(images, [*LABELLED, weighted(0.0, 0.0)])
    assert any(gradient.abs().max() > 0 for gradient in without.values())
    for name, gradient in without.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_law_at_box_weight_0_the_box_losses_are_exactly_those_without_the_image(images):
    _, gradients = run(images[2:], [weighted(0.5, 0.0)])
    losses, _ = run(images[2:], [weighted(0.5, 0.0)])
    assert losses["loss_box_reg"] == 0 and losses["loss_rpn_box_reg"] == 0
    assert losses["loss_objectness"] > 0 and losses["loss_classifier"] > 0
    for name in ("rpn.head.bbox_pred.weight", "roi_heads.box_predictor.bbox_pred.weight"):
        assert gradients[name] is not None and not gradients[name].any(), "a gradient exists, and is 0"


def test_an_image_whose_every_anchor_is_ignored_contributes_nothing_and_no_nan(images):
    everything = {"ignore_boxes": torch.tensor([[-500.0, -500.0, 700.0, 700.0]])}
    unsure = target([], []) | everything | {"loss_weights": torch.tensor([0.5, 0.0])}
    labelled, _ = run(images[:2], LABELLED)
    both, gradients = run(images, [*LABELLED, unsure])
    for key in labelled:
        torch.testing.assert_close(both[key], labelled[key], rtol=1e-4, atol=1e-6)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
