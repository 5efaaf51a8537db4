"""Laws of positives: an object's count is what torchvision's Matcher gives it alone in its image, ties included."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou

from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.models import anchors
from drivetl.models.anchors import AnchorSpec
from drivetl.models.build import architecture

SIZES = ((1242, 375), (640, 480), (500, 900), (96, 96))


def mixed_sizes(seed=0, images=12):
    """Boxes of a few px up to the whole image, a third of them at its border, in images of four sizes."""
    random = np.random.default_rng(seed)
    records = []
    for number in range(images):
        size = np.array(SIZES[number % len(SIZES)])
        record = ImageRecord(number + 1, f"{number}.png", *map(int, size))
        for _ in range(6):
            side = np.exp(random.uniform(np.log(4), np.log(size)))
            corner = random.choice([0.0, 1.0, random.uniform()]) * (size - side)
            record.annotations.append(Annotation(1, (*corner, *side), side.prod()))
        record.annotations.append(Annotation(1, (0, 0, *size), float(size.prod())))
        records.append(record)
    return Dataset(("car",), records, "")


def matched_alone(iou):
    """(N, P) IoUs -> (N,) anchors that Matcher makes positive for each object, matched separately."""
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    return np.array([int((matcher(row[None]) >= 0).sum()) for row in iou])


def every_anchor(spec, strides, hw):
    """(P, 4) anchors of torchvision's generator for a padded input."""
    maps = [torch.zeros(1, 1, -(-hw[0] // stride), -(-hw[1] // stride)) for stride in strides]
    return AnchorGenerator(spec.sizes, spec.ratios)(ImageList(torch.zeros(1, 3, *hw), [hw]), maps)[0]


@pytest.mark.parametrize(
    ("spec", "strides", "rule"),
    [
        (AnchorSpec(((12.0,), (24.0,), (48.0,)), ((0.5, 1.0, 2.0),) * 3), (4, 8, 16), (160, 384)),
        (AnchorSpec(((32.0, 64.0, 128.0),) * 3, ((0.5, 1.0, 2.0),) * 3), (32, 32, 64), (320, 640)),
        (AnchorSpec(((31.0, 31.0),), ((1.0, 1.0),)), (8,), (200, 500)),  # one shape four times
        (AnchorSpec(((4.0,),), ((0.25, 1.0),)), (32,), (96, 200)),  # boxes hold many anchors, or touch none
    ],
)
def test_law_positives_are_those_of_the_matcher_exactly(spec, strides, rule):
    """IoUs in float64, rounded to nine decimals: positions whose IoUs differ only in the last bits are tied."""
    boxes = anchors.scaled_boxes(mixed_sizes(), *rule)
    cover = anchors.coverage(boxes, spec, strides)
    for image in range(12):
        of_image = np.flatnonzero(boxes.images == image)
        every = every_anchor(spec, strides, tuple(map(int, boxes.padded_hw[of_image[0]])))
        iou = box_iou(torch.from_numpy(boxes.boxes[of_image]), every.double()).round(decimals=9)
        np.testing.assert_array_equal(cover.positives[of_image], matched_alone(iou))
    assert (cover.positives[cover.best_iou < 0.7] > 1).any()
    assert (cover.best_iou == 0).any() == (strides == (32,))


@pytest.mark.parametrize(
    ("arch", "rule"),
    [
        ("fasterrcnn_tiny_fpn", (160, 384)),
        ("fasterrcnn_resnet18_fpn", (320, 640)),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", (320, 640)),
        ("fasterrcnn_mobilenet_v2_fpn", (256, 512)),
    ],
)
def test_law_positives_are_those_of_torchvisions_pipeline(arch, rule):
    """Its resize, features, anchors and IoUs, all in float32: the last bit breaks ties of boxes that end where an
    anchor ends (at the image border, often), so 97 % of the objects agree, and the mean within 3 %."""
    dataset = mixed_sizes(seed=1)
    model = architecture(arch).build(num_classes=2).eval()
    transform = GeneralizedRCNNTransform(*rule, [0.0] * 3, [1.0] * 3).eval()
    expected = []
    for image in dataset.images:
        xywh = torch.tensor([item.bbox_xywh for item in image.annotations])
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).float()
        batch, (target,) = transform([torch.zeros(3, image.height, image.width)], [{"boxes": boxes}])
        with torch.no_grad():
            features = list(model.backbone(batch.tensors).values())
        every = model.rpn.anchor_generator(batch, features)[0]
        expected.append(matched_alone(box_iou(target["boxes"], every)))
    positives = anchors.coverage(
        anchors.scaled_boxes(dataset, *rule), anchors.spec_of(model), anchors.strides_of(model)
    ).positives
    expected = np.concatenate(expected)
    assert (positives == expected).mean() >= 0.97
    assert positives.mean() == pytest.approx(expected.mean(), rel=0.03)


def test_with_equal_counts_every_old_row_is_used_once():
    """Flatter anchors: with the nearest old row for each, two would start from the square anchor and one row would be
    lost."""
    old = AnchorSpec(((32.0,), (64.0,)), ((0.5, 1.0, 2.0),) * 2)
    assert anchors.nearest_rows(old, AnchorSpec(old.sizes, ((0.3, 1.0, 2.0),) * 2)) == [0, 1, 2]
    assert anchors.nearest_rows(old, AnchorSpec(old.sizes, ((0.15, 0.25, 6.0),) * 2)) == [1, 0, 2]
    assert anchors.nearest_rows(old, AnchorSpec(old.sizes, ((2.0, 1.0, 0.5),) * 2)) == [2, 1, 0]
    many = AnchorSpec((tuple(32.0 * 2**step for step in range(5)),), ((0.2, 0.5, 1.0, 2.0, 5.0),))
    assert anchors.nearest_rows(many, many) == list(range(25))


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.5, 2.0]), min_size=3, max_size=3, unique=True),
    st.lists(st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.5, 2.0]), min_size=3, max_size=3, unique=True),
)
def test_law_an_unchanged_anchor_keeps_its_row(before, after):
    """Up to equal sums: no permutation that keeps the unchanged anchors in place has a higher total similarity."""
    old, new = AnchorSpec(((80.0,),), (tuple(before),)), AnchorSpec(((80.0,),), (tuple(after),))
    rows = anchors.nearest_rows(old, new)
    similar = anchors._shape_iou(new.shapes(0), old.shapes(0))
    kept = [
        order
        for order in itertools.permutations(range(3))
        if all(before[order[number]] == ratio for number, ratio in enumerate(after) if ratio in before)
    ]
    best = max(similar[range(3), list(order)].sum() for order in kept)
    assert sorted(rows) == [0, 1, 2]
    assert similar[range(3), rows].sum() == pytest.approx(best, abs=1e-12)
