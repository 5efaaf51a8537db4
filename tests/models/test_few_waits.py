"""Laws of the modules that wait seldom: what they compute is torchvision's to the bit, with the same random numbers."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign, box_iou
from torchvision.ops import boxes as box_ops

from drivetl.models import ignore, waits
from drivetl.models.build import architecture

EVERYWHERE = pytest.mark.parametrize("on_gpu", [False, True])
seeds = st.integers(0, 10_000)


def as_on(on_gpu):
    """The code that runs on a GPU, or on a CPU."""
    return mock.patch.object(waits, "waits_for", lambda device: on_gpu)


def coordinate_trick():
    """torchvision's NMS as it is on a GPU, for any number of boxes."""
    return mock.patch.object(box_ops, "_batched_nms_vanilla", box_ops._batched_nms_coordinate_trick)


def random_boxes(count, generator, size=200.0):
    corner = torch.rand(count, 2, generator=generator) * size
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * size / 3 + 0.5], 1)


@EVERYWHERE
@settings(max_examples=40)
@given(
    seed=seeds, lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5), fraction=st.sampled_from([0.25, 0.5, 1])
)
def test_law_the_sample_is_torchvisions_and_uses_the_same_random_numbers(on_gpu, seed, lengths, fraction):
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(-1, 3, (length,), generator=generator) for length in lengths]
    theirs = BalancedPositiveNegativeSampler(16, fraction)
    torch.manual_seed(seed)
    expected = [tuple(torch.where(mask)[0] for mask in pair) for pair in zip(*theirs(labels), strict=True)]
    next_number = torch.rand(())
    torch.manual_seed(seed)
    with as_on(on_gpu):
        drawn = waits.sample(labels, theirs)
    assert torch.equal(torch.rand(()), next_number)
    assert len(drawn) == len(labels)
    assert all(
        torch.equal(a, b) for ours, them in zip(drawn, expected, strict=True) for a, b in zip(ours, them, strict=True)
    )


@settings(max_examples=40)
@given(seed=seeds, n_images=st.integers(1, 9), n_boxes=st.integers(1, 60), at_once=st.sampled_from([1, 130, 1 << 14]))
def test_law_nms_of_a_batch_keeps_what_torchvisions_nms_of_each_image_keeps(seed, n_images, n_boxes, at_once):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.stack([random_boxes(n_boxes, generator) for _ in range(n_images)])
    scores = torch.randint(0, 20, (n_images, n_boxes), generator=generator) / 20  # with ties
    levels = torch.randint(0, 3, (n_images, n_boxes), generator=generator)
    usable = torch.rand(n_images, n_boxes, generator=generator) < 0.8
    with mock.patch.object(waits, "NMS_AT_ONCE", at_once), as_on(True):
        kept = waits.nms_per_image(boxes, scores, levels, usable, 0.3, 10)
    assert len(kept) == n_images
    for image, found in enumerate(kept):
        mine = torch.where(usable[image])[0]
        parts = (boxes[image][mine], scores[image][mine], levels[image][mine])
        expected = mine[box_ops._batched_nms_coordinate_trick(*parts, 0.3)][:10]
        assert torch.equal(found - image * n_boxes, expected)


@pytest.mark.parametrize(("n_images", "score_thresh"), [(1, 0.0), (4, 0.5), (5, 0.0), (3, 2.0)])
def test_law_proposals_of_a_batch_are_torchvisions_to_the_bit(n_images, score_thresh):
    generator = torch.Generator().manual_seed(n_images)
    model = architecture("fasterrcnn_tiny_fpn").build(
        num_classes=3, rpn_pre_nms_top_n_train=60, rpn_post_nms_top_n_train=40, rpn_score_thresh=score_thresh
    )
    rpn = ignore.make_ignore_aware(model).rpn.train()
    counts = [120, 30, 8]
    boxes = torch.stack([random_boxes(sum(counts), generator, 300.0) - 40 for _ in range(n_images)])
    boxes[0, :50, 2] = boxes[0, :50, 0]  # without width
    logits = torch.randn(n_images, sum(counts), 1, generator=generator)
    logits[0, 60] = float("nan")
    arguments = (boxes, logits, [(180 + 10 * n, 260 - 10 * n) for n in range(n_images)], counts)
    with coordinate_trick():
        expected = RegionProposalNetwork.filter_proposals(rpn, *arguments)
        with as_on(True):
            found = rpn.filter_proposals(*arguments)
    assert all(
        torch.equal(a, b)
        for ours, theirs in zip(found, expected, strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert (score_thresh > 1) == (not len(found[0][0]))


@settings(max_examples=40)
@given(
    seed=seeds,
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=6),
    classes=st.integers(1, 4),
    above=st.sampled_from([0.0, 0.3, 1.0]),
    most=st.sampled_from([1, 7, 100]),
)
def test_law_detections_of_a_batch_are_torchvisions_to_the_bit(seed, counts, classes, above, most):
    """Also with proposals without area, scores that are equal or not finite, and images without a detection."""
    generator = torch.Generator().manual_seed(seed)
    heads = ignore.make_ignore_aware(architecture("fasterrcnn_tiny_fpn").build(num_classes=classes + 1)).roi_heads
    heads.score_thresh, heads.detections_per_img = above, most
    proposals = [random_boxes(count, generator, 90.0) for count in counts]
    for boxes in proposals:
        boxes[::5, 2] = boxes[::5, 0]
    logits = torch.randn(sum(counts), classes + 1, generator=generator).mul(2).round()
    logits[3:4, 0] = float("nan")
    deltas = torch.randn(sum(counts), 4 * (classes + 1), generator=generator)
    arguments = (logits, deltas, proposals, [(60 + 20 * number, 100) for number in range(len(counts))])
    with coordinate_trick():
        expected = RoIHeads.postprocess_detections(heads, *arguments)
        with as_on(True):
            found = heads.postprocess_detections(*arguments)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(counts) and all(a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_more_boxes_than_torchvision_gives_to_one_nms_are_left_to_it():
    generator = torch.Generator().manual_seed(0)
    boxes = [torch.stack([random_boxes(40, generator)] * 3, 1)]
    arguments = {"above": 0.1, "threshold": 0.5, "most": 10}
    with as_on(True), mock.patch.object(waits, "TRICK_BELOW", 2 * 40 * 4):
        assert waits.detections_per_image(boxes, [torch.full((40, 3), 0.3)], **arguments) is not None
    with as_on(True), mock.patch.object(waits, "TRICK_BELOW", 2 * 40 * 4 - 1):
        assert waits.detections_per_image(boxes, [torch.full((40, 3), 0.3)], **arguments) is None


@EVERYWHERE
@pytest.mark.parametrize("arch", ["fasterrcnn_tiny_fpn", "maskrcnn_mobilenet_v2_lite_fpn"])
@pytest.mark.parametrize("score_threshold", [0.05, 0.9])
def test_law_what_a_model_detects_in_a_batch_is_torchvisions_to_the_bit(on_gpu, arch, score_threshold):
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 64 + 8 * n, 120 - 8 * n, generator=generator) for n in range(5)]
    torch.manual_seed(0)
    model = architecture(arch).build(
        num_classes=4, min_size=96, max_size=160, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_test=30,
        box_score_thresh=score_threshold,
    ).eval()  # fmt: skip
    with torch.inference_mode(), coordinate_trick() if on_gpu else as_on(False):
        model(images)  # torchvision's pooling sets its scales at the first call
        expected = model(images)
        ours = ignore.make_ignore_aware(model)
        with as_on(on_gpu):
            found = ours(images)
    assert [item.keys() for item in found] == [item.keys() for item in expected]
    assert all(torch.equal(a[key], b[key]) for a, b in zip(found, expected, strict=True) for key in b)
    assert any(len(item["boxes"]) for item in expected) == (score_threshold < 0.5)


@settings(max_examples=40)
@given(seed=seeds, n_objects=st.integers(1, 5), low=st.floats(0.1, 0.4), high=st.floats(0.5, 0.8))
def test_law_matches_are_torchvisions(seed, n_objects, low, high):
    generator = torch.Generator().manual_seed(seed)
    quality = box_iou(random_boxes(n_objects, generator), random_boxes(40, generator)).mul(20).round() / 20  # with ties
    expected, ours = (
        Matcher(high, low, True)(quality.clone()),
        waits.FixedShapeMatcher(high, low, True)(quality.clone()),
    )
    assert torch.equal(ours, expected)
    without = (kind(high, low, False)(quality.clone()) for kind in (Matcher, waits.FixedShapeMatcher))
    assert torch.equal(*without)


@EVERYWHERE
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@pytest.mark.parametrize(("count", "classes"), [(0, 2), (1, 1), (37, 4)])
def test_law_boxes_are_coded_as_torchvision_codes_them_to_the_bit(on_gpu, weights, count, classes):
    generator = torch.Generator().manual_seed(count)
    boxes, others = random_boxes(count, generator), random_boxes(count, generator)
    deltas = torch.randn(count, 4 * classes, generator=generator) * 3
    theirs, ours = BoxCoder(weights), waits.CachedBoxCoder(weights)
    with as_on(on_gpu):
        assert torch.equal(ours.decode_single(deltas, boxes), theirs.decode_single(deltas, boxes))
        assert torch.equal(ours.encode_single(others, boxes), theirs.encode_single(others, boxes))


@EVERYWHERE
@pytest.mark.parametrize("counts", [(30, 0, 12), (0, 0), (1,)])
def test_law_pooled_features_and_their_gradients_are_torchvisions_to_the_bit(on_gpu, counts):
    generator = torch.Generator().manual_seed(0)
    size, n_images = 256, len(counts)
    maps = {str(n): torch.randn(n_images, 3, size >> n + 2, size >> n + 2, generator=generator) for n in range(3)}
    rois = [random_boxes(count, generator, 180.0) for count in counts]
    answers = []
    with as_on(on_gpu):
        for kind in (MultiScaleRoIAlign, waits.CountedRoIAlign):
            pool, features = kind(["0", "1", "2"], 7, 2, canonical_scale=60), dict(maps)
            for _ in range(2):  # the first call of both is torchvision's
                leaves = {key: value.clone().requires_grad_() for key, value in features.items()}
                pooled = pool(leaves, rois, [(size, size)] * n_images)
            pooled.sin().sum().backward()
            answers.append([pooled.detach(), *(value.grad for value in leaves.values())])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
    assert len(answers[0][0]) == sum(counts)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(20, 90), width=st.integers(20, 90), short=st.integers(16, 80), seed=seeds)
def test_law_images_boxes_and_masks_are_resized_as_torchvision_resizes_them_to_the_bit(height, width, short, seed):
    generator = torch.Generator().manual_seed(seed)
    arguments = (short, 100, [0.4, 0.5, 0.3], [0.2, 0.3, 0.1])
    image = torch.rand(3, height, width, generator=generator)
    masks = torch.randint(0, 2, (2, height, width), generator=generator, dtype=torch.uint8)
    target = {"boxes": random_boxes(2, generator, 15.0), "labels": torch.ones(2, dtype=torch.int64), "masks": masks}
    found = [
        kind(*arguments)([image], [dict(target)]) for kind in (GeneralizedRCNNTransform, ignore.IgnoreAwareTransform)
    ]
    (expected, (their_target,)), (ours, (our_target,)) = found
    assert torch.equal(ours.tensors, expected.tensors) and ours.image_sizes == expected.image_sizes
    assert their_target.keys() == our_target.keys()
    assert all(torch.equal(our_target[key], their_target[key]) for key in their_target)


def losses_and_gradients(model, images, targets):
    losses = None
    for _ in range(2):  # torchvision's pooling sets its scales at the first call
        model.zero_grad()
        torch.manual_seed(3)
        losses = model([image.clone() for image in images], [dict(target) for target in targets])
        torch.stack(list(losses.values())).sum().backward()
    return losses, [parameter.grad for parameter in model.parameters()]


@EVERYWHERE
@pytest.mark.parametrize("arch", ["fasterrcnn_tiny_fpn", "maskrcnn_mobilenet_v2_lite_fpn"])
def test_law_losses_and_gradients_of_a_batch_are_torchvisions_to_the_bit(on_gpu, arch):
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 64 + 8 * n, 120 - 8 * n, generator=generator) for n in range(5)]
    targets = []
    for number, image in enumerate(images):
        masks = torch.zeros(number, *image.shape[1:], dtype=torch.uint8)
        masks[:, 10:40, 10:40] = 1
        labels = torch.randint(1, 4, (number,), generator=generator)
        targets.append({"boxes": random_boxes(number, generator, 45.0), "labels": labels, "masks": masks})
    torch.manual_seed(0)
    model = architecture(arch).build(
        num_classes=4, min_size=96, max_size=160, box_batch_size_per_image=32, rpn_pre_nms_top_n_train=150,
        rpn_post_nms_top_n_train=100,
    )  # fmt: skip
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with coordinate_trick() if on_gpu else as_on(False):
        expected, their_gradients = losses_and_gradients(model, images, targets)
        ours = ignore.make_ignore_aware(model)
        with as_on(on_gpu):
            losses, gradients = losses_and_gradients(ours, images, targets)
    assert list(losses) == list(expected)
    assert all(torch.equal(losses[key], expected[key]) for key in expected)
    assert all((a is b is None) or torch.equal(a, b) for a, b in zip(gradients, their_gradients, strict=True))


def test_a_box_without_area_is_refused_as_torchvision_refuses_it():
    model = ignore.make_ignore_aware(architecture("fasterrcnn_tiny_fpn").build(num_classes=2, min_size=64)).train()
    target = {"boxes": torch.tensor([[5.0, 5, 5, 20]]), "labels": torch.tensor([1])}
    with pytest.raises(AssertionError, match="positive height and width"):
        model([torch.rand(3, 64, 64)], [target])
