"""Laws of the settings for a GPU: a CPU is left as it is, each has a reason, and fixed shapes hold every batch."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from drivetl.models import gpu
from drivetl.models.ignore import IgnoreAwareTransform

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16, FP32 = torch.bfloat16, torch.float32
shapes_strategy = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=12).map(
    lambda found: [(32 * height, 32 * width) for height, width in found]
)


@pytest.mark.parametrize(
    ("setting", "device", "precision", "depthwise", "expected"),
    [
        ("on", CPU, FP32, False, True),
        ("off", CUDA, BF16, True, False),
        ("auto", CUDA, BF16, False, True),
        ("auto", CPU, FP32, True, True),
        ("auto", CUDA, FP32, True, False),
        ("auto", CPU, FP32, False, False),
    ],
)
def test_the_layout_follows_precision_device_and_backbone(setting, device, precision, depthwise, expected):
    chosen, reason = gpu.choose_layout(setting, device, precision, depthwise)
    assert chosen is expected and reason


def test_a_gpu_gets_each_setting_with_a_reason_and_fp32_stays_fp32():
    assert gpu.choose_fused(CUDA)[0] and gpu.choose_tf32(CUDA, BF16)[0] and not gpu.choose_tf32(CUDA, FP32)[0]
    assert gpu.choose_cudnn_benchmark(CUDA, ((32, 64),)) == (True, "1 input shape, tried once each")
    assert not gpu.choose_cudnn_benchmark(CUDA, ())[0]
    for chosen, reason in (
        gpu.choose_fused(CPU),
        gpu.choose_tf32(CPU, BF16),
        gpu.choose_cudnn_benchmark(CPU, ((1, 1),)),
    ):
        assert not chosen and reason == "the device is not a GPU"


def test_a_cpu_is_left_as_it_is():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    assert gpu.apply_settings(CPU, BF16, ((32, 64),)) == []
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark)
    assert gpu.choose_shapes([(32, 64)], CPU, compiles=False)[0] == ()


def test_every_setting_of_a_gpu_is_set_and_has_its_line():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    try:
        lines = gpu.apply_settings(CUDA, BF16, ((32, 64),))
        assert [line.split(":")[0] for line in lines] == ["TF32 on", "cudnn.benchmark on", "fused optimizer on"]
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("high", True)
        assert gpu.apply_settings(CUDA, FP32, ())[0].startswith("TF32 off")
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == ("highest", False)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.benchmark = before[1]


@settings(max_examples=60)
@given(shapes_strategy)
def test_law_fixed_shapes_hold_every_batch_and_no_other_choice_pads_less(shapes):
    chosen, added = gpu.fixed_shapes(shapes)
    assert 1 <= len(chosen) <= gpu.MOST_SHAPES and added >= 0
    largest = max(h for h, _ in shapes), max(w for _, w in shapes)
    assert gpu.smallest_fit(largest, chosen) == largest

    def pixels(options):
        return sum(min(h * w for h, w in options if h >= own[0] and w >= own[1]) for own in shapes)

    assert math.isclose(pixels(chosen), (1 + added) * sum(h * w for h, w in shapes))
    others = itertools.combinations(set(shapes), 2) if len(set(shapes)) > 1 else [()]
    assert pixels(chosen) <= min(pixels((*pair, largest)) for pair in others)


def test_input_shapes_are_those_of_torchvisions_transform():
    sizes = [(1242, 375), (1280, 720), (500, 640), (64, 64)]
    transform = GeneralizedRCNNTransform(402, 1333, [0.0] * 3, [1.0] * 3).eval()
    batches = [transform([torch.zeros(3, height, width)])[0].tensors.shape[2:] for width, height in sizes]
    assert gpu.input_shapes(sizes, 402, 1333) == [tuple(shape) for shape in batches]


def test_many_shapes_are_not_padded_on_a_gpu_unless_they_are_compiled():
    shapes = [(32 * n, 32 * (14 - n)) for n in range(1, 14)]
    chosen, reason = gpu.choose_shapes(shapes, CUDA, compiles=False)
    assert chosen == () and "would add" in reason
    assert len(gpu.choose_shapes(shapes, CPU, compiles=True)[0]) == gpu.MOST_SHAPES
    chosen, reason = gpu.choose_shapes([(416, 1344)] * 5, CUDA, compiles=False)
    assert chosen == ((416, 1344),) and "416x1344 (0.0% more pixels)" in reason


@pytest.mark.parametrize("fixed", [(), ((96, 128), (128, 128)), ((64, 64),)])
def test_law_a_batch_is_torchvisions_with_zeros_at_the_right_and_below(fixed):
    arguments = (60, 120, [0.4] * 3, [0.2] * 3)
    theirs, ours = GeneralizedRCNNTransform(*arguments), IgnoreAwareTransform(*arguments)
    ours.fixed_shapes = fixed
    images = [torch.rand(3, 70, 90), torch.rand(3, 80, 60)]
    expected, _ = theirs.train()(images)
    batch, _ = ours.train()(images)
    height, width = expected.tensors.shape[2:]
    assert batch.image_sizes == expected.image_sizes
    assert torch.equal(batch.tensors[:, :, :height, :width], expected.tensors)
    assert batch.tensors.shape[2:] == (gpu.smallest_fit((height, width), fixed) or (height, width))
    assert batch.tensors.count_nonzero() == expected.tensors.count_nonzero()
    assert torch.equal(ours.eval()(images)[0].tensors, theirs.eval()(images)[0].tensors), "evaluation is not padded"
