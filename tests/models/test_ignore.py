"""Laws of ignore regions, partial labels and missing masks: without them losses are torchvision's bit for bit, with
them only the affected part changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from drivetl.models import ignore
from drivetl.models.build import ModelSpec, architecture, build_model

ARGUMENTS = {"min_size": 96, "max_size": 192, "box_batch_size_per_image": 64}


def target(boxes, labels, **more):
    return {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.tensor(labels).long(), **more}


def tiny(seed=0, **arguments):
    torch.manual_seed(seed)
    return architecture("fasterrcnn_tiny_fpn").build(num_classes=4, **ARGUMENTS | arguments).train()


def losses_of(model, images, targets, seed=5):
    torch.manual_seed(seed)
    return model([image.clone() for image in images], [dict(item) for item in targets])


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 96, 160, generator=generator), torch.rand(3, 80, 120, generator=generator)]


TARGETS = [target([[10, 10, 60, 50], [80, 20, 120, 70]], [1, 3]), target([], [])]
NOTHING_TO_IGNORE = {"ignore_boxes": torch.zeros(0, 4), "labelled": torch.ones(4, dtype=torch.bool)}


@pytest.mark.parametrize("more", [{}, NOTHING_TO_IGNORE])
def test_law_without_ignore_regions_losses_are_torchvisions_bit_for_bit(images, more):
    plain = tiny()
    expected = losses_of(plain, images, TARGETS)
    torch.stack(list(expected.values())).sum().backward()
    gradients = [parameter.grad for parameter in plain.parameters()]
    ours = ignore.make_ignore_aware(tiny())
    losses = losses_of(ours, images, [item | more for item in TARGETS])
    torch.stack(list(losses.values())).sum().backward()
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in expected)
    assert all(torch.equal(a, b.grad) for a, b in zip(gradients, ours.parameters(), strict=True) if a is not None)


def test_law_without_ignore_regions_mask_losses_are_torchvisions_bit_for_bit(images):
    def masked(height, width, item):
        count = len(item["boxes"])
        masks = torch.zeros(count, height, width, dtype=torch.uint8)
        for row, box in zip(masks, item["boxes"].long(), strict=True):
            row[box[1] : box[3], box[0] : box[2]] = 1
        return item | {"masks": masks}

    targets = [masked(96, 160, TARGETS[0]), masked(80, 120, TARGETS[1])]
    build = architecture("maskrcnn_mobilenet_v2_fpn").build
    torch.manual_seed(0)
    plain = build(num_classes=4, **ARGUMENTS).train()
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    expected = losses_of(plain, images, targets)
    plain.load_state_dict(state)  # BatchNorm's running statistics moved
    ours = ignore.make_ignore_aware(plain)
    losses = losses_of(
        ours, images, [item | {"has_mask": torch.ones(len(item["boxes"]), dtype=torch.bool)} for item in targets]
    )
    assert all(torch.equal(losses[key], expected[key]) for key in expected) and "loss_mask" in losses


def rpn_gradient(model, images, targets):
    """(objectness gradient per anchor times the number sampled, anchors, labels) with every anchor sampled."""
    model.rpn.fg_bg_sampler.batch_size_per_image = 10**6
    model.rpn.fg_bg_sampler.positive_fraction = 1.0
    recorded = {}

    def remember(_module, _inputs, result):
        for level in result[0]:
            level.retain_grad()
        recorded["logits"] = result[0]

    model.rpn.head.register_forward_hook(remember)
    original = model.rpn.assign_targets_to_anchors

    def assign(anchors, items):
        labels, matched = original(anchors, items)
        recorded["anchors"], recorded["labels"] = anchors, labels
        return labels, matched

    model.rpn.assign_targets_to_anchors = assign
    losses_of(model, images, targets)["loss_objectness"].backward()
    sampled = sum(int((label >= 0).sum()) for label in recorded["labels"])
    flat = torch.cat([level.grad.permute(0, 2, 3, 1).flatten() for level in recorded["logits"]])
    return flat * sampled, recorded["anchors"][0], recorded["labels"][0]


def test_law_objectness_gradient_is_zero_inside_and_unchanged_elsewhere(images):
    region = torch.tensor([[70.0, 5.0, 150.0, 90.0]])
    base = [TARGETS[0]]
    plain, anchors, labels = rpn_gradient(ignore.make_ignore_aware(tiny()), images[:1], base)
    ours, _, new_labels = rpn_gradient(
        ignore.make_ignore_aware(tiny()), images[:1], [base[0] | {"ignore_boxes": region}]
    )
    inside = (ignore.covered_share(anchors, region) > 0.5) & (labels == 0)
    assert inside.sum() > 100 and (~inside).sum() > 100
    assert torch.equal(ours[inside], torch.zeros_like(ours[inside]))
    assert bool((plain[inside] != 0).all())
    torch.testing.assert_close(ours[~inside], plain[~inside], rtol=1e-4, atol=1e-7)
    # The object inside the region is still an object.
    positive = (labels == 1) & (ignore.covered_share(anchors, region) > 0.5)
    assert positive.any() and bool((new_labels[positive] == 1).all())


def test_proposals_in_a_region_are_never_sampled_as_background():
    heads = ignore.make_ignore_aware(tiny()).roi_heads
    region = torch.tensor([[50.0, 0.0, 100.0, 50.0]])
    proposals = torch.tensor([[55.0, 5, 90, 40], [0, 0, 20, 20], [60, 10, 80, 30], [20, 0, 60, 40]])
    item = target([[56, 6, 91, 41]], [2]) | {"ignore_boxes": region}
    sampled, _, labels, _ = heads.select_training_samples([proposals.clone()], [item])
    rows = {tuple(box.tolist()): int(label) for box, label in zip(sampled[0], labels[0], strict=True)}
    assert rows[55.0, 5.0, 90.0, 40.0] == 2, "a proposal on a real object stays positive"
    assert rows[0.0, 0.0, 20.0, 20.0] == 0
    assert (60.0, 10.0, 80.0, 30.0) not in rows
    assert rows[20.0, 0.0, 60.0, 40.0] == 0, "a proposal with a quarter inside is background"
    assert heads._regions is None


boxes_strategy = st.lists(
    st.tuples(*[st.floats(0, 100, width=32)] * 2, *[st.floats(0.5, 80, width=32)] * 2), max_size=6
).map(lambda rows: torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows]).float().reshape(-1, 4))


@settings(max_examples=60)
@given(boxes_strategy, boxes_strategy)
def test_covered_share_is_intersection_over_own_area(boxes, regions):
    share = ignore.covered_share(boxes, regions)
    assert share.shape == (len(boxes),) and bool(((share >= 0) & (share <= 1 + 1e-4)).all())
    for box, box_share in zip(boxes.tolist(), share.tolist(), strict=True):
        best = 0.0
        for region in regions.tolist():
            width = min(box[2], region[2]) - max(box[0], region[0])
            height = min(box[3], region[3]) - max(box[1], region[1])
            best = max(best, max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1])))
        assert box_share == pytest.approx(best, abs=1e-3)


@settings(max_examples=30)
@given(boxes_strategy, boxes_strategy, st.integers(1, 40))
def test_law_the_covered_share_does_not_depend_on_how_many_regions_are_compared_at_once(boxes, regions, numbers):
    expected = ignore.covered_share(boxes, regions)
    before = ignore.CPU_NUMBERS
    try:
        ignore.CPU_NUMBERS = numbers
        assert torch.equal(ignore.covered_share(boxes, regions), expected)
    finally:
        ignore.CPU_NUMBERS = before


@given(boxes_strategy, st.tuples(*[st.integers(1, 3000)] * 4))
def test_law_regions_are_scaled_as_torchvision_scales_boxes_to_the_bit(boxes, sides):
    before, after = torch.Size(sides[:2]), torch.Size(sides[2:])
    assert torch.equal(ignore._scaled(boxes, before, after), resize_boxes(boxes, list(before), list(after)))


def test_regions_are_resized_with_the_image():
    theirs = GeneralizedRCNNTransform(50, 200, [0.0] * 3, [1.0] * 3)
    model = tiny(min_size=50, max_size=200)
    ours = ignore.make_ignore_aware(model).transform
    box = torch.tensor([[10.0, 20, 60, 80]])
    image = torch.rand(3, 100, 160)
    _, (expected,) = theirs([image], [{"boxes": box}])
    _, (resized,) = ours([image], [{"boxes": box, "ignore_boxes": box.clone()}])
    assert torch.equal(resized["boxes"], expected["boxes"])
    assert torch.equal(resized["ignore_boxes"], expected["boxes"])


def test_law_a_class_that_is_not_labelled_gets_no_gradient():
    logits = torch.randn(6, 4, requires_grad=True)
    deltas, labels = torch.randn(6, 16), [torch.tensor([0, 1, 0]), torch.tensor([0, 3, 2])]
    regression = [torch.randn(3, 4), torch.randn(3, 4)]
    partly = target([], []) | {"labelled": torch.tensor([True, True, False, False])}
    known = ignore.known_classes([partly, target([], [])], labels, 4)
    ignore.roi_loss(logits, deltas, labels, regression, known)[0].backward()
    assert torch.equal(logits.grad[:3, 2:], torch.zeros(3, 2))
    assert bool((logits.grad[:3, :2] != 0).all()) and bool((logits.grad[3:] != 0).all())
    whole = logits.detach().clone().requires_grad_()
    fastrcnn_loss(whole, deltas, labels, regression)[0].backward()
    assert torch.equal(logits.grad[3:], whole.grad[3:]), "images that label every class are unaffected"


def test_objects_of_an_image_are_known_whatever_labelled_says():
    item = target([[0, 0, 5, 5]], [2]) | {"labelled": torch.tensor([False, True, False, False])}
    known = ignore.known_classes([item], [torch.tensor([2, 0])], 4)
    assert known.tolist() == [[True, True, True, False]] * 2


def masked_model():
    torch.manual_seed(0)
    spec = ModelSpec("maskrcnn_mobilenet_v2_fpn", ("a", "b", "c"), 96, 192, 50, 50, 64, 10, 0.05, True)
    return build_model(spec).train()


def test_the_mask_loss_uses_only_objects_with_masks(images):
    model = masked_model()
    masks = torch.zeros(2, 96, 160, dtype=torch.uint8)
    masks[0, 10:50, 10:60] = 1
    both = TARGETS[0] | {"masks": masks, "has_mask": torch.tensor([True, False])}
    loss = losses_of(model, images[:1], [both])["loss_mask"]
    noise = both | {"masks": torch.stack([masks[0], torch.randint(0, 2, (96, 160), dtype=torch.uint8)])}
    assert torch.equal(losses_of(model, images[:1], [noise])["loss_mask"], loss), (
        "the mask row of an object without a mask is not read"
    )
    wrong = both | {"masks": 1 - masks}
    assert not torch.equal(losses_of(model, images[:1], [wrong])["loss_mask"], loss)


@pytest.mark.parametrize("with_rows", [True, False])
def test_mask_head_gets_no_gradient_from_images_with_boxes_only(images, with_rows):
    model = masked_model()
    rows = {"masks": torch.zeros(2, 96, 160, dtype=torch.uint8), "has_mask": torch.zeros(2, dtype=torch.bool)}
    losses = losses_of(model, images[:1], [TARGETS[0] | (rows if with_rows else {})])
    assert losses["loss_mask"].item() == 0
    torch.stack(list(losses.values())).sum().backward()
    parameters = [*model.roi_heads.mask_head.parameters(), *model.roi_heads.mask_predictor.parameters()]
    assert all(p.grad is not None and not p.grad.any() for p in parameters), (
        "gradients are zero, but exist for all-reduce"
    )
    assert model.roi_heads.box_predictor.cls_score.weight.grad.any()


def test_images_without_objects_or_covered_by_a_region_have_finite_losses(images):
    everything = target([], []) | {"ignore_boxes": torch.tensor([[0.0, 0, 160, 96]])}
    losses = losses_of(masked_model(), images, [everything, target([], [])])
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("region", [[0.0, 0, 160, 96], [-500.0, -500, 800, 800]])
def test_law_a_batch_covered_by_ignore_regions_gives_the_heads_zero_gradients(images, region):
    """Frames of an empty car park covered by one region: the mean over no RoIs and no anchors is 0, not NaN."""
    model = masked_model()
    covered = target([], []) | {"ignore_boxes": torch.tensor([region])}
    losses = losses_of(model, images[:1], [covered])
    assert losses["loss_classifier"] == 0 == losses["loss_box_reg"]
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert all(value.grad is not None and not value.grad.any() for value in model.roi_heads.parameters())
    if region[0] < 0:  # this region also covers all anchors
        assert losses["loss_objectness"] == 0 == losses["loss_rpn_box_reg"]
        assert not any(value.grad.any() for value in model.rpn.parameters())


def test_state_dict_keys_and_inference_are_unchanged():
    model = tiny().eval()
    state, image = {key: value.clone() for key, value in model.state_dict().items()}, torch.rand(3, 96, 160)
    expected = model([image])[0]
    ours = ignore.make_ignore_aware(model, 0.7)
    assert list(ours.state_dict()) == list(state) and ours.rpn.ignore_threshold == 0.7
    detections = ours([image])[0]
    assert all(torch.equal(detections[key], expected[key]) for key in expected)
    assert ignore.make_ignore_aware(ours, 0.4).roi_heads.ignore_threshold == 0.4


def test_models_that_cannot_be_made_ignore_aware_are_refused():
    with pytest.raises(TypeError, match=r"model\.transform is a NoneType"):
        ignore.make_ignore_aware(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"not in 0\.\.1"):
        ignore.make_ignore_aware(tiny(), 1.5)
    assert issubclass(ignore.IgnoreAwareRPN, RegionProposalNetwork) and issubclass(ignore.IgnoreAwareRoIHeads, RoIHeads)
